# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages that are too large for the server, or for the way to it, become smaller."""

from __future__ import annotations

from random import Random

import pytest
from helpers.link import Content, Link, Server
from hypothesis import given, settings
from hypothesis import strategies as st

from scapy_netdump.core.receiving.events import SUCCESS
from scapy_netdump.core.sending.faults import Rates
from scapy_netdump.core.sending.sender import GaveUp, Patience
from scapy_netdump.core.sending.window import WindowSender
from scapy_netdump.formats import EKCD_KEY, VMCORE
from scapy_netdump.kerneldump.key import DumpKey
from scapy_netdump.wire import HEADER_SIZE

NETDUMPD = 4096


class Narrow(Server):
    """Takes payloads of up to ``most`` bytes between two times, any other time all."""

    def __init__(self, most: int, since: float = 0.0, until: float = float("inf")) -> None:
        super().__init__()
        self.most, self.since, self.until = most, since, until
        self.refused: list[float] = []

    def take(self, datagram: bytes, port: int, now: float) -> list[tuple[bytes, int]]:
        if len(datagram) - HEADER_SIZE > self.most and self.since <= now < self.until:
            self.refused.append(now)
            return []
        return super().take(datagram, port, now)


def sender(vmcore: bytes, payload: int = 8948, key: bytes = b"") -> WindowSender:
    return WindowSender(Content(vmcore, key), b"", payload, Patience())


@pytest.mark.parametrize("size", [1, 5000, 9000, 100_000, 3_000_000])
@pytest.mark.parametrize(("payload", "most", "used"), [
    (8948, NETDUMPD, 4096), (65_483, NETDUMPD, 4096), (8948, 1448, 1448), (1448, 1000, 524),
    (65_483, 600, 524),
])  # fmt: skip
def test_a_server_that_takes_less_gets_less(size: int, payload: int, most: int, used: int) -> None:
    vmcore = Random(size).randbytes(size)
    link = Link(server=Narrow(most))
    sending = sender(vmcore, payload)
    link.run(sending, patience=60)
    assert link.server.vmcores() == [vmcore]
    assert [ended.reason for ended in link.server.ended] == [SUCCESS]
    assert sending.counters.acknowledged == size
    if size > most:
        assert sending.counters.payload == used
    assert link.time < 11  # of the patience with a silent server, 12


def test_a_key_that_arrives_proves_nothing_of_larger_messages() -> None:
    key = DumpKey(2, bytes(32), bytes(256)).pack(4096)
    link = Link(server=Narrow(NETDUMPD))
    link.run(sender(bytes(200_000), key=key), patience=60)
    assert bytes(link.server.sinks.dumps[0].files[EKCD_KEY]) == key
    assert link.server.ended[0].reason == SUCCESS


@pytest.mark.parametrize("payload", [1448, 8948])
def test_a_server_that_slept_gets_large_messages_again(payload: int) -> None:
    """It takes what waited for it."""
    link = Link(delay=0.001, buffer=2_000_000)
    sending = sender(Random(0).randbytes(20_000_000), payload)
    while sending.counters.acknowledged < 1_000_000:
        link.send(sending)
        link.step(sending)
    link._busy_until = link.time + 8  # it does not look at its socket
    while sending.counters.payload == payload:
        link.send(sending)
        link.step(sending)
    link.run(sending, patience=60)
    assert sending.counters.payload == payload
    assert link.server.ended[0].reason == SUCCESS


def test_when_large_messages_pass_again_they_are_sent_again() -> None:
    link = Link(delay=0.05, server=Narrow(1000, 0.15, 8.0))
    sending = sender(bytes(150_000_000), 1448)
    sizes = []
    while not sending.done:
        link.send(sending)
        link.step(sending)
        sizes += [sending.counters.payload] if sizes[-1:] != [sending.counters.payload] else []
    assert sizes == [1448, 1208, 524, 1208, 1448]
    assert link.server.ended[0].reason == SUCCESS


def test_asking_for_large_messages_costs_little() -> None:
    narrow = Narrow(1000)
    link = Link(delay=0.2, server=narrow)
    sending = sender(bytes(20_000_000), 1448)
    link.run(sending, patience=1000)
    later = [time for time in narrow.refused if time > 6]
    assert link.time > 10
    assert 2 <= len(later) <= 4


def test_a_server_that_is_silent_is_given_up_as_ever() -> None:
    link = Link(server=Narrow(0, since=0.0))
    sending = sender(bytes(100_000))
    with pytest.raises(GaveUp) as end:
        link.run(sending)
    assert (end.value.kind, end.value.offset) == (VMCORE, 0)
    assert link.time == pytest.approx(12, rel=0.1)
    assert sending.counters.payload == 524


@given(
    seed=st.integers(0, 1 << 32),
    size=st.integers(1, 400_000),
    payload=st.sampled_from([524, 1448, 4096, 8948, 65_483]),
    most=st.integers(524, 9000),
    since=st.floats(0, 0.02),
    lasts=st.floats(0, 20),
    loss=st.floats(0, 0.05),
)
@settings(max_examples=40)
def test_whatever_the_way_takes_the_dump_arrives(
    seed: int, size: int, payload: int, most: int, since: float, lasts: float, loss: float
) -> None:
    vmcore = Random(seed).randbytes(size)
    key = DumpKey(2, bytes(32), bytes(256)).pack(4096)
    rates = Rates(loss=loss, reorder=loss, duplicate=loss)
    link = Link(rates=rates, seed=seed, server=Narrow(most, since, since + lasts))
    sending = sender(vmcore, payload, key)
    link.run(sending, patience=300)
    number = link.server.vmcores().index(vmcore)  # a HERALD that comes late begins another
    assert bytes(link.server.sinks.dumps[number].files[EKCD_KEY]) == key
    assert link.server.ended[-1].reason == SUCCESS
    assert sending.counters.acknowledged == size
