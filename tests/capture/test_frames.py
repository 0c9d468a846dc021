# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames as columns."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.capture.frames import Frames, Row, stretches

ROWS: list[Row] = [(24, 60, 60, 1.5, 1), (100, 42, 1500, 2.5, 113)]


def test_rows_become_columns() -> None:
    frames = Frames.of(ROWS)
    assert len(frames) == 2
    assert frames.start.tolist() == [24, 100]
    assert frames.captured.tolist() == [60, 42]
    assert frames.original.tolist() == [60, 1500]
    assert frames.time.tolist() == [1.5, 2.5]
    assert frames.link.tolist() == [1, 113]


def test_no_rows_are_columns_of_the_same_types() -> None:
    assert len(Frames.of([])) == 0
    for column in Frames.__slots__:
        assert getattr(Frames.of([]), column).dtype == getattr(Frames.of(ROWS), column).dtype


def test_rows_are_picked_by_number_mask_or_slice() -> None:
    frames = Frames.of(ROWS)
    for rows in (np.array([1]), np.array([False, True]), slice(1, None)):
        assert frames[rows].start.tolist() == [100]
        assert frames[rows].time.tolist() == [2.5]


@given(begin=st.integers(0, 1 << 20), size=st.integers(-10, 3 << 20))
def test_stretches_follow_each_other_without_a_gap_and_stay_bounded(begin: int, size: int) -> None:
    position = begin
    for stretch in stretches(begin, begin + size):
        assert stretch.start == position
        assert 0 < len(stretch) <= 1 << 20
        position = stretch.stop
    assert position == max(begin, begin + size)
