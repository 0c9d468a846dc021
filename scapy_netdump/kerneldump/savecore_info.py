# SPDX-License-Identifier: GPL-2.0-or-later
"""The text of an info file as savecore(8) writes it, which crashinfo(8) reads.

The lines are those of printheader() in sbin/savecore/savecore.c. Imports its neighbour
header.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..text import printable, utc_date
from .header import DumpHeader


def savecore_info_text(
    address: str, number: int, header: DumpHeader | None, last_line: str, *, complete: bool
) -> str:
    """The text for dump ``number`` from ``address``, ending in ``last_line``, which says whether
    the dump is ``complete``.

    Control characters are escaped as in netdumpd's (info.py). Only the line break within a
    version string stays, as crashinfo(8) compares it with those of kernels; what follows is
    indented so far that it forges no line.
    """
    lines = [f"Dump header from device: {address}"]
    if header is not None:
        lines += [f"  {name}: {value}" for name, value in _items(header)]
    lines += [f"  Bounds: {number}", f"  Dump Status: {_dump_status(header, complete)}", last_line]
    return "".join(f"{line}\n" for text in lines for line in _lines(text))


def _lines(text: str) -> Iterator[str]:
    first, *rest = text.split("\n")
    yield printable(first)
    for line in rest:
        yield printable(f"    {line.lstrip(' ')}")


def _items(header: DumpHeader) -> Iterator[tuple[str, object]]:
    yield "Architecture", printable(header.architecture)
    yield "Architecture Version", header.architectureversion
    yield "Dump Length", header.dumplength
    yield "Blocksize", header.blocksize
    yield "Compression", header.compression_name
    yield "Dumptime", f"{utc_date(header.dumptime)} +0000"
    yield "Hostname", printable(header.hostname)
    yield "Magic", printable(header.magic)
    yield "Version String", header.versionstring.removesuffix("\n")
    yield "Panic String", printable(header.panicstring)
    yield "Dump Parity", header.parity


def _dump_status(header: DumpHeader | None, complete: bool) -> str:
    """savecore's word for it: "good" are dumps that are whole, "bad" those whose header is not."""
    if header is not None and not header.valid:
        return "bad"
    return "good" if complete and header is not None else "unknown"
