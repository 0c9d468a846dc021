# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumps, headers and keys in words, for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from ..core.extents import Range
from ..dump.dump import Dump
from ..dump.save import PlainCopy
from ..dump.survey import Survey
from ..dump.transfer import Transfer
from ..errors import NetdumpError
from ..kerneldump.header import DumpHeader
from ..store.naming import Published
from ..text import counted, printable, utc_date

_MAX_RANGES = 5
_KEPT = {
    "acked": "those acked first are",
    "first": "those seen first are",
    "last": "those seen last are",
}
_MAX_REGIONS = 12


def describe_dump(dump: Dump, contents: Iterable[str] = ()) -> str:
    """A dump of a capture: who, what, what is missing, and what its ``contents`` are."""
    transfer = dump.transfer
    assert transfer is not None
    lines = [f"{transfer.client} to {transfer.server}, {_seen(transfer)}"]
    if transfer.path:
        lines.append(f"path: {transfer.path}")
    if dump.kdh is not None:
        lines += describe_header(dump.kdh)
    told = ", though the client was told that all is well" if transfer.finished else ""
    lines.append(f"{dump.verdict}{told if dump.missing else ''}")
    if dump.missing:
        lines.append(f"missing: {_ranges(dump.missing)}")
    if transfer.conflicting_bytes:
        where = f": {_ranges(transfer.conflicts)}" if transfer.conflicts else ""
        lines.append(
            f"{counted(transfer.conflicting_bytes, 'byte')} came with different values, and "
            f"{_KEPT[transfer.preferred]} kept{where}"
        )
    lines += contents
    messages = counted(transfer.messages, "message")
    lines.append(f"{messages}, {transfer.retransmitted} of them repeated")
    lines += describe_files(dump.files)
    if dump.copy is not None:
        lines += _describe_plain(dump.copy)
    return _block(lines)


def _describe_plain(plain: PlainCopy) -> list[str]:
    """The decrypted or decompressed copy of a dump."""
    lines = [f"plain: {plain.path}"]
    if plain.missing:
        lines.append(f"plain map: {plain.map}")
        count = sum(end - start for start, end in plain.missing)
        lines.append(
            f"of the plain copy, {counted(count, 'byte')} missing: {_ranges(plain.missing)}"
        )
    if plain.problem is not None:
        lines.append(f"the plain copy is damaged: {plain.problem}")
    return lines


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


class Look(NamedTuple):
    """What a look into a dump showed; no values if there could be none."""

    lines: list[str]
    values: dict[str, Any] | None


def look(dump: Dump) -> Look:
    """What a look into a dump shows, or why there is none."""
    try:
        if not dump.account.vmcore.total:
            return Look(["not looked into: nothing of it is here"], None)
        lines, values = describe_survey(dump.survey), dump.survey.as_dict()
        if dump.contents.kind == "textdump":
            files = [(file.name, len(file.data)) for file in dump.text_files]
            lines += [f"  {name}: {counted(size, 'byte')}" for name, size in files]
            values["text_files"] = [{"name": name, "size": size} for name, size in files]
        return Look(lines, values)
    except NetdumpError as error:
        return Look([f"not looked into: {error}"], None)


def describe_files(files: Published) -> list[str]:
    """The files of a dump, those that there are."""
    return [f"{name}: {path}" for name, path in files.as_dict().items() if path is not None]


def indent(title: str, lines: Iterable[str]) -> str:
    """A title and lines below it, each made harmless."""
    return _block([title, *lines])


def _block(lines: list[str]) -> str:
    first, *rest = (printable(line) for line in lines)
    return "\n".join([first, *(f"  {line}" for line in rest)])


def _seen(transfer: Transfer) -> str:
    began = "from the HERALD on" if transfer.heralded else "HERALD not seen"
    return f"{began}, {'finished' if transfer.finished else 'FINISHED not seen'}"


def _ranges(ranges: list[Range]) -> str:
    shown = ", ".join(f"{start}-{end}" for start, end in ranges[:_MAX_RANGES])
    more = len(ranges) - _MAX_RANGES
    return f"{shown} and {more} more ranges" if more > 0 else shown
