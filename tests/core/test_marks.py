# SPDX-License-Identifier: GPL-2.0-or-later
"""Sets of single bytes: how many, and in which ranges."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.core import extents as module
from scapy_netdump.core.extents import Marks

EDGE = 3 * Marks.SIZE

places = st.sets(
    st.one_of(st.integers(0, 40), st.integers(EDGE - 20, EDGE + 20), st.integers(0, 1 << 40))
)


def marks_of(bytes_: set[int]) -> Marks:
    marks = Marks()
    for place in sorted(bytes_, key=lambda place: place % 7):
        assert marks.compare(place, b"a", b"b") == 1
    return marks


@given(places, places)
def test_ranges_hold_just_the_bytes_that_were_added(first: set[int], second: set[int]) -> None:
    marks = marks_of(first)
    marks.update(marks_of(second))
    ranges = marks.ranges()
    assert {place for start, end in ranges for place in range(start, end)} == first | second
    assert marks.total == len(first | second)
    assert all(before[1] < after[0] for before, after in pairwise(ranges))


@given(st.integers(0, 3 * Marks.SIZE), st.binary(max_size=300), st.data())
def test_just_the_bytes_that_differ_are_marked(
    start: int, some: bytes, data: st.DataObject
) -> None:
    others = data.draw(st.binary(min_size=len(some), max_size=len(some)))
    others = bytes(a if at % 3 else b for at, (a, b) in enumerate(zip(some, others, strict=True)))
    marks = Marks()
    count = marks.compare(start, memoryview(some), others)
    different = {start + at for at in range(len(some)) if some[at] != others[at]}
    assert count == marks.total == len(different)
    assert {at for first, last in marks.ranges() for at in range(first, last)} == different


def test_a_stretch_over_many_blocks_is_one_range() -> None:
    marks = Marks()
    assert marks.compare(100, bytes(5 * Marks.SIZE), b"x" * 5 * Marks.SIZE) == 5 * Marks.SIZE
    assert marks.ranges() == [(100, 100 + 5 * Marks.SIZE)]


def test_too_many_ranges_become_fewer_that_hold_them_all(monkeypatch) -> None:
    monkeypatch.setattr(module, "MOST_RANGES", 10)
    marks = marks_of(set(range(0, 3000, 3)))
    ranges = marks.ranges()
    assert len(ranges) <= 10
    assert (ranges[0][0], ranges[-1][1]) == (0, 2998)
    assert marks.total == 1000


def test_beyond_its_memory_whole_blocks_are_told(monkeypatch) -> None:
    monkeypatch.setattr(Marks, "MOST", 2)
    marks = marks_of({1, EDGE, 5 * EDGE + 7})
    assert marks.total == 3
    assert sum(end - start for start, end in marks.ranges()) == 2 + Marks.SIZE
