# SPDX-License-Identifier: GPL-2.0-or-later
"""The ports of a dump server that anybody may send to: for HERALDs, and for the data that follows.

A dump begins on a data port that all clients share, and goes on on a socket of its own, at the same
port (server_sockets.py). No error that a socket reports ends anything: ICMP is not authenticated.
"""

from __future__ import annotations

import contextlib
import socket
from typing import NamedTuple

from ..errors import NetdumpError
from ..wire import ACK_SIZE
from .ends import (
    ROOM,
    End,
    address_of,
    ask_for_destination,
    datagram_sizes,
    destination,
    end_of,
    source,
)
from .udp import MAX_DATAGRAM, ask_for_buffer, join_received

_MAX_PORT = 0xFFFF

#: Receive buffers, in bytes: of HERALDs, so many that a flood of them does not drown a client's;
#: of the first data of dumps, as much as clients send before they wait for an ack.
_HERALD_BUFFER, _SHARED_BUFFER = 4 << 20, 1 << 20


class SocketError(NetdumpError):
    """The server cannot listen where it was asked to."""


class HeraldSocket:
    """Where HERALDs come in, and at which of this host's addresses."""

    def __init__(self, address: str, port: int) -> None:
        """Bind to an address, that of no interface in particular included. SocketError."""
        if not 0 <= port <= _MAX_PORT:  # getaddrinfo(3) would take it modulo 65536
            raise SocketError(f"{address}: cannot listen: there is no port {port}")
        try:
            family, _, _, _, bound = socket.getaddrinfo(
                address, port, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE
            )[0]
        except (OSError, UnicodeError) as error:
            raise SocketError(f"{address}: not an address to listen on: {error}") from None
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            ask_for_destination(self._socket)
            ask_for_buffer(self._socket, _HERALD_BUFFER)
            self._socket.setblocking(False)
            self._socket.bind(bound)
        except OSError as error:
            self._socket.close()
            reason = f"{error.strerror}; is another dump server running?"
            raise SocketError(f"{address} port {port}: cannot listen: {reason}") from None
        self.end = end_of(self._socket.getsockname())

    def fileno(self) -> int:
        """Its descriptor, to poll."""
        return self._socket.fileno()

    def receive(self) -> tuple[bytes, End, str] | None:
        """A datagram, who sent it, and the address it was sent to; None if there is none."""
        try:
            data, ancillary, _, sender = self._socket.recvmsg(MAX_DATAGRAM, ROOM)
        except OSError:
            return None
        local = destination(ancillary, end_of(sender)[0]) or self.end[0]
        return data, end_of(sender), local

    def close(self) -> None:
        """Give back the port."""
        self._socket.close()


class Arrival(NamedTuple):
    """Datagrams of one sender that lie end to end from the beginning of a buffer to ``end``, sent
    to the address ``local`` of this host."""

    sender: End
    local: str
    end: int
    sizes: list[int]


class SharedPort:
    """A data port of the address of a `HeraldSocket`, which all clients may send to.

    It has the lowest rank: what a socket at the same port is connected to does not come here.
    """

    def __init__(self, address: str, coalescing: bool) -> None:
        """OSError if there can be none."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            ask_for_destination(self._socket)
            self._socket.setblocking(False)
            self._socket.bind(address_of((address, 0)))
            share(self._socket)  # not before: the system might choose one that is shared already
            ask_for_buffer(self._socket, _SHARED_BUFFER)
            if coalescing:
                join_received(self._socket)
        except OSError:
            self._socket.close()
            raise
        self.address, self.port = end_of(self._socket.getsockname())

    def fileno(self) -> int:
        """Its descriptor, to poll."""
        return self._socket.fileno()

    def receive(self, buffer: memoryview) -> Arrival | None:
        """What has come next, at the beginning of ``buffer``; None if there is nothing."""
        try:
            size, ancillary, _, sender = self._socket.recvmsg_into([buffer], ROOM)
        except OSError:
            return None
        end = end_of(sender)
        local = destination(ancillary, end[0]) or self.address
        return Arrival(end, local, size, datagram_sizes(size, ancillary))

    def send(self, acks: bytes, local: str, to: End) -> None:
        """Send acks, each by itself, from the address ``local`` of this host."""
        for start in range(0, len(acks), ACK_SIZE):
            self.put(acks[start : start + ACK_SIZE], local, to)

    def put(self, datagram: bytes, local: str, to: End) -> None:
        """Send a datagram. What cannot be sent is lost, as on the way."""
        beside = [] if local == self.address else source(local)
        with contextlib.suppress(OSError):
            self._socket.sendmsg([datagram], beside, 0, address_of(to))

    def close(self) -> None:
        """Give back the port."""
        self._socket.close()


def share(sock: socket.socket) -> None:
    """Let other sockets of the same user that say the same be bound to the same port."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
