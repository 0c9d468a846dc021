# SPDX-License-Identifier: GPL-2.0-or-later
"""Datagrams alone or many at once, by the short way or the long one: the same comes of it."""

from __future__ import annotations

from collections.abc import Callable

from helpers.receiving import MemorySink, message
from helpers.traffic import header
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump import wire
from scapy_netdump.core.receiving.limits import Limits
from scapy_netdump.core.receiving.session import Session
from scapy_netdump.errors import StoreError
from scapy_netdump.formats import EKCD_KEY, FINISHED, KDH, VMCORE

#: The limit on ranges looks at a run as a whole, of which the first may be an island by itself.
LIMITS = Limits(dump_size=600, jump=200)
FEW_RANGES = Limits(dump_size=600, jump=200, ranges=6)
CLIENT = ("192.0.2.2", 20024)

Burst = list[bytes]
Outcome = tuple[object, ...]


class LongWay(Session):
    """A session without the short way for what comes in order and alone."""

    def _take_next(self, datagram: memoryview, now: float) -> bytes:
        return b""


def each(session: Session, burst: Burst) -> bytes:
    return b"".join(session.receive(datagram, 1.0) for datagram in burst)


def at_once(session: Session, burst: Burst) -> bytes:
    return session.receive(b"".join(burst), 1.0, [len(datagram) for datagram in burst])


def outcome(
    make: type[Session],
    receive: Callable[[Session, Burst], bytes],
    bursts: list[Burst],
    limits: Limits = LIMITS,
    full: int = 2**64,
) -> Outcome:
    """The acks, and what the session and its files are like at the end.

    A write of a vmcore that begins at ``full`` or behind it fails.
    """
    sink = MemorySink("info")

    def fail(kind: int, offset: int) -> None:
        if kind == VMCORE and offset >= full:
            raise StoreError("full")

    sink.fail = fail
    session = make(1, CLIENT, "192.0.2.1", sink, limits, 0.0)
    acks = [receive(session, burst) for burst in bursts]
    return (
        acks,
        sink.files,
        sink.others,
        list(session.account.vmcore),
        session.phase,
        session.last,
        (session.messages, session.repeated, session.ignored, session.account.conflicting_bytes),
    )


vmcore = st.builds(
    message,
    st.just(VMCORE),
    st.integers(0, 2**32 - 1),
    st.integers(0, 60).map(lambda place: 10 * place) | st.integers(0, 2**64 - 1),
    st.sampled_from([5, 10, 10, 10, 20]).flatmap(lambda size: st.binary(max_size=size)),
)
others = st.sampled_from(
    [
        message(KDH, 1, 0, header(600)),
        message(EKCD_KEY, 2, 0, b"key"),
        message(FINISHED, 3),
        message(VMCORE, 4),
        message(VMCORE, 5, 0, b"short")[:-1],
        b"",
    ]
)


@st.composite
def series(draw: st.DrawFn) -> Burst:
    """Messages of one size in order, some of them missing, repeated, changed or moved."""
    start, number = draw(st.integers(0, 30)), draw(st.integers(1, 24))
    fill = draw(st.sampled_from([b"x", b"x", b"y"]))
    sent = [message(VMCORE, n, 10 * (start + n), fill * 10) for n in range(number)]
    match draw(st.integers(0, 2)):
        case 1:
            return [datagram for datagram in sent if draw(st.integers(0, 5))]
        case 2:
            return draw(st.lists(st.sampled_from(sent), max_size=20))
    return sent


traffic = st.lists(series() | st.lists(vmcore | others, max_size=6), max_size=6)


@given(traffic, st.just(2**64) | st.integers(0, 400))
def test_the_short_way_does_what_the_long_one_does(bursts, full):
    short = outcome(Session, each, bursts, FEW_RANGES, full)
    assert short == outcome(LongWay, each, bursts, FEW_RANGES, full)


@given(traffic)
def test_many_at_once_are_taken_as_each_by_itself(bursts):
    assert outcome(Session, at_once, bursts) == outcome(LongWay, each, bursts)


def series_of(first: int, after: int, size: int = 100) -> Burst:
    return [message(VMCORE, n, size * n, bytes([n]) * size) for n in range(first, after)]


def test_a_burst_with_a_hole_is_two_writes_and_the_repeats_one_comparison():
    sink = MemorySink("info")
    session = Session(1, CLIENT, "192.0.2.1", sink, Limits(), 0.0)
    sent = series_of(0, 40)
    acks = at_once(session, [*sent[:17], *sent[18:]])
    assert len(wire.acks(acks)) == 39
    assert sink.written[VMCORE] == [(0, 1700), (1800, 4000)]
    read: list[tuple[int, int]] = []
    original = sink.read
    sink.read = lambda kind, start, end: (  # type: ignore[method-assign]
        read.append((start, end)) or original(kind, start, end)  # type: ignore[func-returns-value]
    )
    assert len(wire.acks(at_once(session, sent[20:30]))) == 10
    assert read == [(2000, 3000)]
    assert (session.repeated, session.account.conflicting_bytes) == (10, 0)


def test_what_is_next_and_alone_is_written_before_its_ack():
    sink = MemorySink("info")
    session = Session(1, CLIENT, "192.0.2.1", sink, Limits(), 0.0)
    for datagram in series_of(0, 5):
        before = len(sink.log)
        assert session.receive(datagram, 1.0) == datagram[4:8]
        assert sink.log[before:] == ["write"]
    assert list(session.account.vmcore) == [(0, 500)]
