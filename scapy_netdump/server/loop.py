# SPDX-License-Identifier: GPL-2.0-or-later
"""The loop of a dump server: datagrams from its sockets to the receiver, and acks back.

with ServerLoop(LiveDumps(directory), on_event=print) as loop:
    loop.run()              # until loop.stop(), in a signal handler or another thread
"""

from __future__ import annotations

import os
import resource
import threading
import time
from collections import Counter
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
from ..errors import NetdumpError
from ..formats import ACK_PORT, HERALD_PORT
from ..net.ends import End
from ..net.listening import Arrival, HeraldSocket, SharedPort, SocketError
from ..net.server_sockets import DataSocket, has_ipv6, probe
from ..net.udp import ReceiveBuffer
from ..wire import ACK_SIZE, Buffer
from .names import Lookups
from .outside import OutsideSinks
from .polling import Polling
from .relay import Relay

#: HERALDs, or datagrams at a port that clients share, that are taken before other sockets have
#: their turn.
_AT_ONCE = 32

#: Data ports that clients share, at each address that HERALDs come to. The more there are, the
#: harder one is to guess.
_SLOTS = 64

#: Descriptors that a dump has at most: its socket, directory, lock, four files, and one that
#: takes the place of another. So many are left for the rest of the program.
_DESCRIPTORS_OF_DUMP, _OTHER_DESCRIPTORS = 8, 64

#: How often a free port is looked for that no address of several has in use.
_PORT_TRIES = 8

#: Dumps that are filed at once.
_FILERS = 4

#: Seconds that the loop sleeps at most; all it does then is to look at the time.
_LONGEST_SLEEP = 60.0


class _Listener(NamedTuple):
    """Where HERALDs come to at an address, and the data ports that their acks come from."""

    heralds: HeraldSocket
    ports: list[SharedPort]


class _Herald(NamedTuple):
    """A datagram that came to the HERALD port of an address of this host."""

    data: bytes
    peer: End
    local: str
    listener: _Listener


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
    itself. ``note_heralds``: a HERALD after which nothing comes leaves an info file.
    """

    ack_port: int | None = ACK_PORT
    limits: Limits = field(default_factory=Limits)
    receive_buffer: int = 4 << 20
    coalescing: bool = True
    progress: float = 0.0
    resolve: Callable[[str], object] | None = None
    resolve_timeout: float = 3.0
    note_heralds: bool = False


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
        the thread that runs the loop (one at a time, and not always the same), and must not
        wait; so is ``on_tick``, every ``progress`` seconds as long as the loop is not stuck."""
        self._addresses = addresses
        self._port = port
        self._options = options = options or ServeOptions()
        self._tell = on_event or (lambda event: None)
        self._tick = on_tick or (lambda: None)
        self._tap = tap
        self._relay = Relay(self._turn)
        self._slots, most = _places(len(addresses) or 2)
        self._receiver = Receiver(
            OutsideSinks(sinks, self._relay),
            options.limits,
            secret=os.urandom(16),
            by_port=options.ack_port is None,
            slots=self._slots,
            most=most,
            note_heralds=options.note_heralds,
        )
        self._own = threading.local()
        self._listeners: list[_Listener] = []
        self._data: dict[Session, list[DataSocket]] = {}
        self._held_up: list[tuple[Session, DataSocket]] = []
        self._late: dict[End, _Herald] = {}
        self._untaken: Counter[str] = Counter()
        self._filers = ThreadPoolExecutor(_FILERS, "netdump-filer")
        self._filing: list[Future[Ended]] = []
        self._polling = Polling(self._on_alarm, self._on_wake, self._relay)
        self._lookups: Lookups[_Herald] | None = None
        if options.resolve is not None:
            self._lookups = Lookups(options.resolve, options.resolve_timeout, self._polling.wake)
        self._next_progress = 0.0

    def __enter__(self) -> ServerLoop:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def addresses(self) -> list[End]:
        """Where it listens: (address, port), after `start`."""
        return [listener.heralds.end for listener in self._listeners]

    def start(self) -> None:
        """Open the sockets (after which no privilege is needed). NetdumpError if that fails."""
        if self._listeners:
            return
        everywhere = ("0.0.0.0", "::") if has_ipv6() else ("0.0.0.0",)
        try:
            sockets = _listening(self._addresses or everywhere, self._port)
            self._listeners = [_Listener(heralds, []) for heralds in sockets]
        except BaseException:
            self.close()
            raise

    def run(self) -> None:
        """Serve until `stop`, once; returns when all dumps are ended, filed and told of."""
        self.start()
        try:
            _start_threads(self._filers)
            for listener in self._listeners:
                self._open_ports(listener)
                self._polling.watch(listener.heralds, partial(self._on_heralds, listener))
            self._tell_listening()
            self._relay.run()
        finally:
            self._end()
        self._tell(Stopped(time.monotonic()))

    def stop(self) -> None:
        """Make `run` return. May be called from a signal handler or another thread, twice too."""
        self._relay.finish()
        self._polling.wake()

    def close(self) -> None:
        """Close the sockets. To be called unless `run` was, which does so."""
        for listener in self._listeners:
            listener.heralds.close()
            for port in listener.ports:
                port.close()
        for sockets in self._data.values():
            for data_socket in sockets:
                data_socket.close()
        self._data.clear()
        self._polling.close()

    def _open_ports(self, listener: _Listener) -> None:
        """Open the ports that clients share; by the user that the server is by now, as no other
        could let single dumps go on at the same port."""
        address = listener.heralds.end[0]
        for slot in range(self._slots):
            try:
                port = SharedPort(address, self._options.coalescing)
            except OSError as error:
                raise SocketError(f"{address}: no port for data: {error.strerror}") from None
            listener.ports.append(port)
            self._polling.watch(port, partial(self._on_shared, listener, slot))

    def _turn(self) -> None:
        self._polling.turn()
        if self._held_up or self._late:
            self._go_on(time.monotonic())

    @property
    def _buffer(self) -> ReceiveBuffer:
        """What to receive into: each thread has its own, as one that the disk holds up still
        writes from it."""
        try:
            buffer: ReceiveBuffer = self._own.buffer
        except AttributeError:
            buffer = self._own.buffer = ReceiveBuffer()
        return buffer

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

    def _on_heralds(self, listener: _Listener, now: float) -> None:
        for _ in range(_AT_ONCE):
            received = listener.heralds.receive()
            if received is None:
                return
            data, peer, local = received
            if self._tap is not None:
                end = local, listener.heralds.end[1]
                self._tap.datagrams(peer, end, data, (len(data),))
            herald = _Herald(data, peer, local, listener)
            if not self._has_to_wait(herald, now):
                self._answer(herald, now)

    def _on_shared(self, listener: _Listener, slot: int, now: float) -> None:
        """Take what came to a port that clients share: the first data of dumps, mostly."""
        buffer, port = self._buffer.view, listener.ports[slot]
        for _ in range(_AT_ONCE):
            arrival = port.receive(buffer)
            if arrival is None:
                break
            self._take_shared(port, slot, arrival, buffer[: arrival.end], now)
        self._settle(now)

    def _take_shared(
        self, port: SharedPort, slot: int, arrival: Arrival, data: Buffer, now: float
    ) -> None:
        peer, local, _, sizes = arrival
        view = memoryview(data)
        session = self._receiver.session(peer, local, slot, view[: sizes[0]], now)
        if session is None:
            return
        self._relay.watch(True)
        acks = self._receiver.receive(session, view, now, sizes)
        to = peer[0], self._options.ack_port or peer[1]
        if acks:
            port.send(acks, local, to)
        self._show(peer, (local, port.port), to, view, sizes, acks)
        if acks and peer == to and session not in self._data and session.successor is None:
            self._connect(session, port, slot, local, peer, now)

    def _connect(
        self, session: Session, port: SharedPort, slot: int, local: str, client: End, now: float
    ) -> None:
        """Have a dump that began go on on a socket of its own, if there can be one."""
        options = self._options
        try:
            data_socket = DataSocket(
                (local, port.port),
                client,
                buffer=options.receive_buffer,
                coalescing=options.coalescing,
            )
        except OSError:
            return
        self._data[session] = [data_socket]
        self._polling.watch(data_socket, partial(self._on_data, session, data_socket))
        self._on_data(session, data_socket, now)
        strangers, data_socket.strangers = data_socket.strangers, []
        for data, peer in strangers:
            arrival = Arrival(peer, local, len(data), [len(data)])
            self._take_shared(port, slot, arrival, data, now)

    def _on_data(self, session: Session, data_socket: DataSocket, now: float) -> None:
        if session.busy:  # in another thread, which the disk holds up
            self._polling.unwatch(data_socket)
            self._held_up.append((session, data_socket))
            return
        buffer = self._buffer
        sizes = data_socket.receive(buffer)
        if sizes:
            self._take_data(session, data_socket, buffer.view[: sum(sizes)], sizes, now)
        self._settle(now)

    def _take_data(
        self,
        session: Session,
        data_socket: DataSocket,
        data: Buffer,
        sizes: Sequence[int],
        now: float,
    ) -> None:
        acks = session.receive(data, now, sizes)
        if acks:
            data_socket.send(acks)
        if self._tap is not None:
            client, local = data_socket.client, data_socket.local
            self._show(client, local, client, data, sizes, acks)

    def _go_on(self, now: float) -> None:
        """Do what had to wait for dumps that are no longer held up."""
        if self._held_up:
            waiting, self._held_up = self._held_up, []
            for session, data_socket in waiting:
                if session.busy:
                    self._held_up.append((session, data_socket))
                elif data_socket in self._data.get(session, ()):
                    self._polling.watch(data_socket, partial(self._on_data, session, data_socket))
        if self._late:
            late, self._late = self._late, {}
            for herald in late.values():
                self._answer(herald, now)

    def _show(
        self, client: End, local: End, to: End, data: Buffer, sizes: Sequence[int], acks: bytes
    ) -> None:
        if self._tap is not None:
            self._tap.datagrams(client, local, data, sizes)
            self._tap.datagrams(local, to, acks, (ACK_SIZE,) * (len(acks) // ACK_SIZE))

    # HERALDs

    def _has_to_wait(self, herald: _Herald, now: float) -> bool:
        """Whether the client's name is looked up first."""
        address = herald.peer[0]
        if (
            self._lookups is None
            or any(one.closing is None for one in self._receiver.sessions_of(herald.peer))
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
        data, peer, local, listener = herald
        if self._untaken[peer[0]]:  # another thread is about to take what its client sent before
            self._late[peer] = herald
            return
        self._take_waiting(herald, now)
        if any(session.busy for session in self._receiver.sessions_of(peer)):
            self._late[peer] = herald  # what its client sent before is taken first
            return
        answer = self._receiver.herald(peer, local, data, now)
        if answer is not None:
            slot, ack = answer
            port, to = listener.ports[slot], (peer[0], self._options.ack_port or peer[1])
            port.send(ack, local, to)
            if self._tap is not None:
                self._tap.datagrams((local, port.port), to, ack, (ACK_SIZE,))
        self._settle(now)

    def _take_waiting(self, herald: _Herald, now: float) -> None:
        """Take what waits where earlier HERALDs of this client led to: it was sent before this
        one. All of it first, and only then is anything acked: what a client sends when it hears
        that may be of another dump. Until that is done no HERALD of those is answered whose data
        it is, as the disk may have another thread run the loop meanwhile."""
        buffer = self._buffer
        waiting: list[tuple[str, Callable[[], None]]] = []
        for slot in self._receiver.slots_of(herald.peer):
            port = herald.listener.ports[slot]
            while len(waiting) < DataSocket.MOST and (arrival := port.receive(buffer.view)):
                data = bytes(buffer.view[: arrival.end])
                first = partial(self._take_shared, port, slot, arrival, data, now)
                waiting.append((arrival.sender[0], first))
        for session in self._receiver.sessions_of(herald.peer):
            for data_socket in () if session.busy else self._data.get(session, ()):
                if sizes := data_socket.receive(buffer):
                    data = bytes(buffer.view[: sum(sizes)])
                    call = partial(self._take_data, session, data_socket, data, sizes, now)
                    waiting.append((session.client, call))
        if not waiting:
            return
        self._untaken.update(address for address, _ in waiting)
        for address, take in waiting:
            take()
            self._untaken[address] -= 1
        self._untaken = +self._untaken

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
            sockets = self._data.pop(old, [])
            self._data.setdefault(session, []).extend(sockets)
            for data_socket in sockets:
                self._polling.watch(data_socket, partial(self._on_data, session, data_socket))
        for session in gone:
            for data_socket in self._data.pop(session, ()):
                self._polling.unwatch(data_socket)
                data_socket.close()
        self._relay.watch(any(True for _ in self._receiver.sessions()))
        for event in events:
            self._tell(event)
        self._set_alarm(now)

    def _tell_filed(self) -> None:
        """Tell of the dumps that are on disk by now."""
        done = [filing for filing in self._filing if filing.done()]
        for filing in done:
            self._filing.remove(filing)
            self._receiver.filing -= 1
            self._tell(filing.result())

    def _tell_listening(self) -> None:
        granted, joins = probe(self._options.receive_buffer, self._options.coalescing)
        for address, port in self.addresses:
            self._tell(Listening(time.monotonic(), address, port, granted, joins))

    def _end(self) -> None:
        """Give back the port, end all dumps, wait until they are filed, and close everything."""
        for listener in self._listeners:
            self._polling.unwatch(listener.heralds)
            listener.heralds.close()
        self._relay.join()
        now = time.monotonic()
        self._receiver.stop(now)
        try:
            self._settle(now)
        finally:
            self._filers.shutdown()
            self.close()
        self._tell_filed()


def _start_threads(filers: ThreadPoolExecutor) -> None:
    """Have all threads of a pool by now: later the system may have none for a moment."""
    everyone = threading.Barrier(_FILERS + 1)
    try:
        for _ in range(_FILERS):
            filers.submit(everyone.wait)
        everyone.wait()
    except RuntimeError as error:
        everyone.abort()
        raise NetdumpError(f"no threads to file dumps in: {error}") from None


def _places(addresses: int) -> tuple[int, int]:
    """How many data ports to share at each of so many addresses, and how many dumps may have
    descriptors at once, those that linger or are being filed included."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        limit = 1 << 20
    slots = max(1, min(_SLOTS, limit // (8 * addresses)))
    left = limit - addresses * (slots + 1) - _OTHER_DESCRIPTORS
    return slots, max(1, left // _DESCRIPTORS_OF_DUMP)


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
