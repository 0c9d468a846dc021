# SPDX-License-Identifier: GPL-2.0-or-later
"""A dump server without its sockets: HERALDs in, sessions out.

    receiver = Receiver(sinks, limits)
    answer = receiver.herald(("192.0.2.2", 20024), "192.0.2.1", datagram, now)
    if answer is not None:
        session, acks = answer                  # send acks from the session's own socket
    acks = session.receive(datagram, now)       # what comes to that socket
    receiver.expire(now)                        # at receiver.deadline(), or later
    outcome = receiver.take()                   # after any of these
    for closing in outcome.closings:
        event = closing.run(now)                # slow: in another thread; gives Ended

A HERALD is easily repeated, delayed or forged, so it ends nothing: it opens a session
beside the one that runs, which is ended when data comes to the new one. While nothing but HERALDs
came, a repeated one leads to the session that waits; if it was a client that began again, that
shows by bytes that differ from those that came before, and another session goes on with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ... import formats, wire
from ...errors import StoreError
from .closing import Closing
from .events import (
    ERROR,
    INCOMPLETE,
    INTERRUPTED,
    TIMEOUT,
    Discarded,
    Event,
    Progress,
    Refused,
    Started,
    WriteFailed,
)
from .limits import Limits, Rate
from .session import Phase, Session
from .sinks import Sink, Sinks

#: PATH_MAX of FreeBSD, the NUL included; a longer path names nothing.
_MAX_PATH = 1024

#: A session to which no data came for this many seconds makes room for another client's.
_GRACE = 2.0

#: Refusals of a kind are told once in so many seconds; so many kinds are kept apart.
_REFUSALS_EVERY = 1.0
_MOST_REFUSALS = 64

_BEGAN_AGAIN = "the client began again"

Key = tuple[str, int]


class Outcome(NamedTuple):
    """What is to be done: ``events`` to tell, ``closings`` to run, the sockets of one session to
    hand to another that goes on with them (``moved``: pairs of the old one and the new one), and
    after that the sockets of the sessions that are ``gone`` to close."""

    events: list[Event]
    closings: list[Closing]
    moved: list[tuple[Session, Session]]
    gone: list[Session]


class Receiver:
    """All dumps that are being received.

    ``by_port``: clients are told apart by address and port, not by address alone.
    """

    def __init__(
        self, sinks: Sinks, limits: Limits | None = None, *, by_port: bool = False
    ) -> None:
        self._sinks = sinks
        self._limits = limits or Limits()
        self._by_port = by_port
        self._rate = Rate(self._limits.heralds)
        self._waiting: dict[Key, Session] = {}
        self._running: dict[Key, Session] = {}
        self._lingering: dict[int, Session] = {}
        self._count = 0
        self._refusals: dict[str, tuple[float, int]] = {}
        self._outcome = Outcome([], [], [], [])
        #: Whether `take` may have something, and the deadline may be another.
        self.busy = False

    def sessions(self) -> Iterator[Session]:
        """Those that take messages."""
        yield from self._waiting.values()
        yield from self._running.values()
        yield from self._lingering.values()

    def sessions_of(self, peer: tuple[str, int]) -> list[Session]:
        """The sessions of a client that are not finished: what waits on their sockets has to be
        taken before a HERALD of this client is."""
        key = self._key(peer)
        return [of[key] for of in (self._waiting, self._running) if key in of]

    def herald(
        self, peer: tuple[str, int], local: str, datagram: wire.Buffer, now: float
    ) -> tuple[Session, bytes] | None:
        """Take a datagram that came to the HERALD port at ``local``; None for no answer."""
        found = wire.messages(datagram)
        if len(found) != 1 or found[0].type != formats.HERALD or found[0].end != len(datagram):
            return None
        message = found[0]
        if not self._limits.allows(peer[0]):
            self._refuse(peer, "its address is not in a network that is allowed", now)
            return None
        for answered in self._answered(peer):
            answered.heralded_again(now)
        session = self._waiting.get(self._key(peer))
        if session is not None:
            session.herald(now)
        else:
            session = self._begin(peer, local, message.seqno, bytes(datagram[message.start :]), now)
        return None if session is None else (session, wire.ack(message.seqno))

    def _answered(self, peer: tuple[str, int]) -> Iterator[Session]:
        """The sessions of a client to which data came, those that linger included."""
        key = self._key(peer)
        for session in (*self._running.values(), *self._lingering.values()):
            if self._key_of(session) == key:
                yield session

    def expire(self, now: float) -> None:
        """End what has been silent for too long."""
        for session in list(self.sessions()):
            if session.deadline <= now:
                self._end(session, TIMEOUT, "client timed out", now)

    def deadline(self) -> float | None:
        """When `expire` will have something to do; None for never."""
        return min((session.deadline for session in self.sessions()), default=None)

    def stop(self, now: float) -> None:
        """End all dumps as interrupted."""
        for session in list(self.sessions()):
            self._end(session, INTERRUPTED, "server was stopped", now)

    def abandon(self, session: Session, reason: str, now: float) -> None:
        """A session that just began cannot be served: there is no socket for it."""
        self._refuse((session.client, session.client_port), reason, now)
        self._end(session, INCOMPLETE, reason, now)

    def progress(self, now: float) -> list[Progress]:
        """How far the dumps are to which data came."""
        return [session.progress(now) for session in self._running.values()]

    def take(self) -> Outcome:
        """What came of the calls since the last one of this."""
        outcome, self._outcome = self._outcome, Outcome([], [], [], [])
        self.busy = False
        return outcome

    def _begin(
        self, peer: tuple[str, int], local: str, seqno: int, payload: bytes, now: float
    ) -> Session | None:
        key = self._key(peer)
        path, note = _path(payload)
        refusal = ""
        if not self._rate.take(now):
            refusal = "too many HERALDs a second"
        elif not self._has_room(key, now):
            refusal = f"{self._limits.clients} clients are dumping already"
        else:
            try:
                sink = self._sinks.begin(peer[0], path)
            except StoreError as error:
                refusal = str(error)
        if refusal:
            self._refuse(peer, refusal, now)
            return None
        return self._open(peer, local, seqno, sink, path, note or sink.note, now)

    def _open(
        self,
        peer: tuple[str, int],
        local: str,
        seqno: int,
        sink: Sink,
        path: bytes,
        note: str,
        now: float,
    ) -> Session:
        """Begin a session, which waits for its data."""
        self._count += 1
        session = Session(self._count, peer, local, sink, self._limits, now, seqno)
        session.tell, session.changed = self._tell, self._changed
        session.succeed = self._succeed
        session.account.herald(path)
        self._waiting[self._key(peer)] = session
        wanted = path.decode(errors="backslashreplace")
        self._tell(Started(now, *session.identity, local, sink.name, wanted, note))
        return session

    def _succeed(self, old: Session, now: float) -> Session | None:
        """A client began again on the sockets of a session: begin the one that goes on there.
        None if that cannot be; then the dump goes on, and what differs is kept beside it."""
        peer, path = (old.client, old.client_port), old.account.path
        session = self._waiting.get(self._key(peer))
        try:
            if session is None:
                sink = self._sinks.begin(old.client, path)
                session = self._open(peer, old.server, old.heralded, sink, path, _BEGAN_AGAIN, now)
            session.inherit(old, now)
        except StoreError as error:
            self._refuse(peer, str(error), now)
            if session is not None:
                self._end(session, ERROR, str(error), now)
            return None
        self._outcome.moved.append((old, session))
        self.busy = True
        return session

    def _has_room(self, key: Key, now: float) -> bool:
        """Whether one more client may dump; forged HERALDs must not keep others out."""
        clients = self._running.keys() | self._waiting.keys() | {key}
        if len(clients) <= self._limits.clients:
            return True
        alone = [self._waiting[one] for one in self._waiting.keys() - self._running.keys()]
        oldest = min(alone, key=lambda session: (session.last, session.number), default=None)
        if oldest is None or now - oldest.last < _GRACE:
            return False
        self._end(oldest, TIMEOUT, "", now)
        return True

    def _end(self, session: Session, reason: str, cause: str, now: float) -> None:
        """End a session, whatever it is at; one that got nothing leaves nothing."""
        if session.phase is not Phase.WAITING:
            session.end(reason, cause, now)
            return
        session.phase = Phase.OVER
        del self._waiting[self._key_of(session)]
        try:
            session.sink.discard()
        except StoreError as error:
            self._tell(WriteFailed(now, *session.identity, "info", 0, str(error)))
        self._tell(Discarded(now, *session.identity, session.sink.name))
        self._outcome.gone.append(session)

    def _changed(self, session: Session, now: float) -> None:
        """Called by a session that went on to another phase."""
        self.busy = True
        key = self._key_of(session)
        lingered = self._lingering.pop(session.number, None) is not None
        if self._waiting.get(key) is session:
            del self._waiting[key]
        if session.phase is Phase.RUNNING:
            old = self._running.pop(key, None)
            self._running[key] = session
            if old is not None:
                old.end(TIMEOUT, "client began another dump", now)
            return
        if self._running.get(key) is session:
            del self._running[key]
        if session.closing is not None and not lingered:
            self._outcome.closings.append(session.closing)
        if session.phase is Phase.OVER:
            self._outcome.gone.append(session)
            return
        self._lingering[session.number] = session
        if len(self._lingering) > self._limits.clients:
            oldest = next(iter(self._lingering.values()))
            oldest.end(TIMEOUT, "", now)

    def _tell(self, event: Event) -> None:
        self._outcome.events.append(event)
        self.busy = True

    def _refuse(self, peer: tuple[str, int], reason: str, now: float) -> None:
        """Tell that a HERALD is not answered, but not each time: floods must not fill logs."""
        last, untold = self._refusals.get(reason, (-_REFUSALS_EVERY, 0))
        if now - last < _REFUSALS_EVERY:
            self._refusals[reason] = last, untold + 1
            return
        if len(self._refusals) >= _MOST_REFUSALS:
            self._refusals.clear()
        self._refusals[reason] = now, 0
        self._tell(Refused(now, peer[0], reason, untold + 1))

    def _key(self, peer: tuple[str, int]) -> Key:
        return peer if self._by_port else (peer[0], 0)

    def _key_of(self, session: Session) -> Key:
        return self._key((session.client, session.client_port))


def _path(payload: bytes) -> tuple[bytes, str]:
    """The path that a HERALD asks for, without its NUL, and why it is not taken if so."""
    if not payload:
        return b"", ""
    if payload[-1] or len(payload) > _MAX_PATH:
        return b"", "the path has no NUL at its end, or is too long"
    return payload.partition(b"\0")[0], ""
