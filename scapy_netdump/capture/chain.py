# SPDX-License-Identifier: GPL-2.0-or-later
"""What pcap and pcapng have in common: files of records, one behind the other.

A capture is a chain: only a record's own length tells where the next one begins. Followed
one by one in Python that costs 150 to 350 ns a record, half the time of copying the
capture; numpy follows hundreds of stretches of the chain at once for a fraction of it. What it
cannot follow, each format reads one record after the other.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass

import numpy as np

from ..core.observing.batch import Bytes, Ints, at_every_byte, gather
from .frames import Frames, Scan

#: Stretches at most, the least distance between their beginnings in bytes, how many there
#: must be to be worth it, and how many records the longest may have.
LANES = 512
LANE_SPACING = 1 << 14
MIN_LANES = 16
MAX_STEPS = 2048

#: How many bytes after a wanted place the beginning of a frame is looked for.
_SEEK = 1 << 16

#: Frames looked at for the bytes that most of them start with: on Ethernet both
#: addresses and the type.
_SAMPLE = 64
_BEGINNING = "V14"


@dataclass(slots=True)
class Chain:
    """Finds the records of one file, whose layout it is told.

    ``frame_at``: where a record's frame begins. ``length_at``: where its length stands.
    ``overhead``: what the record is longer than that length. All in bytes.
    """

    frame_at: int
    length_at: int
    overhead: int
    pattern: bytes = b""

    def learn(self, buffer: Bytes, frames: Frames) -> None:
        """Remember what most of some frames start with."""
        long_enough = frames.captured >= np.dtype(_BEGINNING).itemsize
        starts = frames.start[long_enough][-_SAMPLE:]
        counts = Counter(item.tobytes() for item in gather(buffer, starts, _BEGINNING))
        if counts:
            self.pattern = counts.most_common(1)[0][0]

    def follow(self, buffer: Bytes, begin: int, end: int, u4: str) -> Ints | None:
        """The positions of all records from ``begin`` on whose headers end by ``end``.

        Each stretch begins where a frame seems to: at the bytes that were learned. That is
        a guess (a payload may hold them too), so the answer counts only if each stretch
        ends exactly where the next one begins: then, by induction from ``begin``, every
        position is a record's. Otherwise, and where there is little to gain, it is None.
        ``u4`` is the type of a length.
        """
        starts = self._guess(buffer, begin, end)
        if len(starts) < MIN_LANES:
            return None
        length = at_every_byte(buffer, u4)
        last = end - self.frame_at + 1
        position, limit, lane = starts, np.append(starts[1:], last), np.arange(len(starts))
        columns: list[Ints] = []
        while len(position):
            if len(columns) == MAX_STEPS:
                return None
            column = np.full(len(starts), -1)
            column[lane] = position
            columns.append(column)
            position = position + length[position + self.length_at] + self.overhead
            going = position < limit
            if not going.all():
                arrived, target = position[~going], limit[~going]
                if ((arrived != target) & (target != last)).any():
                    return None
                position, limit, lane = position[going], limit[going], lane[going]
        found = np.stack(columns, axis=1).ravel()
        return found[found >= 0]

    def _guess(self, buffer: Bytes, begin: int, end: int) -> Ints:
        """``begin``, and positions after it where records probably begin, in order."""
        starts = [begin]
        if self.pattern:
            spacing = max(LANE_SPACING, (end - begin) // LANES)
            search = re.compile(re.escape(self.pattern), re.DOTALL).search
            data = buffer.data
            for wanted in range(begin + spacing, end - spacing, spacing):
                found = search(data, wanted, wanted + _SEEK)
                if found and starts[-1] < found.start() - self.frame_at < end:
                    starts.append(found.start() - self.frame_at)
        return np.array(starts, np.int64)


class CaptureFormat(ABC):
    """A capture file of some format, as far as it has been read.

    ``header_size``: bytes before the first record. ``left_out`` counts sound records whose
    contents contradict themselves.
    """

    header_size = 0
    left_out = 0

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._u4 = "<u4"  # a number in the byte order of the file, as numpy names it

    def scan(self, buffer: Bytes, begin: int, end: int) -> Scan:
        """The frames of the whole records in ``[begin, end)``, many at a time."""
        found = self._chain.follow(buffer, begin, end, self._u4)
        scan = None if found is None else self._scan_of(buffer, found, end)
        if scan is None:
            scan = self.scan_slowly(buffer, begin, end)
            self._chain.learn(buffer, scan.frames)
        return scan

    @abstractmethod
    def scan_slowly(self, buffer: Bytes, begin: int, end: int) -> Scan:
        """The same, one record after the other: for what the chain cannot follow."""

    @abstractmethod
    def resume(self, buffer: Bytes, begin: int, end: int) -> int | None:
        """Where sound records go on after damage at ``begin``, if they do before ``end``."""

    @abstractmethod
    def _scan_of(self, buffer: Bytes, found: Ints, end: int) -> Scan | None:
        """The scan of a chain of which only the last record may be cut short by the window;
        None if there is anything in it that needs a closer look."""
