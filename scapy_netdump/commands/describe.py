# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumps, headers and keys in words, for people."""

from __future__ import annotations

from collections.abc import Iterable

from ..content.survey import Survey
from ..core.extents import Range
from ..kerneldump.header import DumpHeader
from ..recover import RecoveredDump
from ..store.dump_files import Published
from ..text import counted, printable, utc_date

_MAX_RANGES = 5
_MAX_REGIONS = 12


def describe_dump(dump: RecoveredDump, contents: Iterable[str] = ()) -> str:
    """A dump of a capture: who, what, what is missing, and what its ``contents`` are."""
    lines = [f"{dump.client} to {dump.server}, {_seen(dump)}"]
    if dump.path:
        lines.append(f"path: {dump.path}")
    if dump.kdh is not None:
        lines += describe_header(dump.kdh)
    told = ", though the client was told that all is well" if dump.finished else ""
    lines.append(dump.status + (told if dump.missing else ""))
    if dump.missing:
        lines.append(f"missing: {_ranges(dump.missing)}")
    if dump.conflicting_bytes:
        lines.append(
            f"{dump.conflicting_bytes} bytes came with different values; those acked first are kept"
        )
    lines += contents
    lines.append(f"{counted(dump.messages, 'message')}, {dump.retransmitted} of them repeated")
    lines += describe_files(dump.files)
    return _block(lines)


def describe_header(header: DumpHeader) -> list[str]:
    """A dump header, in a few lines."""
    lines = [
        f'{header.architecture} panic "{header.panicstring}"',
        f"host: {header.hostname}, {utc_date(header.dumptime)} UTC",
        f"system: {header.versionstring.partition(chr(10))[0]}",
        f"length: {header.dumplength} bytes, compression {header.compression_name}, "
        + ("encrypted" if header.dumpkeysize else "not encrypted"),
    ]
    if not header.magic_ok:
        lines.append(f'this is no dump header: its magic is "{header.magic}"')
    elif not header.parity_ok:
        lines.append("the header is damaged: its parity is wrong")
    return lines


def describe_survey(survey: Survey) -> list[str]:
    """What a dump consists of, how much of each part is here, and what that means."""
    contents = survey.contents
    title = " of ".join(filter(None, (contents.kind, contents.architecture)))
    lines = [f"{title}: {survey.verdict.text}"]
    shown = contents.regions[:_MAX_REGIONS]
    for region in shown if len(contents.regions) > 1 else ():
        count = sum(end - start for start, end in region.missing(survey.missing))
        state = f"{count} missing" if count else "whole"
        lines.append(f"  {region.name}: {counted(region.size, 'byte')}, {state}")
    if len(contents.regions) > len(shown):
        lines.append(f"  and {len(contents.regions) - len(shown)} more regions")
    return lines


def describe_files(files: Published) -> list[str]:
    """The files of a dump, those that there are."""
    return [f"{name}: {path}" for name, path in files.as_dict().items() if path is not None]


def indent(title: str, lines: Iterable[str]) -> str:
    """A title and lines below it, each made harmless."""
    return _block([title, *lines])


def _block(lines: list[str]) -> str:
    first, *rest = (printable(line) for line in lines)
    return "\n".join([first, *(f"  {line}" for line in rest)])


def _seen(dump: RecoveredDump) -> str:
    began = "from the HERALD on" if dump.heralded else "HERALD not seen"
    return f"{began}, {'finished' if dump.finished else 'FINISHED not seen'}"


def _ranges(ranges: list[Range]) -> str:
    shown = ", ".join(f"{start}-{end}" for start, end in ranges[:_MAX_RANGES])
    more = len(ranges) - _MAX_RANGES
    return f"{shown} and {more} more ranges" if more > 0 else shown
