# SPDX-License-Identifier: GPL-2.0-or-later
"""A sender of the core and the server's core, joined by a link that does not exist.

Time is virtual: a dump of an hour is over at once, and the same seed does the same again.
Between the two stands whatever is asked for: delay, faults, a receive buffer that overflows.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random

from helpers.receiving import DataPorts, MemorySinks
from helpers.traffic import header

from scapy_netdump import formats
from scapy_netdump.core.receiving.events import Ended
from scapy_netdump.core.receiving.limits import Limits
from scapy_netdump.core.receiving.receiver import Receiver
from scapy_netdump.core.sending.faults import Faults, Rates
from scapy_netdump.core.sending.sender import Sender
from scapy_netdump.wire import ACK_SIZE, Buffer, messages

CLIENT = ("192.0.2.2", formats.ACK_PORT)
SERVER = "192.0.2.1"
_FIRST_PORT = 40_000
_HELD = 0.005


@dataclass
class Content:
    """A dump to send, from memory."""

    vmcore: bytes
    key: bytes = b""
    kdh: bytes = b""

    def __post_init__(self) -> None:
        self.kdh = self.kdh or header(len(self.vmcore))

    @property
    def size(self) -> int:
        return len(self.vmcore)

    def read(self, offset: int, size: int) -> bytes:
        return self.vmcore[offset : offset + size]


class Server:
    """The server's core, with a port for each session. ``deaf`` makes it hear nothing."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.sinks = MemorySinks()
        self.ended: list[Ended] = []
        self.deaf = False
        self._receiver = Receiver(self.sinks, limits or Limits(heralds=1e6), secret=b"")
        self._ports = DataPorts(self._receiver)

    def take(self, datagram: bytes, port: int, now: float) -> list[tuple[bytes, int]]:
        """Acks, each with the port that it comes from."""
        if self.deaf:
            return []
        if port == formats.HERALD_PORT:
            answer = self._ports.herald(CLIENT, SERVER, datagram, now)
            if answer is None:
                return []
            data_port, acks = answer
            port = _FIRST_PORT + data_port.slot
        elif port >= _FIRST_PORT:
            session = self._receiver.session(CLIENT, SERVER, port - _FIRST_PORT, datagram, now)
            acks = b"" if session is None else self._receiver.receive(session, datagram, now)
        else:
            return []
        self._settle(now)
        return [(acks[at : at + ACK_SIZE], port) for at in range(0, len(acks), ACK_SIZE)]

    def stop(self, now: float) -> None:
        self._receiver.stop(now)
        self._settle(now)

    def vmcores(self) -> list[bytes]:
        return self.sinks.vmcores()

    def _settle(self, now: float) -> None:
        outcome = self._receiver.take()
        self._receiver.filing -= len(outcome.closings)
        self.ended += [closing.run(now) for closing in outcome.closings]


@dataclass
class Link:
    """``delay`` each way in seconds; the server takes ``service`` seconds for a datagram, and
    what arrives while it has ``buffer`` bytes to do is lost."""

    delay: float = 0.0005
    rates: Rates = field(default_factory=Rates)
    seed: int = 0
    service: float = 1e-6
    buffer: float = float("inf")
    server: Server = field(default_factory=Server)

    def __post_init__(self) -> None:
        random = Random(self.seed)
        self.out = Faults(self.rates, random.random)
        self.back = Faults(self.rates, random.random)
        self.time = 0.0
        self.overflowed = 0
        self.transmitted: list[tuple[float, int, int]] = []  # time, type, seqno
        self._order = count()
        self._events: list[tuple[float, int, bool, bytes, int]] = []
        self._queue: deque[tuple[float, int]] = deque()  # done when, bytes
        self._busy_until = 0.0
        self._ports = {True: 0, False: 0}  # of the latest datagram, each way

    @property
    def dropped(self) -> int:
        """Datagrams that did not arrive, for any reason."""
        bad = self.out.corrupted + self.back.corrupted
        return self.out.dropped + self.back.dropped + self.overflowed + bad

    def run(self, sender: Sender, patience: float = 1e6) -> None:
        """Until the sender is done; what it raises comes out."""
        while not sender.done:
            self.send(sender)
            self.step(sender)
            assert self.time < patience, "does not come to an end"

    def send(self, sender: Sender) -> None:
        """All that it wants to send at this time."""
        while (burst := sender.next_burst(self.time)) is not None:
            assert len(burst.data) > 0
            for start in range(0, len(burst.data), burst.size):
                for message in messages(burst.data[start : start + burst.size]):
                    self.transmitted.append((self.time, message.type, message.seqno))
            self._carry(self.out.through(burst.data, burst.size), True, burst.port)

    def step(self, sender: Sender) -> None:
        """Go on to whatever happens next."""
        due = sender.deadline()
        next_event = self._events[0][0] if self._events else float("inf")
        if (self.out.held or self.back.held) and min(next_event, due) > self.time + _HELD:
            self.time += _HELD
            self._carry(self.out.release(), True, self._ports[True])
            self._carry(self.back.release(), False, self._ports[False])
            return
        assert min(next_event, due) < float("inf"), "nothing will ever happen"
        if due < next_event:
            self.time = max(self.time, due)
            return
        self.time, _, to_server, datagram, port = heapq.heappop(self._events)
        if to_server:
            self._arrive(datagram, port)
        else:
            sender.receive(datagram, port, self.time)

    def _carry(self, runs: Sequence[tuple[Buffer, int]], to_server: bool, port: int) -> None:
        self._ports[to_server] = port
        for datagrams, size in runs:
            for start in range(0, len(datagrams), size):
                datagram = bytes(datagrams[start : start + size])
                event = (self.time + self.delay, next(self._order), to_server, datagram, port)
                heapq.heappush(self._events, event)

    def _arrive(self, datagram: bytes, port: int) -> None:
        while self._queue and self._queue[0][0] <= self.time:
            self._queue.popleft()
        if sum(size for _, size in self._queue) + len(datagram) > self.buffer:
            self.overflowed += 1
            return
        self._busy_until = max(self._busy_until, self.time) + self.service
        self._queue.append((self._busy_until, len(datagram)))
        now, self.time = self.time, self._busy_until
        for ack, source in self.server.take(datagram, port, self.time):
            self._carry(self.back.through(ack, ACK_SIZE), False, source)
        self.time = now
