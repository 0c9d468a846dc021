# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's way to send, by what was seen of it (PROTOCOL.md) and debugnet.c."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from helpers.link import Content, Link

from scapy_netdump.core.sending.faults import Rates
from scapy_netdump.core.sending.kernel import CHUNK, KernelSender
from scapy_netdump.core.sending.sender import GaveUp, Patience
from scapy_netdump.formats import FINISHED, HERALD, HERALD_PORT, KDH, VMCORE
from scapy_netdump.wire import ack, messages

PORT = 40_000
IN_A_CHUNK = 46  # 45 x 1448 + 376


def started(vmcore: bytes, *, ack_bug: bool = False, polls: int = 2000) -> KernelSender:
    """A sender whose HERALD is acked, at time 0."""
    sender = KernelSender(Content(vmcore), b"", 1448, Patience(polls), ack_bug=ack_bug)
    assert sent(sender, 0.0) == [1]
    sender.receive(ack(1), PORT, 0.0)
    return sender


def sent(sender: KernelSender, now: float) -> list[int]:
    """The numbers of all messages that it sends at this moment."""
    found = []
    while (burst := sender.next_burst(now)) is not None:
        for start in range(0, len(burst.data), burst.size):
            (message,) = messages(burst.data[start : start + burst.size])
            found.append(message.seqno)
    return found


def test_a_chunk_is_64_kib_in_payloads_of_the_mtu() -> None:
    sender = started(bytes(3 * CHUNK))
    burst = sender.next_burst(0.0)
    assert burst is not None
    assert burst.port == PORT
    found = messages(burst.data)
    assert [message.len for message in found] == [1448] * 45 + [376]
    assert [message.offset for message in found] == list(range(0, CHUNK, 1448))
    assert {message.type for message in found} == {VMCORE}


def test_the_next_chunk_waits_for_every_ack_of_this_one() -> None:
    sender = started(bytes(2 * CHUNK))
    first = sent(sender, 0.0)
    assert first == list(range(2, 2 + IN_A_CHUNK))
    for seqno in first[1:]:
        sender.receive(ack(seqno), PORT, 0.1)
        assert sent(sender, 0.1) == []
    sender.receive(ack(first[0]), PORT, 0.2)
    assert sent(sender, 0.2) == list(range(2 + IN_A_CHUNK, 2 + 2 * IN_A_CHUNK))


@pytest.mark.parametrize("polls", [2000, 10])
def test_the_unacked_rest_goes_out_again_under_the_same_numbers_after_polls(polls: int) -> None:
    interval = polls * 0.0005
    sender = started(bytes(CHUNK), polls=polls)
    first = sent(sender, 1.0)
    for seqno in first[3:]:
        sender.receive(ack(seqno), PORT, 1.0)
    assert sender.deadline() == pytest.approx(1.0 + interval)
    assert sent(sender, 1.0 + 0.99 * interval) == []
    assert sent(sender, 1.0 + interval) == first[:3]
    sender.receive(ack(first[0]), PORT, 1.0 + 1.1 * interval)  # does not reset the clock
    assert sent(sender, 1.0 + 1.99 * interval) == []
    assert sent(sender, 1.0 + 2 * interval) == first[1:3]
    assert sender.counters.retransmissions == 5


@pytest.mark.parametrize(("retries", "transmissions"), [(10, 12), (0, 2)])
@pytest.mark.parametrize("kind", [HERALD, VMCORE, KDH, FINISHED])
def test_it_gives_up_after_two_transmissions_more_than_retries(
    retries: int, transmissions: int, kind: int
) -> None:
    link = Link()
    sender = KernelSender(Content(bytes(3000)), b"", 1448, Patience(2000, retries))
    link.send(sender)
    while link.transmitted[-1][1] != kind:
        link.step(sender)
        link.send(sender)
    began = link.time
    link.server.deaf = True
    with pytest.raises(GaveUp) as end:
        link.run(sender)
    assert (end.value.kind, end.value.offset) == (kind, 0)
    times = [time for time, of_kind, _ in link.transmitted if of_kind == kind]
    each = Counter(seqno for _, of_kind, seqno in link.transmitted if of_kind == kind)
    assert set(each.values()) == {transmissions}
    assert sorted(set(times)) == pytest.approx([began + turn for turn in range(transmissions)])
    assert link.time == pytest.approx(began + transmissions)


def test_the_herald_goes_to_its_port_again_whatever_answered() -> None:
    sender = KernelSender(Content(bytes(1000)), b"", 1448, Patience())
    assert sent(sender, 0.0) == [1]
    sender.receive(ack(77), 4000, 0.1)
    again = sender.next_burst(1.0)
    assert again is not None
    assert again.port == HERALD_PORT
    sender.receive(ack(1), PORT, 1.1)
    data = sender.next_burst(1.1)
    assert data is not None
    assert data.port == PORT


def test_acks_of_other_chunks_and_repeated_ones_mean_nothing() -> None:
    sender = started(bytes(2 * CHUNK))
    first = sent(sender, 0.0)
    for seqno in (0, 1, first[-1] + 1, first[0] + 64, 1 << 31):
        sender.receive(ack(seqno), PORT, 0.1)
    for _ in range(2):
        for seqno in first[:-1]:
            sender.receive(ack(seqno), PORT, 0.1)
    assert sent(sender, 0.5) == []
    assert sent(sender, 1.0) == first[-1:]


def test_with_the_bug_an_ack_counts_for_those_32_away_too() -> None:
    sender = started(bytes(2 * CHUNK), ack_bug=True)
    first = sent(sender, 0.0)
    for seqno in first[:31]:
        sender.receive(ack(seqno), PORT, 0.1)
    assert sent(sender, 1.0) == [first[31]]  # 32 to 45 count as acked with 0 to 13
    sender.receive(ack(first[31]), PORT, 1.1)
    assert sent(sender, 1.1)[0] == first[-1] + 1


def test_with_the_bug_an_ack_counts_for_those_32_before_too() -> None:
    sender = started(bytes(CHUNK), ack_bug=True)
    first = sent(sender, 0.0)
    for seqno in first[14:]:
        sender.receive(ack(seqno), PORT, 0.1)
    assert sent(sender, 0.1) != []  # the next: all are taken for acked


def test_with_the_bug_chunks_of_up_to_32_messages_are_safe() -> None:
    sender = started(bytes(32 * 1448), ack_bug=True)
    first = sent(sender, 0.0)
    for seqno in first[1:]:
        sender.receive(ack(seqno), PORT, 0.1)
    assert sent(sender, 1.0) == first[:1]


def lossy(*, ack_bug: bool) -> tuple[Link, KernelSender, bytes]:
    vmcore = Random(7).randbytes(20 * CHUNK)
    link = Link(rates=Rates(loss=0.02), seed=3)
    sender = KernelSender(Content(vmcore), b"", 1448, Patience(), ack_bug=ack_bug)
    link.run(sender)
    return link, sender, vmcore


def test_the_bug_leaves_holes_that_the_server_reports() -> None:
    link, sender, vmcore = lossy(ack_bug=True)
    assert sender.counters.acknowledged == len(vmcore)  # so the client believes
    (ended,) = link.server.ended
    assert not ended.complete
    assert ended.missing
    holed = link.server.vmcores()[0]
    assert holed != vmcore
    for start, end in ended.missing:
        assert not any(holed[start:end])


def test_without_the_bug_the_same_network_loses_nothing() -> None:
    link, _, vmcore = lossy(ack_bug=False)
    assert link.server.vmcores() == [vmcore]
    assert link.server.ended[0].complete
