# SPDX-License-Identifier: GPL-2.0-or-later
"""GNU ddrescue's mapfile: which parts of a vmcore are here, in a form that its tools read.

The format is chapter "Mapfile structure" of ddrescue's manual: a status line, then blocks
that follow each other without a gap; ``+`` is a part that was read, ``?`` one not tried.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..core.extents import Range

_HERE = "+"
_MISSING = "?"


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


def _blocks(missing: Iterable[Range], end: int) -> Iterable[tuple[int, int, str]]:
    position = 0
    for start, stop in missing:
        if position < start:
            yield position, start, _HERE
        yield start, stop, _MISSING
        position = stop
    if position < end:
        yield position, end, _HERE
