# SPDX-License-Identifier: GPL-2.0-or-later
"""SentHistory and AckHistory against lists of all that ever came."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.core.observing import acks as acks_module
from scapy_netdump.core.observing.acks import REMEMBERED, AckHistory, Sent, SentHistory
from scapy_netdump.core.observing.messages import Acks, Messages


def messages(sent: list[Sent]) -> Messages:
    _, order, seqno, start, end = np.array(sent, np.int64).reshape(-1, 5).T
    nothing = np.zeros(len(sent), np.int64)
    return Messages(order, nothing, nothing, seqno, start, end, end, nothing)


def acks(seen: list[tuple[int, int]]) -> Acks:
    order, seqno = np.array(seen, np.int64).reshape(-1, 2).T
    return Acks(order, np.zeros(len(seen), np.int64), seqno)


def cut(rows: list, sizes: list[int]) -> Iterator[list]:
    """All the rows, in blocks of such sizes, the last one of what is left."""
    begin = 0
    for size in sizes:
        if rows[begin : begin + size]:
            yield rows[begin : begin + size]
        begin += size
    if rows[begin:]:
        yield rows[begin:]


sizes = st.lists(st.integers(1, 6))
small = st.integers(0, 5)


@given(st.lists(st.tuples(small, small, small)), sizes, st.integers(0, 40), small, small)
def test_sent_messages_are_found_by_their_bytes_and_their_numbers(rows, blocks, at, start, seqno):
    sent = [Sent(row, 2 * row, number, a, a + b) for row, (number, a, b) in enumerate(rows)]
    history = SentHistory()
    firsts = [history.append(messages(part)) for part in cut(sent, blocks)]
    assert firsts == [part[0].row for part in cut(sent, blocks)]
    touching = [one for one in sent if one.row < at and one.start < start + 3 and one.end > start]
    assert history.touching(start, start + 3, at) == touching
    same = [one.row for one in sent if one.order < at and one.seqno == seqno]
    assert history.latest(seqno, at) == (same[-1] if same else None)


@given(st.lists(small), sizes, st.integers(-1, 40), st.sets(small))
def test_acks_are_found_by_their_numbers_from_a_place_on(seqnos, blocks, after, wanted):
    seen = list(enumerate(seqnos))
    history = AckHistory()
    for part in cut(seen, blocks):
        history.append(acks(part))
    assert history.last == len(seen) - 1
    assert history.since(after, wanted) == [
        (order, seqno) for order, seqno in seen if order > after and seqno in wanted
    ]


@pytest.mark.parametrize("size", [1, 100, 5000])
def test_memory_is_bounded_however_many_rows_come_at_once(size, monkeypatch):
    monkeypatch.setattr(acks_module, "REMEMBERED", 2000)
    history = AckHistory()
    for begin in range(0, 30_000, size):
        history.append(acks([(order, order) for order in range(begin, begin + size)]))
    remembered = history.since(-1, range(30_000))
    assert 2000 <= len(remembered) <= 2000 + max(size, 8192)
    assert remembered[-1] == (history.last, history.last)
    assert len(history._blocks) < 20


def test_numbers_of_messages_go_on_when_old_ones_are_forgotten():
    history = SentHistory()
    rows = REMEMBERED + 1
    for block in range(3):
        first = history.append(
            messages([Sent(0, block * rows + row, row, 0, 1) for row in range(rows)])
        )
        assert first == block * rows
    assert history.latest(5, 3 * rows) == 2 * rows + 5
    assert history.touching(0, 1, rows) == []


def test_nothing_of_a_batch_is_kept_alive():
    batch = acks([(order, order) for order in range(1000)])
    history = AckHistory()
    history.append(batch[10:11])
    assert all(block.base is None for block in history._blocks)
