# SPDX-License-Identifier: GPL-2.0-or-later
"""Captured frames as columns, and how the records of a capture file are walked to find them.

A file is a chain: only a record's own length tells where the next one begins. Followed one
by one in Python that costs 150 to 350 ns a record, half the time of copying the capture;
numpy follows many stretches of the chain at once (`chain`) for a fraction of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from ..core.batch import Bytes, Floats, Ints, Mask, gather

#: tcpdump's MAXIMUM_SNAPLEN: a record that claims more is damaged.
MAX_RECORD = 262_144

#: Stretches followed at once, the least distance between their beginnings in bytes, and
#: how many there must be to be worth it.
LANES = 512
LANE_SPACING = 1 << 14
MIN_LANES = 16

#: Frames looked at for the bytes that most of them start with: on Ethernet both
#: addresses and the type.
_SAMPLE = 256
_PATTERN = "V14"

#: How many bytes after a wanted place a known header is looked for.
_SEEK = 1 << 16


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


def chain(
    successor: Callable[[Ints], Ints],
    buffer: Bytes,
    begin: int,
    end: int,
    pattern: bytes,
    before: int,
) -> Ints | None:
    """The positions of all records from ``begin`` on whose headers end by ``end``, in order.

    ``successor`` gives where the records after those at some positions begin. Stretches
    of the chain begin where ``pattern`` is found, which most frames start with, less the
    ``before`` bytes of a record's header. That is a guess (a payload may hold the pattern
    too), so the answer counts only if each stretch ends exactly where the next one begins:
    then, by induction from ``begin``, every position is a record's. Otherwise, and where
    there is too little to gain, the answer is None.
    """
    if not pattern:
        return None
    position = _guess_starts(buffer, begin, end, pattern, before)
    if len(position) < MIN_LANES:
        return None
    last = end - before + 1
    limit = np.append(position[1:], last)
    found = []
    while len(position):
        found.append(position)
        position = successor(position)
        going = position < limit
        if not going.all():
            landed, target = position[~going], limit[~going]
            if ((landed != target) & (target != last)).any():
                return None
            position, limit = position[going], limit[going]
    return np.sort(np.concatenate(found))


def commonest_beginning(buffer: Bytes, frames: Frames) -> bytes:
    """The bytes that most of the last frames start with, for ``chain`` to look for; none
    if there are no frames."""
    starts = frames.start[frames.captured >= np.dtype(_PATTERN).itemsize][-_SAMPLE:]
    counts = Counter(beginning.tobytes() for beginning in gather(buffer, starts, _PATTERN))
    return counts.most_common(1)[0][0] if counts else b""


def _guess_starts(buffer: Bytes, begin: int, end: int, pattern: bytes, before: int) -> Ints:
    """``begin``, and positions after it where records probably begin, in order."""
    spacing = max(LANE_SPACING, (end - begin) // LANES)
    search = re.compile(re.escape(pattern), re.DOTALL).search
    starts = [begin]
    for wanted in range(begin + spacing, end - spacing, spacing):
        found = search(buffer.data, wanted, wanted + _SEEK)
        if found and starts[-1] < found.start() - before < end:
            starts.append(found.start() - before)
    return np.array(starts, np.int64)
