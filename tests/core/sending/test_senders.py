# SPDX-License-Identifier: GPL-2.0-or-later
"""Both disciplines over a bad network to the server's own core: what arrives is what was sent."""

from __future__ import annotations

from random import Random

import pytest
from helpers.link import CLIENT, Content, Link
from hypothesis import given, settings
from hypothesis import strategies as st

from scapy_netdump import formats
from scapy_netdump.core.receiving.events import SUCCESS
from scapy_netdump.core.sending.faults import Rates
from scapy_netdump.core.sending.kernel import KernelSender
from scapy_netdump.core.sending.sender import GaveUp, Patience, Sender
from scapy_netdump.core.sending.window import WindowSender
from scapy_netdump.errors import NetdumpError
from scapy_netdump.kerneldump.key import DumpKey
from scapy_netdump.wire import acks

DISCIPLINES = [WindowSender, KernelSender]
#: Under heavy faults the default patience of 12 transmissions may end.
STUBBORN = Patience(retries=100)


def sender(
    discipline: type, vmcore: bytes, payload: int = 1448, key: bytes = b"", path: bytes = b""
) -> Sender:
    made: Sender = discipline(Content(vmcore, key), path, payload, STUBBORN)
    return made


#: What may come from anywhere, but for the HERALD's own ack: that one cannot be told from right.
strays = st.binary(max_size=12).filter(lambda data: 1 not in acks(data))


def rates(most: float) -> st.SearchStrategy[Rates]:
    each = st.floats(0, most)
    return st.builds(Rates, each, each, each, each)


@pytest.mark.parametrize("discipline", DISCIPLINES)
@given(
    rates=rates(0.15),
    seed=st.integers(0, 1 << 32),
    size=st.integers(1, 100_000),
    payload=st.sampled_from([512, 1448, 8948]),
    delay=st.sampled_from([1e-5, 1e-3]),
)
@settings(max_examples=15)
def test_a_finished_transfer_is_identical(
    discipline: type, rates: Rates, seed: int, size: int, payload: int, delay: float
) -> None:
    vmcore = Random(seed).randbytes(size)
    random = Random(seed + 1)
    key = DumpKey(2, random.randbytes(32), random.randbytes(256)).pack(4096)
    link = Link(delay=delay, rates=rates, seed=seed)
    link.run(sender(discipline, vmcore, payload, key))
    number = link.server.vmcores().index(vmcore)  # a HERALD that comes late begins another
    assert bytes(link.server.sinks.dumps[number].files[formats.EKCD_KEY]) == key
    assert link.server.ended[-1].reason == SUCCESS


@pytest.mark.parametrize("discipline", DISCIPLINES)
@given(rates=rates(0.1), seed=st.integers(0, 1 << 32), at=st.floats(0, 0.1))
@settings(max_examples=15)
def test_what_the_client_counts_as_taken_the_server_has(
    discipline: type, rates: Rates, seed: int, at: float
) -> None:
    """Even if the server falls silent at any moment."""
    vmcore = Random(seed).randbytes(100_000)
    link = Link(rates=rates, seed=seed)
    sending = discipline(Content(vmcore), b"", 1448, Patience(polls=20, retries=2))
    certain = 0
    try:
        while not sending.done:
            link.server.deaf = link.time >= at
            link.send(sending)
            link.step(sending)
    except GaveUp as end:
        certain = end.offset if end.kind == formats.VMCORE else 0
    link.server.stop(link.time)
    dumps = link.server.vmcores()
    if certain:
        assert dumps[-1][:certain] == vmcore[:certain]
    assert sending.counters.acknowledged <= max(map(len, dumps), default=0)
    for ended, held in zip(link.server.ended, dumps, strict=False):
        assert held == vmcore or not ended.complete


@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_the_order_is_the_kernels(discipline: type) -> None:
    link = Link()
    link.run(sender(discipline, bytes(100_000), key=bytes(4096), path=b"lab"))
    kinds = [kind for _, kind, _ in link.transmitted]
    order = [kind for at, kind in enumerate(kinds) if at == 0 or kinds[at - 1] != kind]
    assert order == [
        formats.HERALD, formats.EKCD_KEY, formats.VMCORE, formats.KDH, formats.FINISHED,
    ]  # fmt: skip
    assert [seqno for _, _, seqno in link.transmitted] == list(range(1, len(kinds) + 1))
    assert kinds.count(formats.EKCD_KEY) == 3  # 1448, 1448, 1200: PROTOCOL.md
    assert link.server.sinks.asked == [(CLIENT[0], b"lab")]


@pytest.mark.parametrize("discipline", DISCIPLINES)
@pytest.mark.parametrize("payload", [1448, 4096, 65_483])
def test_nothing_is_sent_twice_on_a_clean_link(discipline: type, payload: int) -> None:
    link = Link()
    sending = sender(discipline, Random(0).randbytes(3_000_000), payload)
    link.run(sending)
    assert sending.counters.retransmissions == 0
    assert sending.counters.messages == len(link.transmitted)
    assert sending.counters.acknowledged == 3_000_000
    assert link.server.ended[0].repeated == 0


@pytest.mark.parametrize("discipline", DISCIPLINES)
@pytest.mark.parametrize("discarded", [0, 3])
def test_any_ack_before_the_heralds_own_sets_the_port_and_later_ones_do_not(
    discipline: type, discarded: int
) -> None:
    sending = sender(discipline, bytes(1000))
    burst = sending.next_burst(0.0)
    assert burst is not None
    assert burst.port == formats.HERALD_PORT
    sending.receive(b"\0\0\0\1" + bytes(discarded), 4000, 0.1)  # not a multiple of four: no ack
    assert (sending.next_burst(0.1) is None) == (discarded > 0)
    sending.receive(b"\0\0\0\1", 4000, 0.2)
    sending.next_burst(0.2)
    sending.receive(b"\0\0\0\2", 5000, 0.2)  # of another dump, or forged
    assert sending.counters.acknowledged == 0
    sending.receive(b"\0\0\0\2", 4000, 0.2)
    assert sending.counters.acknowledged == 1000


@pytest.mark.parametrize("discipline", DISCIPLINES)
@given(herald_port=st.integers(1, 65_535), port=st.integers(1, 65_535))
@settings(max_examples=20)
def test_only_the_herald_goes_to_the_herald_port_that_is_given(
    discipline: type, herald_port: int, port: int
) -> None:
    """Each time that it goes out; all else goes to where the HERALD's ack came from."""
    sending = discipline(Content(bytes(3000)), b"", 1448, Patience(), herald_port=herald_port)
    for now in (0.0, 1.0):
        burst = sending.next_burst(now)
        assert burst is not None
        assert burst.port == herald_port
    sending.receive(b"\0\0\0\1", port, 1.1)
    burst = sending.next_burst(1.1)
    assert burst is not None
    assert burst.port == port


@pytest.mark.parametrize("discipline", DISCIPLINES)
@given(payloads=st.lists(strays, max_size=30), port=st.sampled_from([1, 20023]))
@settings(max_examples=50)
def test_no_datagram_does_harm(discipline: type, payloads: list[bytes], port: int) -> None:
    """Acks of what was never sent, runts, anything."""
    link = Link()
    sending = sender(discipline, bytes(20_000))
    for payload in payloads[:15]:
        sending.receive(payload, port, 0.0)
    link.send(sending)
    link.step(sending)
    link.step(sending)  # the HERALD is acked
    for payload in payloads[15:]:
        sending.receive(payload, port, link.time)
    link.run(sending)
    assert link.server.ended[0].complete


@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_a_path_must_fit_into_one_message(discipline: type) -> None:
    link = Link()
    link.run(sender(discipline, bytes(100), payload=64, path=b"p" * 63))
    assert link.server.sinks.asked == [(CLIENT[0], b"p" * 63)]
    with pytest.raises(NetdumpError, match="does not fit"):
        sender(discipline, bytes(100), payload=64, path=b"p" * 64)
