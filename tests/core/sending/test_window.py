# SPDX-License-Identifier: GPL-2.0-or-later
"""The sliding window: what is sent when, what counts as lost, and how far it opens."""

from __future__ import annotations

from random import Random

import pytest
from helpers.link import Content, Link

from scapy_netdump.core.sending.faults import Rates
from scapy_netdump.core.sending.kernel import KernelSender
from scapy_netdump.core.sending.sender import GaveUp, Patience
from scapy_netdump.core.sending.window import WindowSender
from scapy_netdump.formats import FINISHED, HERALD, KDH, VMCORE
from scapy_netdump.wire import ack, messages

PORT = 40_000
NETDUMPD_BUFFER = 128 << 10


def made(vmcore: bytes, payload: int = 1448, patience: Patience | None = None) -> WindowSender:
    return WindowSender(Content(vmcore), b"", payload, patience or Patience())


def started(vmcore: bytes, payload: int = 1448) -> WindowSender:
    """A sender whose HERALD was acked after 1 ms, at time 0."""
    sender = made(vmcore, payload)
    assert sent(sender, -0.001) == [1]
    sender.receive(ack(1), PORT, 0.0)
    return sender


def sent(sender: WindowSender, now: float) -> list[int]:
    """The numbers of all messages that it sends at this moment."""
    found = []
    while (burst := sender.next_burst(now)) is not None:
        for start in range(0, len(burst.data), burst.size):
            (message,) = messages(burst.data[start : start + burst.size])
            found.append(message.seqno)
    return found


def acks(sender: WindowSender, *seqnos: int, now: float) -> None:
    sender.receive(b"".join(map(ack, seqnos)), PORT, now)


@pytest.mark.parametrize("payload", [1448, 4096, 8948])
def test_it_begins_with_what_a_stock_netdumpd_has_room_for(payload: int) -> None:
    first = sent(started(bytes(10_000_000), payload), 0.0)
    assert len(first) * (payload + 24) <= NETDUMPD_BUFFER * 3 / 4
    if payload == 1448:
        assert len(first) == 64


def test_bursts_are_filled_up_when_a_quarter_of_the_window_is_free() -> None:
    sender = started(bytes(1_000_000))
    first = sent(sender, 0.0)
    acks(sender, *first[:15], now=0.001)
    assert sent(sender, 0.001) == []
    acks(sender, first[15], now=0.001)
    assert len(sent(sender, 0.001)) == 16


def test_a_burst_fits_one_send() -> None:
    sender = made(bytes(1_000_000), 100)
    link = Link()
    largest = 0
    while not sender.done:
        while (burst := sender.next_burst(link.time)) is not None:
            largest = max(largest, len(burst.data))
            link._carry([(burst.data, burst.size)], True, burst.port)
        link.step(sender)
    assert 60_000 < largest <= 65_507


def test_what_three_later_ones_have_overtaken_is_sent_again_at_once() -> None:
    sender = started(bytes(1_000_000))
    first = sent(sender, 0.0)
    acks(sender, *first[1:3], now=0.001)
    assert sent(sender, 0.001) == []
    acks(sender, first[3], now=0.001)
    assert sent(sender, 0.001) == first[:1]
    assert sender.counters.retransmissions == 1


def test_a_burst_full_of_lost_messages_is_not_the_end_of_the_file() -> None:
    sender = started(bytes(1_000_000))
    first = sent(sender, 0.0)
    acks(sender, *first[44:], now=0.001)
    again = sender.next_burst(0.001)
    assert again is not None
    assert [message.seqno for message in messages(again.data)] == first[:44]  # all that fit
    new = sent(sender, 0.001)
    assert len(new) == 20
    acks(sender, *first[:44], *new, now=0.002)
    following = sender.next_burst(0.002)
    assert following is not None
    assert {message.type for message in messages(following.data)} == {VMCORE}


def test_a_message_lost_twice_is_sent_a_third_time_without_waiting() -> None:
    sender = started(bytes(1_000_000))
    first = sent(sender, 0.0)
    acks(sender, *first[1:40], now=0.001)
    again = sent(sender, 0.001)
    assert again[0] == first[0]
    later = again[1:]  # new ones, sent behind it
    acks(sender, *first[40:], *later, now=0.002)
    assert sent(sender, 0.002)[0] == first[0]


def test_only_what_was_lost_is_sent_again() -> None:
    link = Link(rates=Rates(loss=0.03), seed=5)
    sender = made(Random(0).randbytes(2_000_000))
    link.run(sender)
    assert link.dropped > 50
    assert sender.counters.retransmissions == link.dropped


def test_after_messages_out_of_order_it_waits_a_little_longer() -> None:
    link = Link(rates=Rates(reorder=0.05), seed=5)
    sender = made(Random(0).randbytes(4_000_000))
    link.run(sender)
    assert link.out.reordered > 100
    assert sender.counters.retransmissions < link.out.reordered / 5


def test_reordering_and_loss_together_cost_little_more_than_the_loss() -> None:
    link = Link(rates=Rates(loss=0.03, reorder=0.03), seed=5)
    sender = made(Random(0).randbytes(4_000_000))
    link.run(sender)
    assert sender.counters.retransmissions < 1.2 * link.dropped


def test_when_nothing_comes_back_one_message_is_sent_to_probe() -> None:
    sender = started(bytes(1_000_000))
    first = sent(sender, 0.0)
    due = sender.deadline()
    assert due == pytest.approx(0.2)  # the least time-out
    assert sent(sender, due - 0.01) == []
    assert sent(sender, due) == first[-1:]
    assert sender.deadline() == pytest.approx(due + 0.4)  # and then twice as long


def test_the_probes_ack_tells_that_all_before_it_are_lost() -> None:
    sender = started(bytes(1_000_000))
    first = sent(sender, 0.0)
    sent(sender, 0.2)
    acks(sender, first[-1], now=0.201)
    assert set(sent(sender, 0.202)) >= set(first[:30])


def test_a_server_that_only_slept_gets_nothing_twice_but_the_probe() -> None:
    sender = started(bytes(1_000_000))
    first = sent(sender, 0.0)
    assert sent(sender, 0.2) == first[-1:]
    acks(sender, *first, first[-1], now=0.25)
    assert min(sent(sender, 0.25)) > first[-1]
    assert sender.counters.retransmissions == 1


def test_the_end_of_a_dump_is_probed_soon_but_once_only() -> None:
    """Its last messages are lost: none comes later that would tell."""
    sender = started(bytes(1448 * 20))
    first = sent(sender, 0.0)
    acks(sender, *first[:-2], now=0.001)
    assert sent(sender, 0.001) == []
    due = sender.deadline()
    assert 0.01 < due < 0.05
    assert sent(sender, due) == first[-1:]
    assert sent(sender, due + 0.19) == []
    acks(sender, first[-1], now=due + 0.191)
    assert sent(sender, due + 0.192) == first[-2:-1]


def test_while_there_is_more_to_send_a_silent_server_is_given_its_time() -> None:
    sender = started(bytes(1_000_000))
    first = sent(sender, 0.0)
    acks(sender, *first[:-2], now=0.001)
    later = sent(sender, 0.001)
    assert later
    assert sender.deadline() == pytest.approx(0.201)


def test_acks_that_come_when_a_message_is_due_again_are_in_time() -> None:
    """Declared lost, and acked before it could be sent again: not sent again."""
    sender = started(bytes(1_000_000))
    first = sent(sender, 0.0)
    acks(sender, *first[1:10], now=0.001)
    acks(sender, first[0], *first[10:20], now=0.001)
    assert min(sent(sender, 0.001)) > first[-1]


def test_it_opens_while_nothing_is_lost() -> None:
    link = Link(delay=0.005)
    sender = made(bytes(4_000_000))
    link.run(sender)
    assert sender.window > 256


def test_it_stays_where_it_is_when_the_server_is_busy_anyway() -> None:
    link = Link(delay=1e-5, service=1e-4)  # most of a round trip is waiting
    sender = made(bytes(2_000_000))
    link.run(sender)
    assert sender.window == 64


@pytest.mark.parametrize("buffer", [20_000, 50_000, 100_000])
def test_it_closes_when_the_receivers_buffer_overflows(buffer: int) -> None:
    link = Link(delay=1e-4, service=2e-5, buffer=buffer)
    sender = made(Random(0).randbytes(4_000_000))
    link.run(sender)
    assert link.server.vmcores()[0] == sender._source._dump.read(0, 4_000_000)
    assert link.overflowed < 0.15 * sender.counters.messages
    assert link.overflowed == sender.counters.retransmissions
    assert link.time < 1.0


def test_a_few_random_losses_do_not_close_it() -> None:
    link = Link(rates=Rates(loss=0.01), seed=1)
    sender = made(bytes(4_000_000))
    link.run(sender)
    assert sender.window >= 64


@pytest.mark.parametrize("loss", [0.1, 0.2])
def test_losses_that_do_not_depend_on_it_do_not_keep_it_closed(loss: float) -> None:
    link = Link(rates=Rates(loss=loss), seed=1)
    sender = made(Random(0).randbytes(2_000_000))
    windows = []
    while not sender.done:
        link.send(sender)
        link.step(sender)
        windows.append(sender.window)
    assert sorted(windows)[len(windows) // 2] >= 32
    assert sender.counters.retransmissions < 1.2 * link.dropped


def test_finished_is_sent_when_all_else_is_acked() -> None:
    link = Link(rates=Rates(loss=0.1), seed=2)
    sender = made(bytes(300_000))
    acked_before = []
    while not sender.done:
        count = len(link.transmitted)
        link.send(sender)
        if any(kind == FINISHED for _, kind, _ in link.transmitted[count:]):
            acked_before.append(sender.counters.acknowledged)
        link.step(sender)
    assert set(acked_before) == {300_000}


@pytest.mark.parametrize("kind", [HERALD, VMCORE, FINISHED])
@pytest.mark.parametrize("patience", [Patience(), Patience(polls=100, retries=3)])
def test_it_gives_up_when_the_kernel_would(kind: int, patience: Patience) -> None:
    link = Link()
    sender = made(bytes(100_000), patience=patience)
    link.send(sender)
    while link.transmitted[-1][1] != kind:
        link.step(sender)
        link.send(sender)
    link.server.deaf = True
    silent = link.time
    with pytest.raises(GaveUp) as end:
        link.run(sender)
    assert end.value.kind == kind
    assert link.time - silent == pytest.approx(patience.total, rel=0.2)
    tries = sum(1 for _, of_kind, _ in link.transmitted if of_kind == kind)
    assert tries >= 5 or kind == VMCORE


def test_giving_up_names_the_first_byte_that_is_not_acked() -> None:
    sender = started(bytes(500_000))
    first = sent(sender, 0.0)
    acks(sender, *first[:10], *first[11:20], now=0.001)
    for turn in range(120):  # 12 s after the latest ack
        sent(sender, turn * 0.1)
    with pytest.raises(GaveUp) as end:
        sent(sender, 12.002)
    assert (end.value.kind, end.value.offset) == (VMCORE, 10 * 1448)


def test_the_header_travels_with_the_data() -> None:
    sender = started(bytes(1448 * 3))
    assert sent(sender, 0.0) == [2, 3, 4, 5]
    acks(sender, 5, 4, 3, now=0.001)
    assert sent(sender, 0.001) == []
    acks(sender, 2, now=0.001)
    burst = sender.next_burst(0.001)
    assert burst is not None
    assert [message.type for message in messages(burst.data)] == [FINISHED]
    assert KDH not in [message.type for message in messages(burst.data)]


@pytest.mark.parametrize(("delay", "factor"), [(0.0005, 3), (0.005, 5)])
def test_it_is_faster_than_the_kernel(delay: float, factor: float) -> None:
    vmcore = bytes(8_000_000)
    times = []
    for sender in (made(vmcore), KernelSender(Content(vmcore), b"", 1448, Patience())):
        link = Link(delay=delay)
        link.run(sender)
        times.append(link.time)
    assert times[1] > factor * times[0]
