# SPDX-License-Identifier: GPL-2.0-or-later
"""The receiver under any traffic, against a model that remembers bytes one by one.

Whatever comes: an ack means that the sink has the bytes; the first value of a byte stays, and
another one is kept beside it; a client has at most one dump that runs; HERALDs change nothing.
"""

from __future__ import annotations

from helpers.receiving import DataPort, DataPorts, MemorySink, MemorySinks, message
from helpers.traffic import header
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from scapy_netdump import wire
from scapy_netdump.core.receiving.events import Ended, Event, OffLimits, WriteFailed
from scapy_netdump.core.receiving.limits import Limits
from scapy_netdump.core.receiving.receiver import Receiver
from scapy_netdump.core.receiving.session import Phase, Session
from scapy_netdump.core.receiving.sinks import Sink
from scapy_netdump.errors import StoreError
from scapy_netdump.formats import FINISHED, HERALD, KDH, VMCORE

CLIENTS = [("192.0.2.2", 20024), ("192.0.2.3", 20024), ("192.0.2.4", 20024)]
LIMITS = Limits(dump_size=400, clients=2, heralds=1e9, expiry=600.0, linger=30.0)

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
        self.receiver = Receiver(self.sinks, LIMITS, secret=b"")
        self.data_ports = DataPorts(self.receiver)
        self.ports: list[DataPort] = []
        self.now = 0.0
        self.sessions: list[Session] = []
        self.models: dict[int, dict[int, int]] = {}
        self.events: list[Event] = []
        self.gone: list[Session] = []

    @rule(client=st.sampled_from(CLIENTS), seqno=st.integers(0, 9))
    def herald(self, client: tuple[str, int], seqno: int) -> None:
        before = [(session, session.phase) for session in self.sessions]
        dumps = len(self.sinks.dumps)
        answer = self.data_ports.herald(client, "192.0.2.1", message(HERALD, seqno), self.now)
        assert answer is not None
        port, ack = answer
        assert ack == wire.ack(seqno)
        if port not in self.ports:
            self.ports.append(port)
        assert all(session.phase is phase for session, phase in before)
        assert len(self.sinks.dumps) == dumps

    @precondition(lambda self: self.ports)
    @rule(data=st.data(), burst=st.lists(datagrams, min_size=1, max_size=5) | in_order())
    def receive(self, data: st.DataObject, burst: list[bytes]) -> None:
        port = data.draw(st.sampled_from(self.ports[-4:]))
        burst = [sent[:4] + wire.ack(place) + sent[8:] for place, sent in enumerate(burst)]
        acks = port.receive(b"".join(burst), self.now, [len(datagram) for datagram in burst])
        session = port.session
        if session is not None and session.phase is not Phase.WAITING:
            self.know(session)
        self.take()
        acked = list(wire.acks(acks))
        assert acked == sorted(acked)
        for place in acked:
            assert session is not None
            self.check_acked(session, burst[place])

    def sink_of(self, number: int) -> Sink:
        return next(session.sink for session in self.sessions if session.number == number)

    def know(self, session: Session) -> None:
        if session not in self.sessions:
            self.sessions.append(session)
            self.models[session.number] = {}

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
        sinks = [one.sink for one in line]
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

        sink = data.draw(st.sampled_from(self.sessions[-4:])).sink
        assert isinstance(sink, MemorySink)
        sink.fail = fail

    @rule(seconds=st.sampled_from([0.1, 5.0, 31.0, 61.0, 601.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.receiver.expire(self.now)
        deadline = self.receiver.deadline()
        assert deadline is None or deadline > self.now

    @rule()
    def take(self) -> None:
        events, closings, moved, gone = self.receiver.take()
        self.receiver.filing -= len(closings)
        for _, new in moved:
            self.know(new)
            self.models.pop(new.number, None)  # it has what both dumps have in common
        self.events += [*events, *(closing.run(self.now) for closing in closings)]
        self.gone += gone

    @invariant()
    def a_client_has_one_dump_that_runs(self) -> None:
        clients = [one.client for one in self.sessions if one.phase is Phase.RUNNING]
        assert len(clients) == len(set(clients)) <= LIMITS.clients
        assert not any(session.busy for session in self.sessions)

    @invariant()
    def no_sink_goes_beyond_the_limit(self) -> None:
        for sink in self.sinks.dumps:
            assert len(sink.files[VMCORE]) <= LIMITS.dump_size

    @invariant()
    def coverage_is_what_the_sink_has(self) -> None:
        for session in self.sessions:
            sink = session.sink
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
        ends = [event.dump for event in self.events if isinstance(event, Ended)]
        assert sorted(ends) == numbers
        for event in self.events:
            if isinstance(event, Ended) and event.reason == "success":
                assert event.complete
                assert event.missing == []
                assert not self.sink_of(event.dump).others
            assert not isinstance(event, OffLimits) or event.offset + event.length > 400
            assert not isinstance(event, WriteFailed) or event.error == "full"


Server.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestServer = Server.TestCase
