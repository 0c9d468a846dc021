# SPDX-License-Identifier: GPL-2.0-or-later
"""The receiver under any traffic, against a model that remembers bytes one by one.

Whatever comes: an ack means that the sink has the bytes; the first value of a byte stays, and
another one is kept beside it; a client has at most one dump that runs and one that waits for data;
HERALDs harm nothing.
"""

from __future__ import annotations

from helpers.receiving import MemorySinks, message
from helpers.traffic import header
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from scapy_netdump import wire
from scapy_netdump.core.receiving.events import Discarded, Ended, Event, OffLimits, WriteFailed
from scapy_netdump.core.receiving.limits import Limits
from scapy_netdump.core.receiving.receiver import Receiver
from scapy_netdump.core.receiving.session import Phase, Session
from scapy_netdump.errors import StoreError
from scapy_netdump.formats import FINISHED, HERALD, KDH, VMCORE

CLIENTS = [("192.0.2.2", 20024), ("192.0.2.3", 20024), ("192.0.2.4", 20024)]
LIMITS = Limits(
    dump_size=400, clients=2, heralds=1e9, expiry=600.0, herald_expiry=60.0, linger=30.0
)

datagrams = st.one_of(
    st.builds(
        message,
        st.just(VMCORE),
        st.integers(0, 2**32 - 1),
        st.integers(0, 420),
        st.binary(max_size=30),
    ),
    st.builds(message, st.just(FINISHED), st.integers(0, 9)),
    st.builds(message, st.just(KDH), st.integers(0, 9), st.just(0), st.just(header(200))),
    st.builds(message, st.just(HERALD), st.integers(0, 9)),
    st.builds(message, st.just(VMCORE), st.just(1), st.just(2**64 - 1), st.just(b"far")),
    st.binary(max_size=60),
)


@st.composite
def in_order(draw: st.DrawFn) -> list[bytes]:
    """Messages as the kernel sends them, some left out, changed or repeated."""
    size, first = draw(st.integers(1, 12)), draw(st.integers(0, 100))
    parts = [
        message(VMCORE, n, first + n * size, bytes([n]) * size)
        for n in range(draw(st.integers(1, 20)))
    ]
    return draw(st.lists(st.sampled_from(parts), max_size=20)) if draw(st.booleans()) else parts


class Server(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.sinks = MemorySinks()
        self.receiver = Receiver(self.sinks, LIMITS)
        self.now = 0.0
        self.sessions: list[Session] = []
        self.models: dict[int, dict[int, int]] = {}
        self.events: list[Event] = []
        self.gone: list[Session] = []

    @rule(client=st.sampled_from(CLIENTS), seqno=st.integers(0, 9))
    def herald(self, client: tuple[str, int], seqno: int) -> None:
        before = [
            (session, session.phase)
            for session in self.sessions
            if session.phase is not Phase.WAITING
        ]
        answer = self.receiver.herald(client, "192.0.2.1", message(HERALD, seqno), self.now)
        if answer is not None:
            session, ack = answer
            assert ack == wire.ack(seqno)
            assert session.phase is Phase.WAITING
            if session not in self.sessions:
                self.sessions.append(session)
                self.models[session.number] = {}
        assert all(session.phase is phase for session, phase in before)

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), burst=st.lists(datagrams, min_size=1, max_size=5) | in_order())
    def receive(self, data: st.DataObject, burst: list[bytes]) -> None:
        session = data.draw(st.sampled_from(self.sessions[-4:]))
        phase = session.phase
        burst = [sent[:4] + wire.ack(place) + sent[8:] for place, sent in enumerate(burst)]
        acks = session.receive(b"".join(burst), self.now, [len(datagram) for datagram in burst])
        self.take()
        acked = list(wire.acks(acks))
        assert acked == sorted(acked)
        assert not acked or phase is not Phase.OVER or session.successor is not None
        for place in acked:
            self.check_acked(session, burst[place])

    def check_acked(self, session: Session, datagram: bytes) -> None:
        """What was acked is in the sink of a dump of this client: for each byte the value that was
        acked first, and a message that had others is kept whole."""
        (found,) = wire.messages(datagram)
        assert found.type != HERALD
        if found.type != VMCORE:
            return
        payload, end = datagram[found.start :], found.offset + found.len
        line = [session]
        while line[-1].successor is not None:
            line.append(line[-1].successor)
        sinks = [self.sinks.dumps[one.number - 1] for one in line]
        here = [sink.read(VMCORE, found.offset, end) == payload for sink in sinks]
        beside = [(VMCORE, found.offset, payload) in sink.others for sink in sinks]
        assert any(here) or any(beside)
        model = self.models.get(session.number)
        if len(line) == 1 and model is not None:
            for at, value in enumerate(payload, found.offset):
                model.setdefault(at, value)
            expected = bytes(model[at] for at in range(found.offset, end))
            assert sinks[0].read(VMCORE, found.offset, end) == expected
            assert beside[0] or expected == payload

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), offset=st.integers(0, 300))
    def disk_fails(self, data: st.DataObject, offset: int) -> None:
        def fail(kind: int, at: int) -> None:
            if at >= offset:
                raise StoreError("full")

        data.draw(st.sampled_from(self.sessions[-4:])).sink.fail = fail

    @rule(seconds=st.sampled_from([0.1, 5.0, 31.0, 61.0, 601.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.receiver.expire(self.now)
        deadline = self.receiver.deadline()
        assert deadline is None or deadline > self.now

    @rule()
    def take(self) -> None:
        events, closings, moved, gone = self.receiver.take()
        for _, new in moved:
            if new not in self.sessions:
                self.sessions.append(new)
            self.models.pop(new.number, None)  # it has what both dumps have in common
        self.events += [*events, *(closing.run(self.now) for closing in closings)]
        self.gone += gone

    @invariant()
    def a_client_has_one_dump_that_runs_and_one_that_waits(self) -> None:
        for phase in (Phase.WAITING, Phase.RUNNING):
            clients = [session.client for session in self.sessions if session.phase is phase]
            assert len(clients) == len(set(clients))
        at_once = {s.client for s in self.sessions if s.phase in (Phase.WAITING, Phase.RUNNING)}
        assert len(at_once) <= LIMITS.clients

    @invariant()
    def nothing_is_written_twice(self) -> None:
        for sink in self.sinks.dumps:
            for written in sink.written.values():
                places = [at for start, end in written for at in range(start, end)]
                assert len(places) == len(set(places))
            assert len(sink.files[VMCORE]) <= LIMITS.dump_size

    @invariant()
    def coverage_is_what_the_sink_has(self) -> None:
        for session in self.sessions:
            sink = self.sinks.dumps[session.number - 1]
            written = {at for start, end in sink.written[VMCORE] for at in range(start, end)}
            assert written == {
                at for start, end in session.account.vmcore for at in range(start, end)
            }

    def teardown(self) -> None:
        self.receiver.stop(self.now)
        self.take()
        assert list(self.receiver.sessions()) == []
        numbers = sorted(session.number for session in self.sessions)
        assert sorted(session.number for session in self.gone) == numbers
        ends = [event.dump for event in self.events if isinstance(event, Ended | Discarded)]
        assert sorted(ends) == numbers
        for event in self.events:
            if isinstance(event, Ended) and event.reason == "success":
                assert event.complete
                assert event.missing == []
                assert not self.sinks.dumps[event.dump - 1].others
            assert not isinstance(event, OffLimits) or event.offset + event.length > 400
            assert not isinstance(event, WriteFailed) or event.error == "full"


Server.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestServer = Server.TestCase
