# SPDX-License-Identifier: GPL-2.0-or-later
"""Extents against the plainest possible model: a Python set of byte numbers."""

from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.core.extents import Extents, pieces, total

SPAN = 200
ranges = st.tuples(st.integers(0, SPAN), st.integers(0, SPAN)).map(lambda pair: tuple(sorted(pair)))


def build(added: list[tuple[int, int]]) -> tuple[Extents, set[int]]:
    extents, model = Extents(), set()
    for start, end in added:
        extents.add(start, end)
        model.update(range(start, end))
    return extents, model


def bytes_of(parts) -> set[int]:
    return {byte for start, end in parts for byte in range(start, end)}


@given(st.lists(ranges, max_size=30))
def test_holds_exactly_the_bytes_that_were_added(added):
    extents, model = build(added)
    assert bytes_of(extents) == model
    assert extents.total == len(model)
    assert extents.end == (max(model) + 1 if model else 0)


@given(st.lists(ranges, max_size=30))
def test_ranges_are_sorted_and_never_touch(added):
    extents, _ = build(added)
    flat = [edge for part in extents for edge in part]
    assert flat == sorted(set(flat))


@given(st.lists(ranges, max_size=30), ranges)
def test_questions_about_a_range_agree_with_the_model(added, asked):
    extents, model = build(added)
    start, end = asked
    wanted = set(range(start, end))
    assert extents.overlaps(start, end) == bool(wanted & model)
    assert extents.covers(start, end) == (wanted <= model)
    assert bytes_of(extents.present(start, end)) == wanted & model
    assert bytes_of(extents.missing(start, end)) == wanted - model


@given(st.lists(ranges, max_size=30), ranges)
def test_present_and_missing_together_are_the_range_in_order(added, asked):
    extents, _ = build(added)
    parts = sorted([*extents.present(*asked), *extents.missing(*asked)])
    assert all(start < end for start, end in parts)
    assert [part[0] for part in parts[1:]] == [part[1] for part in parts[:-1]]


@given(st.lists(ranges, max_size=30), st.lists(ranges, max_size=5))
def test_what_is_removed_is_gone_and_nothing_else(added, removed):
    extents, model = build(added)
    before = extents.copy()
    for start, end in removed:
        extents.remove(start, end)
        model -= set(range(start, end))
    assert bytes_of(extents) == model
    assert extents.total == len(model)
    flat = [edge for part in extents for edge in part]
    assert flat == sorted(flat)
    assert bytes_of(before) == build(added)[1]


@given(st.integers(0, 1 << 40), st.integers(0, 5 << 20))
def test_pieces_are_the_range_in_order_and_small(start, size):
    parts = list(pieces(start, start + size))
    assert total(parts) == size
    assert all(0 < end - begin <= 1 << 20 for begin, end in parts)
    assert [begin for begin, _ in parts] == [start, *(end for _, end in parts)][: len(parts)]


def test_data_in_order_is_one_range():
    extents = Extents()
    for block in range(1000):
        extents.add(block * 1448, (block + 1) * 1448)
    assert list(extents) == [(0, 1_448_000)]
