# SPDX-License-Identifier: GPL-2.0-or-later
"""ObservedFile against a model that looks at one byte at a time.

The model's rules are those of disputes.py and of the README: an ack answers the latest
message with its number; of the payloads for a byte the one that was acked first stays,
else the one that came first. Who prefers the first or the last one gets that, acked or not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scapy_netdump import formats
from scapy_netdump.core.extents import Extents, Marks
from scapy_netdump.core.observing import acks as acks_module
from scapy_netdump.core.observing.acks import AckHistory
from scapy_netdump.core.observing.disputes import Prefer
from scapy_netdump.core.observing.messages import Acks, Messages
from scapy_netdump.core.observing.observed_file import ObservedFile, runs, split
from scapy_netdump.core.small_files import MemoryFile

LIMIT = 64


class Sent(NamedTuple):
    """A message; ``joined``: it came in one super-frame with the message before it."""

    seqno: int
    start: int
    data: bytes
    joined: bool = False


class Ack(NamedTuple):
    seqno: int


Event = Sent | Ack


@dataclass
class Outcome:
    """What is left when all is over."""

    data: bytes
    ranges: list[tuple[int, int]]
    retransmitted: int
    conflicting_bytes: int
    conflicts: list[int] = field(default_factory=list, compare=False)


class Model:
    """All transmissions of each byte, in their order."""

    def __init__(self, limit: int = LIMIT, prefer: Prefer = Prefer.ACKED) -> None:
        self.limit = limit
        self.prefer = prefer
        self.messages: list[dict[int, int]] = []
        self.latest: dict[int, dict[int, int]] = {}
        self.answered: list[dict[int, int]] = []
        self.seen: set[int] = set()
        self.retransmitted = 0

    def feed(self, event: Event) -> None:
        if isinstance(event, Ack):
            self.answered.append(self.latest.get(event.seqno, {}))
        else:
            here = {
                at: value for at, value in enumerate(event.data, event.start) if at < self.limit
            }
            if here:
                self.retransmitted += set(here) <= self.seen
                self.seen |= set(here)
                self.messages.append(here)
                self.latest[event.seqno] = here

    def outcome(self) -> Outcome:
        everything = sorted({at for message in self.messages for at in message})
        candidates = {
            Prefer.ACKED: self.answered + self.messages,
            Prefer.FIRST: self.messages,
            Prefer.LAST: self.messages[::-1],
        }[self.prefer]
        held = {at: self.values(at, candidates)[0] for at in everything}
        edges = [at for at in everything if at - 1 not in held]
        ends = [at + 1 for at in everything if at + 1 not in held]
        return Outcome(
            bytes(held.get(at, 0) for at in range(max(everything, default=-1) + 1)),
            list(zip(edges, ends, strict=True)),
            self.retransmitted,
            len(conflicts := [at for at in everything if self.differ(at)]),
            conflicts,
        )

    def differ(self, at: int) -> bool:
        return len(set(self.values(at, self.messages))) > 1

    @staticmethod
    def values(at: int, messages: list[dict[int, int]]) -> list[int]:
        return [message[at] for message in messages if at in message]


class Driver:
    """Feeds events to an ObservedFile as an observer does, in batches of ``cuts`` events."""

    def __init__(self, limit: int = LIMIT, prefer: Prefer = Prefer.ACKED) -> None:
        self.storage = MemoryFile(limit)
        self.acks = AckHistory()
        self.differing = Marks()
        self.file = ObservedFile(
            self.storage, self.storage.extents, limit, self.acks, self.differing, prefer
        )
        self.order = 0
        self.turn = 0

    def feed(self, events: list[Event]) -> None:
        messages: list[tuple[int, Sent]] = []
        acks: list[tuple[int, int]] = []
        for event in events:
            if isinstance(event, Ack):
                acks.append((self.order, event.seqno))
                self.order += 1
            else:
                joined = event.joined and messages and messages[-1][0] == self.order - 1
                self.order -= bool(joined)
                messages.append((self.order, event))
                self.order += 1
        self.take(messages, acks)

    def take(self, messages: list[tuple[int, Sent]], acks: list[tuple[int, int]]) -> None:
        if acks:
            order, seqno = np.array(acks, np.int64).T
            self.acks.append(Acks(order, np.zeros(len(acks), np.int64), seqno))
        if messages:
            self.turn += 1
            self.file.take(self.turn, *columns(messages))
        self.file.settle()

    def outcome(self) -> Outcome:
        extents = self.storage.extents
        return Outcome(
            self.storage.read(0, extents.end),
            list(extents),
            self.file.retransmitted,
            self.differing.total,
            [at for start, end in self.differing.ranges() for at in range(start, end)],
        )


def columns(messages: list[tuple[int, Sent]]) -> tuple[np.ndarray, Messages]:
    """A buffer and the messages in it, each (order, message)."""
    buffer = np.frombuffer(b"".join(sent.data for _, sent in messages), np.uint8)
    lengths = np.array([len(sent.data) for _, sent in messages], np.int64)
    start = np.array([sent.start for _, sent in messages], np.int64)
    count = len(messages)
    return buffer, Messages(
        order=np.array([order for order, _ in messages], np.int64),
        flow=np.zeros(count, np.int64),
        type=np.full(count, formats.VMCORE, np.int64),
        seqno=np.array([sent.seqno for _, sent in messages], np.int64),
        start=start,
        end=start + lengths,
        sent_end=start + lengths,
        position=np.cumsum(lengths) - lengths,
    )


def outcome(
    *events: Event,
    cuts: tuple[int, ...] = (),
    limit: int = LIMIT,
    prefer: Prefer = Prefer.ACKED,
) -> Outcome:
    """What a file comes to, and that the model agrees."""
    driver, model = Driver(limit, prefer), Model(limit, prefer)
    edges = [0, *sorted(cut for cut in set(cuts) if 0 < cut < len(events)), len(events)]
    for begin, end in pairwise(edges):
        driver.feed(list(events[begin:end]))
    for event in events:
        model.feed(event)
    assert driver.outcome() == model.outcome()
    assert driver.outcome().conflicts == model.outcome().conflicts
    return driver.outcome()


def block(number: int, value: int, seqno: int | None = None) -> Sent:
    """One of many blocks of eight equal bytes; its own number by default."""
    return Sent(number if seqno is None else seqno, number * 8, bytes([value] * 8))


messages = st.one_of(
    # cut always the same way, as the kernel does
    st.builds(block, st.integers(0, 7), st.integers(1, 3)),
    st.builds(block, st.integers(0, 7), st.integers(1, 3), st.integers(0, 3)),
    # cut anyhow
    st.builds(
        Sent,
        st.integers(0, 3),
        st.integers(0, LIMIT + 2),
        st.one_of(st.just(b"\1" * 12), st.binary(max_size=24)),
        st.booleans(),
    ),
)
acks = st.builds(Ack, st.integers(0, 7))


def events(*kinds: st.SearchStrategy[Event]) -> st.SearchStrategy[list[Event]]:
    return st.lists(st.one_of(*kinds), max_size=40)


@settings(max_examples=400)
@given(events(messages, messages, acks))
def test_any_messages_and_acks_come_to_what_the_model_says(seen):
    outcome(*seen)


@settings(max_examples=200)
@given(events(messages, messages, acks), st.sampled_from([Prefer.FIRST, Prefer.LAST]))
def test_who_prefers_the_first_or_the_last_gets_it(seen, prefer):
    outcome(*seen, prefer=prefer)


@settings(max_examples=300)
@given(events(messages, messages, acks), st.sets(st.integers(0, 40)))
def test_batches_do_not_matter(seen, cuts):
    assert outcome(*seen, cuts=tuple(cuts)) == outcome(*seen)


@given(
    st.permutations(range(8)), st.lists(st.integers(0, 7)), st.sets(st.integers(0, 20)), st.data()
)
def test_true_copies_in_any_order_give_the_file_and_no_conflict(order, again, cuts, data):
    whole = Random(7).randbytes(LIMIT)
    numbers = data.draw(st.permutations([*order, *again]))
    seen = [Sent(number, 8 * number, whole[8 * number : 8 * number + 8]) for number in numbers]
    assert outcome(*seen, cuts=tuple(cuts)) == Outcome(whole, [(0, LIMIT)], len(again), 0)


def test_the_first_payload_stays_while_nothing_is_acked():
    found = outcome(block(0, 1), block(0, 2), block(0, 3))
    assert found == Outcome(b"\1" * 8, [(0, 8)], 2, 8)


def test_an_acked_payload_is_not_replaced():
    assert outcome(block(0, 1), Ack(0), block(0, 2), Ack(0)).data == b"\1" * 8


@pytest.mark.parametrize("cuts", [(), (1,), (2,), (1, 2)])
def test_the_copy_that_was_sent_again_and_acked_replaces_a_damaged_one(cuts):
    found = outcome(block(0, 1), block(0, 2), Ack(0), cuts=cuts)
    assert found == Outcome(b"\2" * 8, [(0, 8)], 1, 8)


def test_a_true_copy_sent_once_more_before_the_ack_is_the_one_that_was_acked():
    assert outcome(block(0, 1), block(0, 2), block(0, 1), Ack(0)).data == b"\1" * 8


def test_of_three_payloads_the_latest_before_the_ack_is_kept():
    assert outcome(block(0, 1), block(0, 2), block(0, 3), Ack(0)).data == b"\3" * 8


def test_a_forged_message_with_another_number_does_not_win_by_the_ack_of_the_true_one():
    found = outcome(block(0, 1), block(0, 2, seqno=9), Ack(0))
    assert found == Outcome(b"\1" * 8, [(0, 8)], 1, 8)


def test_a_late_ack_of_another_number_decides_only_what_is_undecided():
    assert outcome(block(0, 1), block(0, 2, seqno=9), Ack(0), Ack(9)).data == b"\1" * 8
    assert outcome(block(0, 1), block(0, 2, seqno=9), Ack(9), Ack(0)).data == b"\2" * 8


def test_pieces_cut_differently_are_decided_byte_by_byte():
    found = outcome(
        *(Sent(1, 0, b"aaaaaaaa"), Sent(2, 8, b"bbbbbbbb"), Ack(2)),
        *(Sent(3, 4, b"cccccccc"), Ack(3)),
    )
    assert found == Outcome(b"aaaaccccbbbbbbbb", [(0, 16)], 1, 8)


def test_only_the_bytes_that_differ_are_counted_and_each_once():
    seen = [Sent(1, 0, b"same A same"), Sent(1, 0, b"same B same"), Sent(1, 0, b"same C sane")]
    assert outcome(*seen).conflicting_bytes == 2
    assert outcome(*seen, *seen).conflicting_bytes == 2


def test_bytes_are_counted_across_the_edges_of_the_marks():
    size = 20_000
    far = Sent(1, 0, bytes(size))
    other = Sent(1, 4_090, b"\1" * 12_000)
    driver = Driver(limit=1 << 20)
    driver.feed([far, other, other])
    assert driver.outcome().conflicting_bytes == 12_000


def test_what_is_beyond_the_limit_is_dropped():
    found = outcome(Sent(1, 60, b"eight by"), Sent(2, 64, b"x"), Sent(3, 1 << 43, b"y"))
    assert found == Outcome(bytes(60) + b"eigh", [(60, 64)], 0, 0)


def test_what_was_sent_long_ago_is_settled(monkeypatch):
    monkeypatch.setattr(acks_module, "REMEMBERED", 4)
    driver = Driver()
    driver.feed([block(0, 1)])
    for number in [*range(1, 8)] * 3:
        driver.feed([block(number, 1), Ack(number)])
    driver.feed([block(0, 2, seqno=99), Ack(99)])
    assert driver.outcome().data == b"\1" * LIMIT
    assert driver.outcome().conflicting_bytes == 8


def test_undecided_copies_stay_bounded():
    driver = Driver(limit=1 << 20)
    for number in range(3000):
        driver.feed([block(number, 1), block(number, 2)])
    assert len(driver.file._disputes._copies) <= 512
    driver.feed([Ack(2999)])
    assert driver.outcome().data[-16:] == b"\1" * 8 + b"\2" * 8
    assert driver.outcome().conflicting_bytes == 24_000


class Nowhere(MemoryFile):
    """Keeps nothing, as when a dump is only looked at."""

    def read(self, start: int, end: int) -> None:
        return None


def test_without_stored_bytes_coverage_and_repeats_are_right_all_the_same():
    storage = Nowhere(LIMIT)
    differing = Marks()
    file = ObservedFile(storage, storage.extents, LIMIT, AckHistory(), differing)
    file.take(1, *columns([(0, block(0, 1))]))
    file.take(3, *columns([(1, block(0, 2)), (2, block(2, 1))]))
    assert list(storage.extents) == [(0, 8), (16, 24)]
    assert (file.retransmitted, differing.total) == (1, 0)


held_ranges = st.lists(st.tuples(st.integers(0, LIMIT), st.integers(1, 8)), max_size=4)


@given(st.lists(messages.filter(lambda sent: sent.data), min_size=1, max_size=20), held_ranges)
def test_split_parts_what_is_new_from_what_may_not_be(sent, held):
    extents = Extents()
    for start, length in held:
        extents.add(start, start + length)
    _, rows = columns(list(enumerate(sent)))
    fresh, again = split(rows, extents)
    assert sorted([*fresh, *again]) == list(range(len(sent)))
    assert list(again) == sorted(again)
    starts, ends = rows.start[fresh], rows.end[fresh]
    assert (starts[1:] >= ends[:-1]).all()
    for row in fresh.tolist():
        mine = int(rows.start[row]), int(rows.end[row])
        assert not extents.overlaps(*mine)
        for other in range(row):
            before = Extents()
            before.add(int(rows.start[other]), int(rows.end[other]))
            assert not before.overlaps(*mine)
        for other in range(row + 1, len(sent)):
            after = int(rows.start[other]), int(rows.end[other])
            assert after == mine or after[1] <= mine[0] or mine[1] <= after[0]


def test_rows_cut_differently_do_not_slow_down_their_neighbours():
    sent = [block(number, 1) for number in range(7)]
    _, rows = columns(list(enumerate([*sent, Sent(9, 4, b"12345678")])))
    fresh, again = split(rows, Extents())
    assert fresh.tolist() == [2, 3, 4, 5, 6]
    assert again.tolist() == [0, 1, 7]


def test_runs_are_broken_where_bytes_are_missing():
    sent = [block(number, 1) for number in (0, 1, 3, 4, 7)]
    _, rows = columns(list(enumerate(sent)))
    assert runs(rows) == [slice(0, 2), slice(2, 4), slice(4, 5)]
