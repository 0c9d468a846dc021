# SPDX-License-Identifier: GPL-2.0-or-later
"""A set of single bytes of a file, bounded in memory. Imports its neighbours and numpy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .extents import Extents, Range
from .observing.batch import Mask

#: Ranges that ``ranges`` tells at most; beyond them those that are near to each other are one.
MOST_RANGES = 1 << 14


class Marks:
    """Single bytes of a file, as bits in sparse blocks."""

    #: Beyond this many blocks (128 MiB of the file) a byte is counted each time it comes, and
    #: told with its whole block.
    MOST = 1 << 15
    SIZE = 1 << 12

    def __init__(self) -> None:
        self.total = 0
        self._blocks: dict[int, int] = {}
        self._beyond = Extents()

    def add(self, start: int, marked: Mask) -> None:
        """Add the bytes from ``start`` on that are ``marked``."""
        first, skipped = divmod(start, self.SIZE)
        padded = np.zeros(-(-(skipped + len(marked)) // self.SIZE) * self.SIZE, np.bool_)
        padded[skipped : skipped + len(marked)] = marked
        for number, block in enumerate(padded.reshape(-1, self.SIZE), first):
            self._add(number, int.from_bytes(np.packbits(block).tobytes(), "big"))

    def update(self, other: Marks) -> None:
        """Add all bytes of another set."""
        for number, bits in other._blocks.items():
            self._add(number, bits)
        for start, end in other._beyond:
            self._beyond.add(start, end)

    def ranges(self) -> list[Range]:
        """The bytes as ranges ``[start, end)``, in order and apart from each other."""
        whole = [(start, end, None) for start, end in self._beyond]
        single = [(number * self.SIZE, 0, bits) for number, bits in self._blocks.items() if bits]
        parts = sorted([*whole, *single], key=lambda part: part[0])
        found: list[Range] = []
        gap = 0
        for start, end, bits in parts:
            here = [(start, end)] if bits is None else self._in_block(start, bits)
            for range_ in here:
                _join(found, range_, gap)
            while len(found) > MOST_RANGES:
                gap = max(1, 2 * gap)
                apart, found = found, []
                for range_ in apart:
                    _join(found, range_, gap)
        return found

    def _add(self, number: int, bits: int) -> None:
        held = self._blocks.get(number, 0)
        self.total += (bits & ~held).bit_count()
        if number in self._blocks or len(self._blocks) < self.MOST:
            self._blocks[number] = held | bits
        elif bits:
            self._beyond.add(number * self.SIZE, (number + 1) * self.SIZE)

    def _in_block(self, start: int, bits: int) -> Iterator[Range]:
        raw = np.frombuffer(bits.to_bytes(self.SIZE // 8, "big"), np.uint8)
        edges = np.flatnonzero(np.diff(np.unpackbits(raw), prepend=0, append=0)) + start
        return zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _join(ranges: list[Range], last: Range, gap: int) -> None:
    """Add a range that follows all others: as one with the last, if that is no further away
    than ``gap``."""
    if ranges and last[0] - ranges[-1][1] <= gap:
        ranges[-1] = ranges[-1][0], last[1]
    else:
        ranges.append(last)
