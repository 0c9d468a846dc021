# SPDX-License-Identifier: GPL-2.0-or-later
"""The parts that a dump file consists of, and how much of each is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a dump file: the bytes ``[start, end)``."""

    name: str
    start: int
    end: int

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return self.end - self.start

    def missing(self, missing: Iterable[Range]) -> list[Range]:
        """Those of some missing ranges of the file that lie in the region, cut to it."""
        cut = ((max(start, self.start), min(end, self.end)) for start, end in missing)
        return [(start, end) for start, end in cut if start < end]

    def as_dict(self, missing: Iterable[Range]) -> dict[str, Any]:
        """The region as JSON takes it."""
        lost = self.missing(missing)
        count = sum(end - start for start, end in lost)
        return {
            "name": self.name,
            "start": self.start,
            "end": self.end,
            "bytes_missing": count,
            "missing": lost,
        }


def in_a_row(sizes: Mapping[str, int], rest: str, length: int) -> list[Region]:
    """Regions of some sizes one behind the other in a file of ``length`` bytes, and ``rest``
    for what is left of it. Empty ones are left out, and none reaches beyond the end."""
    regions = []
    position = 0
    for name, size in [*sizes.items(), (rest, max(0, length - sum(sizes.values())))]:
        end = min(position + size, length)
        if position < end:
            regions.append(Region(name, position, end))
        position += size
    return regions


def pages_touched(missing: Iterable[Range], start: int, page: int) -> Iterator[Range]:
    """The pages, numbered from ``start`` of the file on, of which any byte is missing: ranges
    of numbers that do not overlap. The missing ranges are in order, and none is before it."""
    after = 0
    for lost_start, lost_end in missing:
        first = max((lost_start - start) // page, after)
        after = max(-(-(lost_end - start) // page), after)
        yield first, after


def without(start: int, end: int, missing: Iterable[Range]) -> Iterator[Range]:
    """The parts of ``[start, end)`` that are in none of the missing ranges, which are in order."""
    for lost_start, lost_end in missing:
        if lost_start >= end:
            break
        if start < lost_start:
            yield start, lost_start
        start = max(start, lost_end)
    if start < end:
        yield start, end
