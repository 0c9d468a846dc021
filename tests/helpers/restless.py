# SPDX-License-Identifier: GPL-2.0-or-later
"""Clients that dump, break off and begin again, a network between, and a server that stalls.

Time is virtual, and all chance comes from one seed. A client behaves as the kernel does
(PROTOCOL.md): it says HERALD until any ack comes, whose port it sends to from then on; it sends a
chunk, waits for its acks, sends again what is not acked, and gives up. It does not begin again
before what it sent has arrived or is lost, as no machine boots that fast; but the server may let
it wait in its sockets for any time, so that acks come late.

What nobody could tell does not happen here: that a late ack answers a HERALD which never reaches
the server, or that what such a client sends next overtakes what it sent before.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from random import Random

from helpers.receiving import MemorySink, MemorySinks, message
from helpers.traffic import header

from scapy_netdump import wire
from scapy_netdump.core.receiving.events import Ended
from scapy_netdump.core.receiving.limits import Limits
from scapy_netdump.core.receiving.receiver import Receiver
from scapy_netdump.formats import FINISHED, HERALD, HERALD_PORT, KDH, VMCORE

#: No datagram is longer on its way; a client waits so long before it begins again. Seconds.
LIFETIME = 1.0

_TIMEOUT, _TRIES = 0.7, 4
_PIECE, _CHUNK = 10, 5


#: The data port of the first slot.
_FIRST_PORT = 40_000


@dataclass
class Weather:
    """What happens: chances for each datagram, and for each step of a client or a server."""

    loss: float = 0.0
    duplicate: float = 0.0
    forge: float = 0.0
    abort: float = 0.0
    stall: float = 0.0
    no_header: float = 0.0


@dataclass
class Source:
    """A dump that a client sent, or a part of it."""

    client: str
    vmcore: bytes
    kdh: bytes


@dataclass
class Client:
    """A machine that panics again and again. ``sources`` are its dumps, the latest one last."""

    address: str
    random: Random
    weather: Weather
    sources: list[Source] = field(default_factory=list)
    port: int | None = None
    _seqno: int = 0
    _waiting: dict[int, bytes] = field(default_factory=dict)
    _tries: int = 0
    _script: Iterator[list[bytes]] | None = None

    @property
    def boots(self) -> bool:
        """Whether its next HERALD is the first one of a dump."""
        return self._script is not None and not self._tries

    def wake(self) -> tuple[list[tuple[bytes, int]], float]:
        """Datagrams to send now, each with its port, and after how long to wake again."""
        if self._waiting and self._tries < _TRIES and self.random.random() >= self.weather.abort:
            self._tries += 1
            port = HERALD_PORT if self.port is None else self.port
            return [(datagram, port) for datagram in self._waiting.values()], _TIMEOUT
        if self._waiting or self._script is None:  # it gave up, or its dump is sent
            self._begin()
            return [], 2 * LIFETIME
        return self._next_chunk(), _TIMEOUT

    def hear(self, ack: bytes, port: int) -> list[tuple[bytes, int]]:
        """Take an ack; datagrams to send now."""
        if self._script is None or not self._tries:  # it is down, or boots
            return []
        if self.port is None:
            self.port = port  # whatever it acks
            self._waiting.clear()
            return self._next_chunk()
        (seqno,) = wire.acks(ack)
        if self._waiting.pop(seqno, None) is not None and not self._waiting:
            return self._next_chunk()
        return []

    def _begin(self) -> None:
        """Panic: the first page is like that of the dump before."""
        size = self.random.randrange(1, 12) * _PIECE
        same = b"page one of it"[: self.random.choice([0, 14])]
        vmcore = (same + self.random.randbytes(size))[:size]
        kdh = header(size, panicstring=b"%d" % len(self.sources))
        self.sources.append(Source(self.address, vmcore, kdh))
        self.port, self._seqno, self._tries = None, 1, 0
        self._waiting = {1: message(HERALD, 1)}
        self._script = self._messages(self.sources[-1])

    def _messages(self, source: Source) -> Iterator[list[bytes]]:
        pieces = [
            self._message(VMCORE, at, source.vmcore[at : at + _PIECE])
            for at in range(0, len(source.vmcore), _PIECE)
        ]
        for at in range(0, len(pieces), _CHUNK):
            yield pieces[at : at + _CHUNK]
        if self.random.random() >= self.weather.no_header:
            yield [self._message(KDH, 0, source.kdh)]
        yield [self._message(FINISHED)]

    def _message(self, kind: int, offset: int = 0, payload: bytes = b"") -> bytes:
        self._seqno += 1
        return message(kind, self._seqno, offset, payload)

    def _next_chunk(self) -> list[tuple[bytes, int]]:
        chunk = next(self._script, None) if self._script is not None else None
        if chunk is None:
            self._script = None
            return []
        self._tries = 1
        self._waiting = {wire.messages(datagram)[0].seqno: datagram for datagram in chunk}
        assert self.port is not None
        return [(datagram, self.port) for datagram in chunk]


class World:
    """All of it. ``ended`` has each dump's end and its files, ``acked`` what was acked: client,
    type, offset, payload."""

    def __init__(self, seed: int, weather: Weather, clients: int = 2) -> None:
        self.random = Random(seed)
        self.weather = weather
        self.sinks = MemorySinks()
        self.receiver = Receiver(
            self.sinks,
            Limits(heralds=1e9, clients=clients, in_flight=_PIECE * _CHUNK),
            secret=b"",
        )
        self.clients = {
            f"192.0.2.{number}": Client(f"192.0.2.{number}", self.random, weather)
            for number in range(2, 2 + clients)
        }
        self.ended: list[tuple[Ended, MemorySink]] = []
        self.acked: set[tuple[str, int, int, bytes]] = set()
        self.forged = False
        self._queues: dict[int, deque[tuple[str, bytes]]] = {HERALD_PORT: deque()}
        self._order = count()
        self._events: list[tuple[float, int, str, tuple[str, bytes, int] | None]] = []
        self._stalled_until = 0.0
        self._announced: set[str] = set()
        self._arrives: dict[tuple[str, str], float] = {}
        self.now = 0.0

    def run(self, seconds: float) -> None:
        """Let it happen for some time, and then let the server end."""
        for address in self.clients:
            self._later(self.random.random(), "wake", (address, b"", 0))
        while self._events and self._events[0][0] < seconds:
            self.now, _, what, about = heapq.heappop(self._events)
            if what == "wake" and about is not None:
                self._wake(self.clients[about[0]])
            elif what == "arrive" and about is not None:
                self._queues.setdefault(about[2], deque()).append(about[:2])
                if about[2] == HERALD_PORT:
                    self._announced.add(about[0])
            elif what == "hear" and about is not None and about[0] in self._announced:
                self._send(about[0], self.clients[about[0]].hear(about[1], about[2]))
            self._serve()
        self.now = max(self.now, self._stalled_until)
        self._serve()
        self.receiver.stop(self.now)
        self._settle()

    def _later(self, after: float, what: str, about: tuple[str, bytes, int]) -> None:
        heapq.heappush(self._events, (self.now + after, next(self._order), what, about))

    def _wake(self, client: Client) -> None:
        if client.boots:
            self._announced.discard(client.address)
        datagrams, after = client.wake()
        self._send(client.address, datagrams)
        self._later(after, "wake", (client.address, b"", 0))

    def _send(self, client: str, datagrams: list[tuple[bytes, int]]) -> None:
        for datagram, port in datagrams:
            self._carry("arrive", (client, datagram, port))
            if self.random.random() < self.weather.forge:
                (found,) = wire.messages(datagram)
                evil = bytes(len(datagram) - found.start)
                self.forged = True
                self._carry("arrive", (client, datagram[: found.start] + evil, port))

    def _carry(self, what: str, about: tuple[str, bytes, int]) -> None:
        copies = 1 + (self.random.random() < self.weather.duplicate)
        for _ in range(copies):
            if self.random.random() >= self.weather.loss:
                after = self.random.random() * LIFETIME / 2
                if self.weather.stall:  # one behind the other
                    way = what, about[0]
                    after = max(after, self._arrives.get(way, 0.0) - self.now)
                    self._arrives[way] = self.now + after
                self._later(after, what, about)

    # The server, as server/ does it

    def _serve(self) -> None:
        if self.now < self._stalled_until:
            return
        if self.random.random() < self.weather.stall:
            self._stalled_until = self.now + self.random.random() * 6
            return
        for port in sorted(self._queues, key=lambda _: self.random.random()):
            self._drain(port)

    def _drain(self, port: int) -> None:
        queue = self._queues.setdefault(port, deque())
        while queue:
            client, datagram = queue.popleft()
            if port == HERALD_PORT:
                self._herald(client, datagram)
            else:
                slot = port - _FIRST_PORT
                session = self.receiver.session(
                    (client, 20024), "192.0.2.1", slot, datagram, self.now
                )
                if session is not None:
                    acks = self.receiver.receive(session, datagram, self.now)
                    self._note(client, datagram, acks)
                    self._answer(client, acks, port)
            self._settle()

    def _herald(self, client: str, datagram: bytes) -> None:
        for slot in self.receiver.slots_of((client, 20024)):
            self._drain(_FIRST_PORT + slot)
        answer = self.receiver.herald((client, 20024), "192.0.2.1", datagram, self.now)
        if answer is not None:
            slot, ack = answer
            self._answer(client, ack, _FIRST_PORT + slot)

    def _answer(self, client: str, acks: bytes, port: int) -> None:
        for at in range(0, len(acks), wire.ACK_SIZE):
            self._carry("hear", (client, acks[at : at + wire.ACK_SIZE], port))

    def _note(self, client: str, datagram: bytes, acks: bytes) -> None:
        if acks:
            (found,) = wire.messages(datagram)
            if found.type in (VMCORE, KDH):
                self.acked.add((client, found.type, found.offset, datagram[found.start :]))

    def _settle(self) -> None:
        outcome = self.receiver.take()
        self.receiver.filing -= len(outcome.closings)
        for closing in outcome.closings:
            sink = closing.sink
            assert isinstance(sink, MemorySink)
            self.ended.append((closing.run(self.now), sink))
