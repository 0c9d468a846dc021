# SPDX-License-Identifier: GPL-2.0-or-later
"""GNU ddrescue's mapfile: which parts of a vmcore are here, in a form that its tools read.

The format is chapter "Mapfile structure" of ddrescue's manual: a status line, then blocks
that follow each other without a gap; ``+`` is a part that was read, ``?`` one not tried.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..core.extents import Range
from ..errors import NetdumpError

_HERE = "+"
_MISSING = "?"
_STATUSES = "?*/-+"


class MapfileError(NetdumpError):
    """A file that is no mapfile."""


def mapfile_text(missing: Iterable[Range], end: int) -> str:
    """The mapfile of a file of ``end`` bytes of which the ranges ``missing`` are not here."""
    lines = [
        "# Mapfile. Created by scapy-netdump: + received, ? missing",
        "# current_pos  current_status  current_pass",
        f"{0:#014x}     ?               1",
        "#      pos        size  status",
    ]
    lines += [
        f"{start:#014x}  {stop - start:#014x}  {status}"
        for start, stop, status in _blocks(missing, end)
    ]
    return "\n".join(lines) + "\n"


def _blocks(missing: Iterable[Range], end: int) -> Iterator[tuple[int, int, str]]:
    position = 0
    for start, stop in missing:
        if position < start:
            yield position, start, _HERE
        yield start, stop, _MISSING
        position = stop
    if position < end:
        yield position, end, _HERE


def parse_mapfile(text: str) -> tuple[list[Range], int]:
    """The ranges that are missing, as any of ddrescue's tools may have left them, and the end.

    All but ``+`` counts as missing. MapfileError if the blocks do not follow each other.
    """
    lines = [line.split() for line in text.splitlines() if line.strip() and line[0] != "#"]
    missing: list[Range] = []
    position = None
    try:
        for start, end, status in map(_block, lines[1:]):  # the first is the status line
            if position not in (None, start) or end <= start:
                raise MapfileError(f"mapfile: block at {start:#x} does not follow the one before")
            position = end
            if status == _HERE:
                continue
            if missing and missing[-1][1] == start:
                start = missing.pop()[0]
            missing.append((start, end))
    except ValueError:
        raise MapfileError("mapfile: not one of GNU ddrescue's") from None
    if position is None:
        raise MapfileError("mapfile: holds no blocks")
    return missing, position


def _block(words: list[str]) -> tuple[int, int, str]:
    start, size, status = words
    begin = int(start, 0)
    if begin < 0 or len(status) != 1 or status not in _STATUSES:
        raise ValueError(words)
    return begin, begin + int(size, 0), status
