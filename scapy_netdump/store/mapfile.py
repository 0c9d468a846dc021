# SPDX-License-Identifier: GPL-2.0-or-later
"""GNU ddrescue's mapfile: which parts of a vmcore are here, in a form that its tools read.

The format is chapter "Mapfile structure" of ddrescue's manual: a status line, then blocks
that follow each other without a gap; ``+`` is a part that was read, ``?`` one not tried.

The mapfile of a ``.part``, of which more is still to come, has two comments more. One names the
run of the kernel: what was received may be in the page cache alone, and a map that outlives that
tells of bytes that a power cut has taken. The other one says that FINISHED had come.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..core.extents import Range
from ..errors import NetdumpError
from .boot import THIS_BOOT

#: A mapfile is no longer than this.
MAX_MAPFILE = 1 << 30

_HERE = "+"
_MISSING = "?"
_STATUSES = "?*/-+"

_BOOT = "# Received while this kernel ran, and true as long as it does: "
_FINISHED = "# FINISHED came"


class MapfileError(NetdumpError):
    """A file that is no mapfile."""


class Mapped(NamedTuple):
    """What a mapfile tells of a file: the ranges that are ``missing``, its ``end``, and whether
    FINISHED had come."""

    missing: list[Range]
    end: int
    finished: bool = False


def mapfile_text(missing: Iterable[Range], end: int) -> str:
    """The mapfile of a file of ``end`` bytes of which the ranges ``missing`` are not here."""
    return _text([], missing, end)


def part_map_text(missing: Iterable[Range], end: int, finished: bool, boot: str = THIS_BOOT) -> str:
    """The mapfile of a ``.part`` that has got to ``end``."""
    return _text([_BOOT + boot, *([_FINISHED] if finished else [])], missing, end)


def read_part_map(text: str, size: int, boot: str = THIS_BOOT) -> Mapped | None:
    """What the mapfile of a ``.part`` of ``size`` bytes tells; None if it may not be believed: it
    was written while another kernel ran, or is damaged.

    What came after it was written is not known to be here, and counts as missing.
    """
    lines = text.splitlines()
    if not boot or _BOOT + boot not in lines:
        return None
    try:
        missing, end = parse_mapfile(text)
    except MapfileError:
        return None
    if end < size:
        missing.append((end, size))
    return Mapped(missing, max(end, size), _FINISHED in lines)


def notes_finished(text: str) -> bool:
    """Whether the mapfile of a ``.part`` says that FINISHED had come, whenever that was."""
    return _FINISHED in text.splitlines()


def _text(notes: Iterable[str], missing: Iterable[Range], end: int) -> str:
    lines = [
        "# Mapfile. Created by scapy-netdump: + received, ? missing",
        *notes,
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
