# SPDX-License-Identifier: GPL-2.0-or-later
"""Captured frames as columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from ..core.observing.batch import Floats, Ints, Mask

#: tcpdump's MAXIMUM_SNAPLEN: a record that claims more is damaged.
MAX_RECORD = 262_144

#: What no record or block may exceed, whatever a file says, as it must fit into a window.
LARGEST_RECORD = 1 << 22

#: One frame: start, captured, original, time, link.
Row = tuple[int, int, int, float, int]


@dataclass(frozen=True, slots=True)
class Frames:
    """Captured frames in the order of the capture, one row each.

    The frame's bytes are ``buffer[start : start + captured]`` of the window that they were
    found in; ``original`` bytes were on the wire. ``time`` is in seconds since 1970,
    ``link`` the LINKTYPE_ number of the interface.
    """

    start: Ints
    captured: Ints
    original: Ints
    time: Floats
    link: Ints

    def __len__(self) -> int:
        return len(self.start)

    def __getitem__(self, rows: Ints | Mask | slice) -> Frames:
        return Frames(*(getattr(self, column.name)[rows] for column in fields(self)))

    @staticmethod
    def of(rows: Sequence[Row]) -> Frames:
        """Frames from rows whose items are in the order of the columns."""
        start, captured, original, time, link = zip(*rows, strict=True) if rows else ((),) * 5
        return Frames(
            start=np.array(start, np.int64),
            captured=np.array(captured, np.int64),
            original=np.array(original, np.int64),
            time=np.array(time, np.float64),
            link=np.array(link, np.int64),
        )


class Scan(NamedTuple):
    """What a stretch of a capture holds: its frames, the position up to which it was
    understood, and, when it goes on with something that is no record, why."""

    frames: Frames
    end: int
    problem: str | None = None


def stretches(begin: int, end: int) -> Iterator[range]:
    """``range(begin, end)`` in parts to search one after the other: short ones first, as what
    is looked for behind damage is mostly near."""
    size = 1 << 12
    while begin < end:
        yield range(begin, min(begin + size, end))
        begin += size
        size = min(2 * size, 1 << 20)
