# SPDX-License-Identifier: GPL-2.0-or-later
"""Sets of bytes of a file: those that arrived, and those that arrived with different values.

Coverage is the only proof that a dump is whole: FINISHED and acks prove nothing.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

#: The bytes from the first number up to, and without, the second.
Range = tuple[int, int]

#: Ranges that ``Marks.ranges`` tells at most; beyond them those that are near to each other are
#: one.
MOST_RANGES = 1 << 14

_PIECE = 1 << 20


def total(ranges: Iterable[Range]) -> int:
    """How many bytes are in ranges that do not overlap."""
    return sum(end - start for start, end in ranges)


def pieces(start: int, end: int) -> Iterator[Range]:
    """A range in parts that fit into memory."""
    while start < end:
        stop = min(end, start + _PIECE)
        yield start, stop
        start = stop


class Extents:
    """A set of bytes, kept as sorted half-open ranges ``[start, end)`` that never touch.

    Sixteen bytes a range, so that a hostile sender who makes a million islands
    costs 16 MB; data in order costs one range, whatever its size.
    """

    __slots__ = ("_ends", "_starts", "_total")

    def __init__(self) -> None:
        self._starts = array("q")
        self._ends = array("q")
        self._total = 0

    def __iter__(self) -> Iterator[Range]:
        return zip(self._starts, self._ends, strict=True)

    def __len__(self) -> int:
        """The number of separate ranges."""
        return len(self._starts)

    def __repr__(self) -> str:
        return f"Extents({list(self)})"

    @property
    def total(self) -> int:
        """How many bytes are in the set."""
        return self._total

    @property
    def end(self) -> int:
        """One past the highest byte in the set; 0 when it is empty."""
        return self._ends[-1] if self._ends else 0

    @property
    def bounds(self) -> tuple[array[int], array[int]]:
        """The starts and the ends, as the two arrays themselves: to read, not to change."""
        return self._starts, self._ends

    def add(self, start: int, end: int) -> None:
        """Add the bytes from ``start`` up to ``end``."""
        if start >= end:
            return
        if self._ends and start == self._ends[-1]:  # as nearly all dumps come
            self._ends[-1] = end
            self._total += end - start
            return
        first = bisect_left(self._ends, start)
        last = bisect_right(self._starts, end, first)
        if first == last:
            self._starts.insert(first, start)
            self._ends.insert(first, end)
            self._total += end - start
            return
        merged_start = min(start, self._starts[first])
        merged_end = max(end, self._ends[last - 1])
        replaced = sum(self._ends[first:last]) - sum(self._starts[first:last])
        self._total += merged_end - merged_start - replaced
        self._starts[first] = merged_start
        self._ends[first] = merged_end
        if last - first > 1:
            del self._starts[first + 1 : last]
            del self._ends[first + 1 : last]

    def remove(self, start: int, end: int) -> None:
        """Take the bytes from ``start`` up to ``end`` out of the set."""
        first = bisect_right(self._ends, start)
        last = bisect_left(self._starts, end, first)
        if start >= end or first == last:
            return
        before = (self._starts[first], start) if self._starts[first] < start else None
        after = (end, self._ends[last - 1]) if end < self._ends[last - 1] else None
        self._total -= total(self.present(start, end))
        kept = [part for part in (before, after) if part is not None]
        self._starts[first:last] = array("q", [part[0] for part in kept])
        self._ends[first:last] = array("q", [part[1] for part in kept])

    def copy(self) -> Extents:
        """Another set of the same bytes."""
        other = Extents()
        other._starts, other._ends = self._starts[:], self._ends[:]
        other._total = self._total
        return other

    def overlaps(self, start: int, end: int) -> bool:
        """Whether any byte of ``[start, end)`` is in the set."""
        index = bisect_right(self._ends, start)
        return start < end and index < len(self._starts) and self._starts[index] < end

    def covers(self, start: int, end: int) -> bool:
        """Whether every byte of ``[start, end)`` is in the set."""
        index = bisect_right(self._ends, start)
        return start >= end or (
            index < len(self._starts) and self._starts[index] <= start and end <= self._ends[index]
        )

    def present(self, start: int, end: int) -> Iterator[Range]:
        """The parts of ``[start, end)`` that are in the set, in order."""
        index = bisect_right(self._ends, start)
        while start < end and index < len(self._starts) and self._starts[index] < end:
            yield max(start, self._starts[index]), min(end, self._ends[index])
            index += 1

    def missing(self, start: int, end: int) -> Iterator[Range]:
        """The parts of ``[start, end)`` that are not in the set, in order."""
        position = start
        for held_start, held_end in self.present(start, end):
            if position < held_start:
                yield position, held_start
            position = held_end
        if position < end:
            yield position, end


def union(*sets: Extents) -> Extents:
    """All bytes of some sets. From the lowest to the highest, as that takes no time in between."""
    every = Extents()
    for start, end in sorted(range_ for ranges in sets for range_ in ranges):
        every.add(start, end)
    return every


class Marks:
    """Single bytes of a file, as bits in sparse blocks: those that differ between two copies."""

    #: Beyond this many blocks (128 MiB of the file) a byte is counted each time it comes, and
    #: told with its whole block.
    MOST = 1 << 15
    SIZE = 1 << 12

    def __init__(self) -> None:
        self.total = 0
        self._blocks: dict[int, int] = {}
        self._beyond = Extents()

    def compare(self, start: int, some: bytes | memoryview, others: bytes | memoryview) -> int:
        """Add the bytes in which two copies of the same size differ, which begin at ``start`` of
        the file; returns how many these are."""
        if some == others:
            return 0
        found = 0
        position = 0
        while position < len(some):
            number, skipped = divmod(start + position, self.SIZE)
            size = min(self.SIZE - skipped, len(some) - position)
            bits = _differing(some[position : position + size], others[position : position + size])
            found += bits.bit_count()
            self._add(number, bits << self.SIZE - skipped - size)
            position += size
        return found

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
        for run in re.finditer("1+", format(bits, f"0{self.SIZE}b")):
            yield start + run.start(), start + run.end()


#: Makes a 1 of every byte but NUL.
_ONES = b"0" + b"1" * 255


def _differing(some: bytes | memoryview, others: bytes | memoryview) -> int:
    """A bit for each byte, the first one in front: set where two copies differ."""
    different = int.from_bytes(some, "big") ^ int.from_bytes(others, "big")
    return int(different.to_bytes(len(some), "big").translate(_ONES), 2)


def _join(ranges: list[Range], last: Range, gap: int) -> None:
    """Add a range that follows all others: as one with the last, if that is no further away
    than ``gap``."""
    if ranges and last[0] - ranges[-1][1] <= gap:
        ranges[-1] = ranges[-1][0], last[1]
    else:
        ranges.append(last)
