# SPDX-License-Identifier: GPL-2.0-or-later
"""The loop of a dump server: datagrams from its sockets to the receiver, and acks back.

with ServerLoop(LiveDumps(directory), on_event=print) as loop:
    loop.run()              # until loop.stop(), in a signal handler or another thread
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

from ..core.receiving.events import Ended, Event, Listening, Stopped
from ..core.receiving.limits import Limits
from ..core.receiving.receiver import Receiver
from ..core.receiving.session import Session
from ..core.receiving.sinks import Sinks
from ..formats import ACK_PORT, HERALD_PORT
from ..net.server_sockets import DataSocket, End, HeraldSocket, SocketError, has_ipv6, probe
from ..wire import ACK_SIZE, Buffer
from .names import Lookups
from .polling import Polling

#: HERALDs that are taken before other sockets have their turn.
_HERALDS_AT_ONCE = 16

#: Sockets that a dump has at most; more than one is rare.
_MOST_SOCKETS = 4

#: How often a free port is looked for that no address of several has in use.
_PORT_TRIES = 8

#: Dumps that are filed at once.
_FILERS = 4

#: Seconds that the loop sleeps at most; all it does then is to look at the time.
_LONGEST_SLEEP = 60.0


class _Herald(NamedTuple):
    """A datagram that came to the HERALD port of an address of this host."""

    data: bytes
    peer: End
    local: str


class Tap(Protocol):
    """Told of every datagram, to keep it (``--capture``). Ends are (address, port)."""

    def datagrams(
        self,
        source: tuple[str, int],
        destination: tuple[str, int],
        data: Buffer,
        sizes: Sequence[int],
    ) -> None:
        """Datagrams of these ``sizes``, end to end in ``data``, went from one to the other.
        Coalesced ones are as the system gave them. ``data`` is not kept for long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """How to serve.

    ``ack_port``: where acks go at the client's address; None for the port that its message
    came from (NAT, several clients at one address). ``receive_buffer``: bytes to ask the
    system for, a dump. ``coalescing`` False never uses UDP_GRO and UDP_SEGMENT.
    ``progress``: seconds between Progress events of a dump; 0 for none. ``resolve`` is called
    in another thread with a client's address before its first HERALD is taken, which waits for
    it for at most ``resolve_timeout`` seconds: for reverse DNS, the result of which it keeps
    itself.
    """

    ack_port: int | None = ACK_PORT
    limits: Limits = field(default_factory=Limits)
    receive_buffer: int = 4 << 20
    coalescing: bool = True
    progress: float = 0.0
    resolve: Callable[[str], object] | None = None
    resolve_timeout: float = 3.0


class ServerLoop:
    """Receives dumps into ``sinks``. Use it in ``with``, which starts and closes it."""

    def __init__(
        self,
        sinks: Sinks,
        addresses: Sequence[str] = (),
        port: int = HERALD_PORT,
        options: ServeOptions | None = None,
        *,
        on_event: Callable[[Event], None] | None = None,
        on_tick: Callable[[], None] | None = None,
        tap: Tap | None = None,
    ) -> None:
        """``addresses`` to listen on: none for all of the host's, IPv4 and IPv6. ``port`` is
        where HERALDs come to, 0 for any that is free at each of them. ``on_event`` is called in
        the thread that runs the loop, and must not wait; so is ``on_tick``, every ``progress``
        seconds as long as the loop is not stuck."""
        self._addresses = addresses
        self._port = port
        self._options = options = options or ServeOptions()
        self._tell = on_event or (lambda event: None)
        self._tick = on_tick or (lambda: None)
        self._tap = tap
        self._receiver = Receiver(sinks, options.limits, by_port=options.ack_port is None)
        self._buffer = memoryview(mmap.mmap(-1, DataSocket.ROOM))
        self._heralds: list[HeraldSocket] = []
        self._data: dict[Session, dict[tuple[str, bool], DataSocket]] = {}
        self._filers = ThreadPoolExecutor(_FILERS, "netdump-filer")
        self._filing: list[Future[Ended]] = []
        self._polling = Polling(self._on_alarm, self._on_wake)
        self._lookups: Lookups[_Herald] | None = None
        if options.resolve is not None:
            self._lookups = Lookups(options.resolve, options.resolve_timeout, self._polling.wake)
        self._stopping = False
        self._next_progress = 0.0

    def __enter__(self) -> ServerLoop:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def addresses(self) -> list[End]:
        """Where it listens: (address, port), after `start`."""
        return [herald.end for herald in self._heralds]

    def start(self) -> None:
        """Open the sockets (after which no privilege is needed). NetdumpError if that fails."""
        if self._heralds:
            return
        everywhere = ("0.0.0.0", "::") if has_ipv6() else ("0.0.0.0",)
        try:
            self._heralds = _listening(self._addresses or everywhere, self._port)
        except BaseException:
            self.close()
            raise

    def run(self) -> None:
        """Serve until `stop`, once; returns when all dumps are ended, filed and told of."""
        self.start()
        try:
            for herald_socket in self._heralds:
                self._polling.watch(herald_socket, partial(self._on_heralds, herald_socket))
            self._tell_listening()
            while not self._stopping:
                self._polling.turn()
        finally:
            self._end()
        self._tell(Stopped(time.monotonic()))

    def stop(self) -> None:
        """Make `run` return. May be called from a signal handler or another thread, twice too."""
        self._stopping = True
        self._polling.wake()

    def close(self) -> None:
        """Close the sockets. To be called unless `run` was, which does so."""
        for herald_socket in self._heralds:
            herald_socket.close()
        for sockets in self._data.values():
            for data_socket in sockets.values():
                data_socket.close()
        self._data.clear()
        self._polling.close()

    # What there is to do, and when

    def _on_alarm(self, now: float) -> None:
        """Do what is due, and find out when something will be."""
        self._receiver.expire(now)
        self._answer_resolved(now)
        interval = self._options.progress
        if interval and now >= self._next_progress:
            self._next_progress = now + interval
            self._tick()
            for event in self._receiver.progress(now):
                self._tell(event)
        self._settle(now)
        self._set_alarm(now)

    def _set_alarm(self, now: float) -> None:
        times = [now + _LONGEST_SLEEP, self._receiver.deadline()]
        times.append(self._lookups.deadline() if self._lookups is not None else None)
        times.append(self._next_progress if self._options.progress else None)
        self._polling.alarm = min(at for at in times if at is not None)

    def _on_wake(self, now: float) -> None:
        self._tell_filed()
        self._answer_resolved(now)

    def _on_heralds(self, herald_socket: HeraldSocket, now: float) -> None:
        for _ in range(_HERALDS_AT_ONCE):
            received = herald_socket.receive()
            if received is None:
                return
            data, peer, local = received
            if self._tap is not None:
                self._tap.datagrams(peer, (local, herald_socket.end[1]), data, (len(data),))
            herald = _Herald(data, peer, local)
            if not self._has_to_wait(herald, now):
                self._answer(herald, now)

    def _on_data(self, session: Session, data_socket: DataSocket, now: float) -> None:
        buffer = self._buffer
        for sender, start, end, sizes in data_socket.receive(buffer):
            acks = session.receive(buffer[start:end], now, sizes)
            if acks:
                data_socket.send(acks, sender if self._options.ack_port is None else None)
            if self._tap is not None:
                source = data_socket.client if sender is None else (session.client, sender[1])
                self._tap.datagrams(source, data_socket.local, buffer[start:end], sizes)
                self._tap_acks(data_socket, source, acks)
        self._settle(now)

    def _tap_acks(self, data_socket: DataSocket, sender: End, acks: bytes) -> None:
        if self._tap is not None:
            to = data_socket.client if self._options.ack_port is not None else sender
            sizes = (ACK_SIZE,) * (len(acks) // ACK_SIZE)
            self._tap.datagrams(data_socket.local, to, acks, sizes)

    # HERALDs

    def _has_to_wait(self, herald: _Herald, now: float) -> bool:
        """Whether the client's name is looked up first."""
        address = herald.peer[0]
        if (
            self._lookups is None
            or self._receiver.sessions_of(herald.peer)
            or not self._options.limits.allows(address)
        ):
            return False
        alarm = now + self._options.resolve_timeout
        self._polling.alarm = min(self._polling.alarm, alarm)
        return self._lookups.hold(address, herald, now)

    def _answer_resolved(self, now: float) -> None:
        if self._lookups is not None:
            for herald in self._lookups.ready(now):
                self._answer(herald, now)

    def _answer(self, herald: _Herald, now: float) -> None:
        self._take_waiting(herald, now)
        answer = self._receiver.herald(herald.peer, herald.local, herald.data, now)
        if answer is not None:
            session, ack = answer
            data_socket = self._socket_for(session, herald, now)
            if data_socket is not None:
                data_socket.send(ack, None)
                self._tap_acks(data_socket, herald.peer, ack)
        self._settle(now)

    def _take_waiting(self, herald: _Herald, now: float) -> None:
        """Take what waits on the sockets that earlier HERALDs of this client led to: it was sent
        before this one."""
        for session in self._receiver.sessions_of(herald.peer):
            for data_socket in list(self._data.get(session, {}).values()):
                self._on_data(session, data_socket, now)

    def _socket_for(self, session: Session, herald: _Herald, now: float) -> DataSocket | None:
        """The socket that answers a HERALD, and that the rest of the dump comes to.

        A dump has more than one only if its HERALD is repeated in another way, perhaps by
        someone else, before data comes.
        """
        options = self._options
        address, port = session.client, options.ack_port
        connected = herald.peer[1] == port
        sockets = self._data.setdefault(session, {})
        way = herald.local, connected
        if way in sockets or len(sockets) >= _MOST_SOCKETS:
            return sockets.get(way)
        try:
            data_socket = DataSocket(
                herald.local,
                (address, session.client_port if port is None else port),
                connected=connected,
                buffer=options.receive_buffer,
                coalescing=options.coalescing,
            )
        except OSError as error:
            if not sockets:
                self._receiver.abandon(session, f"no socket for it: {error.strerror}", now)
            return None
        sockets[way] = data_socket
        self._polling.watch(data_socket, partial(self._on_data, session, data_socket))
        return data_socket

    # What comes of it

    def _settle(self, now: float) -> None:
        """Do what the receiver says is to be done."""
        if not self._receiver.busy:
            return
        events, closings, moved, gone = self._receiver.take()
        for closing in closings:
            filing = self._filers.submit(closing.run, now)
            self._filing.append(filing)
            filing.add_done_callback(lambda _: self._polling.wake())
        for old, session in moved:
            sockets = self._data.setdefault(session, {})
            for (local, connected), data_socket in self._data.pop(old, {}).items():
                sockets[f"{local} of dump {old.number}", connected] = data_socket
                self._polling.watch(data_socket, partial(self._on_data, session, data_socket))
            while len(sockets) > _MOST_SOCKETS:  # the latest ones are those that its client knows
                dropped = sockets.pop(next(iter(sockets)))
                self._polling.unwatch(dropped)
                dropped.close()
        for session in gone:
            for data_socket in self._data.pop(session, {}).values():
                self._polling.unwatch(data_socket)
                data_socket.close()
        for event in events:
            self._tell(event)
        self._set_alarm(now)

    def _tell_filed(self) -> None:
        """Tell of the dumps that are on disk by now."""
        done = [filing for filing in self._filing if filing.done()]
        for filing in done:
            self._filing.remove(filing)
            self._tell(filing.result())

    def _tell_listening(self) -> None:
        granted, joins = probe(self._options.receive_buffer, self._options.coalescing)
        for address, port in self.addresses:
            self._tell(Listening(time.monotonic(), address, port, granted, joins))

    def _end(self) -> None:
        """End all dumps, wait until they are filed, and close everything."""
        now = time.monotonic()
        self._receiver.stop(now)
        try:
            self._settle(now)
        finally:
            self._filers.shutdown()
            self.close()
        self._tell_filed()


def _listening(addresses: Sequence[str], port: int, tries: int = _PORT_TRIES) -> list[HeraldSocket]:
    """Sockets at one port of some addresses: of any, for port 0, that is free at all of them.
    SocketError if there can be none."""
    sockets: list[HeraldSocket] = []
    try:
        for address in addresses:
            chosen = sockets[0].end[1] if sockets else port
            sockets.append(HeraldSocket(address, chosen))
        return sockets
    except SocketError:
        for one in sockets:
            one.close()
        if port or not sockets or tries == 1:
            raise
    return _listening(addresses, port, tries - 1)
