# SPDX-License-Identifier: GPL-2.0-or-later
"""Sets of single bytes: how many, and in which ranges."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scapy_netdump.core.marks import Marks

from scapy_netdump.core import marks as marks_module

EDGE = 3 * Marks.SIZE

places = st.sets(
    st.one_of(st.integers(0, 40), st.integers(EDGE - 20, EDGE + 20), st.integers(0, 1 << 40))
)


def marks_of(bytes_: set[int]) -> Marks:
    marks = Marks()
    for place in sorted(bytes_, key=lambda place: place % 7):
        marks.add(place, np.ones(1, np.bool_))
    return marks


@given(places, places)
def test_ranges_hold_just_the_bytes_that_were_added(first: set[int], second: set[int]) -> None:
    marks = marks_of(first)
    marks.update(marks_of(second))
    ranges = marks.ranges()
    assert {place for start, end in ranges for place in range(start, end)} == first | second
    assert marks.total == len(first | second)
    assert all(before[1] < after[0] for before, after in pairwise(ranges))


def test_a_stretch_over_many_blocks_is_one_range() -> None:
    marks = Marks()
    marks.add(100, np.ones(5 * Marks.SIZE, np.bool_))
    assert marks.ranges() == [(100, 100 + 5 * Marks.SIZE)]


def test_too_many_ranges_become_fewer_that_hold_them_all(monkeypatch) -> None:
    monkeypatch.setattr(marks_module, "MOST_RANGES", 10)
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
