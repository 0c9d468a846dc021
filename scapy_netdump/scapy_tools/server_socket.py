# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a Scapy dump server hears messages: UDP sockets of the system, or frames.

Either is one Scapy socket.
"""

from __future__ import annotations

import random
import select
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from scapy.arch import get_if_addr
from scapy.config import conf
from scapy.data import MTU
from scapy.error import Scapy_Exception
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether
from scapy.packet import Packet
from scapy.supersocket import SuperSocket

from ..errors import NetdumpError
from ..layers.messages import datagram_class
from ..net.ends import End
from ..net.listening import HeraldSocket, SharedPort
from ..net.udp import MAX_DATAGRAM
from .session import take_apart, udp_and_ip

_MOST_ZONES = 64
_LONGEST_WAIT = 0.5  # seconds, after which somebody looks at the clock
_EPHEMERAL = range(49152, 65536)  # RFC 6335


class DumpServerSocket(SuperSocket):
    """Receives messages, each with IP() and UDP() that tell who sent it to which port.

    What is sent leaves from the port that its UDP layer names. ``idle`` is called now and then
    while somebody waits for messages; ``end`` is the address and port that HERALDs come to.
    """

    end: End

    def __init__(self) -> None:
        self.closed = True  # nothing to close, as long as nothing is open
        self.idle: Callable[[], object] = lambda: None
        self._received: deque[Packet] = deque()

    @abstractmethod
    def open_port(self) -> int:
        """A port for data. OSError if there can be none."""

    @abstractmethod
    def descriptors(self) -> list[int]:
        """All that has to be waited for: see `select`."""

    @abstractmethod
    def _receive(self) -> None:
        """Put what is there by now into ``_received``."""

    def recv(self, x: int = MTU, **_: Any) -> Packet | None:
        """The next message; None if there is none."""
        if not self._received:
            self._receive()
        return self._received.popleft() if self._received else None

    @staticmethod
    def select(
        sockets: Sequence[SuperSocket], remain: float | None = _LONGEST_WAIT
    ) -> list[SuperSocket]:
        """Those of ``sockets`` that have something; after a while none, if there is none."""
        ready: list[SuperSocket] = []
        owner: dict[int, SuperSocket] = {}
        for opened in sockets:
            if not isinstance(opened, DumpServerSocket):
                owner[opened.fileno()] = opened
                continue
            opened.idle()
            owner.update(dict.fromkeys(opened.descriptors(), opened))
            if opened._received:
                ready.append(opened)
        wait = _LONGEST_WAIT if remain is None else min(remain, _LONGEST_WAIT)
        found, _, _ = select.select(owner, [], [], 0 if ready else wait)
        return list(dict.fromkeys([*ready, *(owner[descriptor] for descriptor in found)]))


class UdpServerSocket(DumpServerSocket):
    """UDP sockets of the system: one for HERALDs, and one for each data port."""

    desc = "receive netdump messages over UDP and send acks"

    def __init__(self, address: str, port: int) -> None:
        super().__init__()
        self._heralds = HeraldSocket(address, port)
        self.closed = False
        self.end = self._heralds.end
        self._ports: dict[int, SharedPort] = {}
        self._zones: dict[str, str] = {}
        self._buffer = memoryview(bytearray(MAX_DATAGRAM))

    def open_port(self) -> int:
        opened = SharedPort(self.end[0], coalescing=False)
        self._ports[opened.port] = opened
        return opened.port

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._heralds.close()
        while self._ports:
            self._ports.popitem()[1].close()

    def fileno(self) -> int:
        """Of the socket that HERALDs come to."""
        return self._heralds.fileno()

    def descriptors(self) -> list[int]:
        return [self.fileno(), *(opened.fileno() for opened in self._ports.values())]

    def send(self, x: Packet, **_: Any) -> int:
        """Send what is above UDP; returns its size, or 0 if it is from no port of this."""
        opened = self._ports.get(x[UDP].sport)
        if opened is None:
            return 0
        ip, data = x[UDP].underlayer, bytes(x[UDP].payload)
        here, there = (f"{address}{self._zones.get(address, '')}" for address in (ip.src, ip.dst))
        opened.put(data, here, (there, x[UDP].dport))
        return len(data)

    def _receive(self) -> None:
        if (herald := self._heralds.receive()) is not None:
            data, sender, local = herald
            self._take(sender, (local, self.end[1]), data)
        for port, opened in self._ports.items():
            if (arrival := opened.receive(self._buffer)) is not None:
                sender, local, end, _ = arrival
                self._take(sender, (local, port), bytes(self._buffer[:end]))

    def _take(self, source: End, destination: End, data: bytes) -> None:
        """A datagram that the system has unpacked, packed again."""
        for address, _ in (source, destination):  # IPv6() has no room for a zone
            plain, percent, zone = address.partition("%")
            if zone:
                self._zones = dict(list(self._zones.items())[-_MOST_ZONES:])
                self._zones[plain] = percent + zone
        self._received.append(_packet(source, destination, data))


class FrameServerSocket(DumpServerSocket):
    """Frames of an interface, past the system's sockets; needs root. Hears clients that send
    from port 20024, as the layers know them by it.

    The system knows nothing of it and tells clients that nobody listens at these ports, with
    ICMP errors, which mean nothing to them.
    """

    desc = "receive netdump messages in frames and send acks"

    def __init__(self, interface: Any, address: str, port: int) -> None:
        super().__init__()
        try:
            self._frames = conf.L2socket(iface=interface)
        except (OSError, ValueError, Scapy_Exception) as error:
            reason = getattr(error, "strerror", None) or error
            raise NetdumpError(
                f"{interface}: {reason}; frames need root and an interface"
            ) from None
        self.closed = False
        self.end = address or get_if_addr(interface), port
        self._ports: set[int] = set()
        self._last = Ether()

    def open_port(self) -> int:
        port = random.choice([port for port in _EPHEMERAL if port not in self._ports])
        self._ports.add(port)
        return port

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._frames.close()

    def fileno(self) -> int:
        return int(self._frames.fileno())

    def descriptors(self) -> list[int]:
        return [self.fileno()]

    def send(self, x: Packet, **_: Any) -> int:
        """Send IP()/UDP()/... in a frame, to whose message was received last; returns its size,
        or 0 if it is from no port of this."""
        if x[UDP].sport not in self._ports:
            return 0
        return int(self._frames.send(Ether(src=self._last.dst, dst=self._last.src) / x))

    def recv(self, x: int = MTU, **_: Any) -> Packet | None:
        message = super().recv(x)
        if message is not None:
            self._last = message[Ether]
        return message

    def _receive(self) -> None:
        frame = self._frames.recv()
        if frame is None or Ether not in frame:
            return
        carriers = udp_and_ip(frame)
        if carriers is None or carriers[1].dst != self.end[0]:
            return
        if carriers[0].dport in {self.end[1], *self._ports}:
            self._received += take_apart(frame)


def _packet(source: End, destination: End, data: bytes) -> Packet:
    """A datagram that the system has unpacked, packed again."""
    ip: Packet = IPv6() if ":" in source[0] else IP()
    ip.src, ip.dst = source[0].partition("%")[0], destination[0].partition("%")[0]
    packet = ip / UDP(sport=source[1], dport=destination[1])
    return packet / datagram_class(data, len(data), from_client=True)(data) if data else packet
