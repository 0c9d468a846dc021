# SPDX-License-Identifier: GPL-2.0-or-later
"""A dump server without its sockets: datagrams in, acks out.

    receiver = Receiver(sinks, limits, secret=os.urandom(16))
    answer = receiver.herald(("192.0.2.2", 20024), "192.0.2.1", datagram, now)
    if answer is not None:
        slot, ack = answer                      # send the ack from the data port of this slot
    session = receiver.session(client, "192.0.2.1", slot, datagram, now)  # at such a port
    acks = receiver.receive(session, datagram, now)
    receiver.expire(now)                        # at receiver.deadline(), or later
    outcome = receiver.take()                   # after any of these
    for closing in outcome.closings:
        event = closing.run(now)                # slow: in another thread; gives Ended

A HERALD is easily repeated, delayed or forged, so that it begins nothing and ends nothing
(heralds.py). With the first data that comes to where it led, a session begins beside the one that
runs, which is ended then. If it was a client that began again where its dump before went, that
shows by bytes that differ from those that came before, and another session goes on with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ... import formats, wire
from ...errors import StoreError
from .closing import Closing
from .events import INTERRUPTED, TIMEOUT, Event, Heralded, Progress, Refused, Started
from .heralds import Herald, Heralds, Key
from .limits import Limits, Rate, Rates
from .places import make_room
from .session import Phase, Session
from .sinks import Sinks

#: PATH_MAX of FreeBSD, the NUL included; a longer path names nothing.
_MAX_PATH = 1024

#: Refusals of a kind are told once in so many seconds; so many kinds are kept apart.
_REFUSALS_EVERY = 1.0
_MOST_REFUSALS = 64

#: Slots of dumps that are over, to which late data is expected; more than a few are rare.
_MOST_RESTING = 256

#: HERALDs that are told of in a second.
_HERALDS_TOLD = 16.0

_BEGAN_AGAIN = "the client began again"
_ANOTHER = "client began another dump"
_FORGOTTEN = "its HERALD was forgotten behind many others, and what path it asked for"


class Outcome(NamedTuple):
    """What is to be done: ``events`` to tell, ``closings`` to run, the sockets of one session to
    hand to another that goes on with them (``moved``: pairs of the old one and the new one), and
    after that the sockets of the sessions that are ``gone`` to close."""

    events: list[Event]
    closings: list[Closing]
    moved: list[tuple[Session, Session]]
    gone: list[Session]


class Receiver:
    """All dumps that are being received, by the address of the client and the slot of the data
    port that they come to.

    ``secret``: some bytes that strangers must not know. ``by_port``: clients are told apart by
    address and port, not by address alone. ``slots``: how many data ports there are. ``most``:
    how many dumps there may be at once, those that linger or are being filed included.
    ``note_heralds``: a HERALD after which nothing comes leaves an info file. ``filing`` counts
    closings that are not done; whoever runs them keeps it.
    """

    def __init__(
        self,
        sinks: Sinks,
        limits: Limits | None = None,
        *,
        secret: bytes,
        by_port: bool = False,
        slots: int = 64,
        most: int = 1 << 16,
        note_heralds: bool = False,
    ) -> None:
        self._sinks = sinks
        self._limits = limits or Limits()
        self._by_port = by_port
        self._most = most
        self._note_heralds = note_heralds
        self._rates = Rates(self._limits.heralds)
        self._heralds = Heralds(slots, secret)
        self._herald_rate = Rate(_HERALDS_TOLD)
        self._untold_heralds = 0
        self._sessions: dict[str, dict[int, Session]] = {}
        self._resting: dict[tuple[str, int], float] = {}
        self._count = 0
        self._refusals: dict[str, tuple[float, int]] = {}
        self._outcome = Outcome([], [], [], [])
        self.filing = 0
        #: Whether `take` may have something, and the deadline may be another.
        self.busy = False

    def sessions(self) -> Iterator[Session]:
        """Those that take messages."""
        for of_address in self._sessions.values():
            yield from of_address.values()

    def sessions_of(self, peer: tuple[str, int]) -> list[Session]:
        """The sessions of a client: what waits on their sockets has to be taken before a HERALD of
        this client is."""
        return [s for s in self._at(peer[0]).values() if self._key_of(s) == self._key(peer)]

    def slots_of(self, peer: tuple[str, int]) -> set[int]:
        """The slots to which a client may have sent data by now."""
        key, sessions = self._key(peer), self._at(peer[0])
        if not sessions and not self._resting and not self._by_port:
            return {self._heralds.slot(key)}
        return {*sessions, self._heralds.slot(key), *self._heralds.slots_of(key)}

    def herald(
        self, peer: tuple[str, int], local: str, datagram: wire.Buffer, now: float
    ) -> tuple[int, bytes] | None:
        """Take a datagram that came to the HERALD port at ``local``: the ack, and the slot of the
        data port that it is to come from. None for no answer."""
        message = wire.alone(memoryview(datagram))
        if message is None or message.type != formats.HERALD:
            return None
        if not self._limits.allows(peer[0]):
            self._refuse(peer, "its address is not in a network that is allowed", now)
            return None
        sessions = self.sessions_of(peer)
        if any(session.busy for session in sessions):
            return None  # what it sent before has to be taken first
        for session in sessions:
            session.heralded_again(now)
        path, note = _path(bytes(datagram[message.start :]))
        fresh = not sessions
        herald = Herald(self._key(peer), peer[1], local, message.seqno, path, note, now, fresh)
        slot = self._heralds.note(herald, {*self._at(peer[0]), *self._resting_of(peer[0], now)})
        self._tell_herald(herald, now)
        return slot, wire.ack(message.seqno)

    def session(
        self, peer: tuple[str, int], local: str, slot: int, datagram: wire.Buffer, now: float
    ) -> Session | None:
        """The session that a datagram from a client to the data port of a slot is for. One that
        did not begin yet begins with it, if it is a message; None if there is none."""
        session = self._at(peer[0]).get(slot)
        if session is not None:
            return None if session.busy else session
        message = wire.alone(memoryview(datagram))
        if message is None or message.type == formats.HERALD:
            return None
        if slot in self._resting_of(peer[0], now) or not self._limits.allows(peer[0]):
            return None
        herald = self._heralds.last(peer[0], slot)
        if herald is None:
            if message.type == formats.FINISHED:  # of nothing
                return None
            if self._heralds.slot(self._key(peer)) != slot or self.sessions_of(peer):
                return None
            herald = Herald(self._key(peer), peer[1], local, 1, b"", _FORGOTTEN, now)
        return self._begin(herald, slot, now)

    def receive(
        self, session: Session, data: wire.Buffer, now: float, sizes: Sequence[int] | None = None
    ) -> bytes:
        """Have a session take datagrams: the acks (see `Session.receive`)."""
        acks = session.receive(data, now, sizes)
        if session.phase is Phase.WAITING:  # nothing of it was anything, or could be stored
            self._forget(session)
            self._discard(session, session.trouble, now)
        return acks

    def expire(self, now: float) -> None:
        """End what has been silent for too long."""
        for session in list(self.sessions()):
            if session.deadline <= now and not session.busy:
                session.end(TIMEOUT, "client timed out", now)
        self._expire_heralds(now - self._limits.expiry, now)

    def deadline(self) -> float | None:
        """When `expire` will have something to do; None for never."""
        times = [session.deadline for session in self.sessions() if not session.busy]
        oldest = self._heralds.oldest() if self._note_heralds else None
        if oldest is not None:
            times.append(oldest[1].at + self._limits.expiry)
        return min(times, default=None)

    def stop(self, now: float) -> None:
        """End all dumps as interrupted; those that are busy as soon as they no longer are."""
        for session in list(self.sessions()):
            session.end(INTERRUPTED, "server was stopped", now)
        self._expire_heralds(now, now)

    def progress(self, now: float) -> list[Progress]:
        """How far the dumps are to which data came."""
        return [one.progress(now) for one in self.sessions() if one.phase is Phase.RUNNING]

    def take(self) -> Outcome:
        """What came of the calls since the last one of this."""
        outcome, self._outcome = self._outcome, Outcome([], [], [], [])
        self.busy = False
        return outcome

    def _begin(self, herald: Herald, slot: int, now: float) -> Session | None:
        """Begin a session, if there is a place for it, and a sink."""
        if not self._make_place(herald, now):
            return None
        try:
            sink = self._sinks.begin(herald.client[0], herald.path)
        except StoreError as error:
            self._refuse(herald.client, str(error), now)
            return None
        self._count += 1
        peer = herald.client[0], herald.port
        session = Session(
            self._count, peer, herald.server, sink, self._limits, now, herald.seqno, slot
        )
        session.tell, session.changed = self._tell, self._changed
        session.succeed = self._succeed
        session.note = herald.note
        session.account.herald(herald.path)
        if herald.again:
            session.heralded_again(now)
        self._sessions.setdefault(peer[0], {})[slot] = session
        return session

    def _make_place(self, herald: Herald, now: float) -> bool:
        """Whether one more client may dump."""
        receiving = [one for one in self.sessions() if one.phase in _RECEIVING]
        if any(self._key_of(one) == herald.client for one in receiving):
            return True  # another dump of a client that has a place
        still, refusal = make_room(receiving, herald.client[0], self._limits, now)
        behind = self.filing >= self._limits.clients or not self._may_open(now)
        if not refusal and behind:
            refusal = "dumps that ended are still being filed"
        if not refusal and not self._rates.take(herald.client[0], now):
            refusal = "too many dumps began within a second"
        if refusal:
            self._refuse(herald.client, refusal, now)
            return False
        if still is not None:
            still.end(TIMEOUT, "it stood still, and another client needed its place", now)
        return True

    def _may_open(self, now: float) -> bool:
        """Whether there are descriptors for one more dump; one that lingers gives up its own."""
        while sum(1 for _ in self.sessions()) + self.filing >= self._most:
            lingering = [one for one in self.sessions() if one.phase is Phase.LINGERING]
            if not lingering:
                return False
            min(lingering, key=lambda one: one.last).end(TIMEOUT, "", now)
        return True

    def _succeed(self, old: Session, now: float) -> Session | None:
        """A client began again where its dump before goes: begin the one that goes on there. None
        if that cannot be; then the dump goes on, and what differs is kept beside it."""
        client = self._key_of(old)
        others = self.sessions_of((old.client, old.client_port))
        if any(one is not old and one.phase in _RECEIVING for one in others):
            return None  # it sends its dump elsewhere
        announced = [self._heralds.take(old.client, s) for s in self._heralds.slots_of(client)]
        herald = next(filter(None, announced), None) or Herald(
            client, old.client_port, old.server, old.heralded, old.account.path, "", now
        )
        session = self._begin(herald._replace(note=_BEGAN_AGAIN), old.slot, now)
        if session is None:
            return None
        try:
            session.inherit(old, now)
        except StoreError as error:
            self._sessions[old.client][old.slot] = old
            self._discard(session, str(error), now)
            return None
        self._outcome.moved.append((old, session))
        self.busy = True
        old.end(TIMEOUT, _ANOTHER, now)
        return session

    def _changed(self, session: Session, before: Phase, now: float) -> None:
        """Called by a session that went on to another phase."""
        self.busy = True
        if before is Phase.WAITING:
            self._heralds.take(session.client, session.slot)
            path = session.account.path.decode(errors="backslashreplace")
            note = session.note or session.sink.note
            name, server = session.sink.name, session.server
            self._tell(Started(now, *session.identity, server, name, path, note))
        if session.closing is not None and before is not Phase.LINGERING:
            self.filing += 1
            self._outcome.closings.append(session.closing)
        if session.phase is Phase.RUNNING:
            for other in self.sessions_of((session.client, session.client_port)):
                if other is not session and other.phase is Phase.RUNNING:
                    other.end(TIMEOUT, _ANOTHER, now)
        elif session.phase is Phase.OVER:
            ended = session.closing is not None and session.closing.cause == _ANOTHER
            if ended or before is Phase.LINGERING:
                self._rest(session, now)
            self._forget(session)
            self._outcome.gone.append(session)
            session.sink.close()  # last: it may wait for the disk
        else:
            lingering = [one for one in self.sessions() if one.phase is Phase.LINGERING]
            if len(lingering) > self._limits.clients:
                min(lingering, key=lambda one: one.last).end(TIMEOUT, "", now)

    def _discard(self, session: Session, reason: str, now: float) -> None:
        """Nothing of a session is stored, if so for a reason."""
        peer = session.client, session.client_port
        if reason:
            self._refuse(peer, reason, now)
        try:
            session.sink.discard()
        except StoreError as error:
            self._refuse(peer, str(error), now)

    def _rest(self, session: Session, now: float) -> None:
        """What comes late of a dump that FINISHED or another one of its client ended, begins
        none."""
        self._resting = {place: until for place, until in self._resting.items() if until > now}
        self._resting[session.client, session.slot] = now + self._limits.linger
        if len(self._resting) > _MOST_RESTING:
            del self._resting[next(iter(self._resting))]

    def _resting_of(self, address: str, now: float) -> list[int]:
        """The slots of an address to which late data of a dump that is over may come."""
        if not self._resting:
            return []
        return [
            slot for (of, slot), until in self._resting.items() if of == address and now < until
        ]

    def _forget(self, session: Session) -> None:
        of_address = self._at(session.client)
        if of_address.get(session.slot) is session:
            del of_address[session.slot]
            if not of_address:
                del self._sessions[session.client]

    def _expire_heralds(self, before: float, now: float) -> None:
        """Leave an info file of each client that said HERALD before a time, and nothing since."""
        while self._note_heralds and (oldest := self._heralds.oldest()) is not None:
            slot, herald = oldest
            if herald.at > before:
                return
            address = herald.client[0]
            self._heralds.take(address, slot)
            if herald.fresh and slot not in self._at(address):
                session = self._begin(herald, slot, now)
                if session is not None:
                    session.end(TIMEOUT, "nothing came but HERALDs", now)

    def _tell(self, event: Event) -> None:
        self._outcome.events.append(event)
        self.busy = True

    def _tell_herald(self, herald: Herald, now: float) -> None:
        """Tell that a HERALD was answered, but not each time: floods must not fill logs."""
        self._untold_heralds += 1
        if self._herald_rate.take(now):
            count, self._untold_heralds = self._untold_heralds, 0
            path = herald.path.decode(errors="backslashreplace")
            client = herald.client[0], herald.port
            self._tell(Heralded(now, *client, herald.server, path, count))

    def _refuse(self, peer: tuple[str, int], reason: str, now: float) -> None:
        """Tell that somebody is not let in, but not each time: floods must not fill logs."""
        last, untold = self._refusals.get(reason, (-_REFUSALS_EVERY, 0))
        if now - last < _REFUSALS_EVERY:
            self._refusals[reason] = last, untold + 1
            return
        if len(self._refusals) >= _MOST_REFUSALS:
            self._refusals.clear()
        self._refusals[reason] = now, 0
        self._tell(Refused(now, peer[0], reason, untold + 1))

    def _at(self, address: str) -> dict[int, Session]:
        """The sessions of an address, by their slots."""
        return self._sessions.get(address, {})

    def _key(self, peer: tuple[str, int]) -> Key:
        return peer if self._by_port else (peer[0], 0)

    def _key_of(self, session: Session) -> Key:
        return self._key((session.client, session.client_port))


_RECEIVING = (Phase.WAITING, Phase.RUNNING)


def _path(payload: bytes) -> tuple[bytes, str]:
    """The path that a HERALD asks for, without its NUL, and why it is not taken if so."""
    if not payload:
        return b"", ""
    if payload[-1] or len(payload) > _MAX_PATH:
        return b"", "the path has no NUL at its end, or is too long"
    return payload.partition(b"\0")[0], ""
