# SPDX-License-Identifier: GPL-2.0-or-later
"""Which byte ranges have arrived, and which have not. Imports only the standard library.

Coverage is the only proof that a dump is whole: FINISHED and acks prove nothing.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

Range = tuple[int, int]


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
