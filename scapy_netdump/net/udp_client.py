# SPDX-License-Identifier: GPL-2.0-or-later
"""A plain UDP socket as the client's way to the server.

The socket is not connected: the ack of the HERALD comes from a port that nobody knows
before. So the source address of each datagram is checked here.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
from contextlib import suppress

from ..errors import UsageError
from ..formats import ACK_PORT
from ..wire import ACK_SIZE, HEADER_SIZE, Buffer
from .transport import OUR_FAULTS, TransportError
from .udp import Address, Splitter, ask_for_buffer, join_received

#: The MTU that messages are made for. A stock netdumpd takes no payload above 4096 bytes. 1280 is
#: what every way takes with IPv6, whose routers do not fragment (RFC 8200, section 5).
MTU = {socket.AF_INET: 1500, socket.AF_INET6: 1280}
#: IPv4's least is 68 (RFC 791), with a payload of 16 bytes; the most has one of 65,483.
MTUS = range(100, 65_536)

_UDP_HEADER = 8
_IP_HEADERS = {socket.AF_INET: 20, socket.AF_INET6: 40}
_RECEIVE_BUFFER = 1 << 20
_MOST_BYTES = 1 << 16
_MOST_AT_ONCE = 64

# include/uapi/linux/in.h and in6.h: have ICMP errors told, also to a socket not connected.
_RECVERR = {socket.AF_INET: (0, 11), socket.AF_INET6: (41, 25)}
_MSG_ERRQUEUE = 0x2000
# IP_MTU_DISCOVER, IPV6_MTU_DISCOVER and what both call PMTUDISC_OMIT: datagrams that are too large
# are fragmented, here or by IPv4's routers, and what ICMP says of the way's MTU, which anyone can
# forge, is not believed.
_FRAGMENT = {socket.AF_INET: (0, 10, 5), socket.AF_INET6: (41, 23, 5)}


class UdpTransport:
    """To `server`, a name or an address, from `client`'s port `port` (0: any).

    Acks always go to port 20024 (PROTOCOL.md), unless the server answers to the port that
    messages come from.
    """

    def __init__(
        self, server: str, client: str | None = None, port: int = ACK_PORT, mtu: int | None = None
    ) -> None:
        if mtu is not None and mtu not in MTUS:
            raise UsageError(f"{mtu}: not an MTU; {MTUS[0]} to {MTUS[-1]}")
        family, self._address = _looked_up(server)
        self.server = str(self._address[0])
        self.trouble = ""
        self.mtu_payload = (mtu or MTU[family]) - _IP_HEADERS[family] - _UDP_HEADER - HEADER_SIZE
        self._from = self.server.partition("%")[0]
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._bind(family, client, port)
        except BaseException:
            self._socket.close()
            raise
        self._live_with_errors(family)
        ask_for_buffer(self._socket, _RECEIVE_BUFFER)
        join_received(self._socket)
        self._splitter = Splitter(self._socket)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    @property
    def port(self) -> int:
        """The port that messages come from."""
        return int(self._socket.getsockname()[1])

    def send(self, datagrams: Buffer, size: int, port: int) -> None:
        address = self._to(port)
        for _ in range(2):  # the first try may only tell of an ICMP error that came before
            try:
                self._splitter.send(datagrams, size, address)
                return
            except OSError as error:
                self._note(error, "send to")

    def receive(self, timeout: float) -> list[tuple[bytes, int]]:
        found = self._waiting()
        if not found and timeout > 0:
            if any(event & select.POLLERR for _, event in self._poll.poll(timeout * 1000)):
                self._drop_reports()
            found = self._waiting()
        return found

    def close(self) -> None:
        self._socket.close()

    def _waiting(self) -> list[tuple[bytes, int]]:
        found: list[tuple[bytes, int]] = []
        for _ in range(_MOST_AT_ONCE):
            try:
                data, address = self._socket.recvfrom(_MOST_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError as error:
                self._note(error, "hear")
                continue
            if address[0] == self._from:
                found.append((data, address[1]))
                if len(data) > ACK_SIZE:
                    break  # the system has joined what there was
        return found

    def _note(self, error: OSError, doing: str) -> None:
        """Remember what the network or the system said; raise what is our own fault."""
        reason = os.strerror(error.errno or 0)
        if error.errno in OUR_FAULTS:
            raise TransportError(f"cannot {doing} {self.server}: {reason}") from error
        self.trouble = reason
        self._drop_reports()

    def _drop_reports(self) -> None:
        """Empty the queue of ICMP errors, which makes the socket look as if it had something."""
        with suppress(OSError):
            for _ in range(_MOST_AT_ONCE):
                self._socket.recvmsg(0, 0, _MSG_ERRQUEUE | socket.MSG_DONTWAIT)

    def _bind(self, family: socket.AddressFamily, client: str | None, port: int) -> None:
        local: Address = ("", port)
        if client is not None:
            host, _, *scope = _looked_up(client, family)[1]
            local = (host, port, *scope)  # type: ignore[assignment]
        try:
            self._socket.bind(local)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise TransportError(
                    f"UDP port {port} is taken: another client sends from it. Wait for it, use "
                    "another address (-c), or --port 0 if the server answers any port"
                ) from error
            raise TransportError(
                f"cannot send from {client or 'any address'}, port {port}: "
                f"{os.strerror(error.errno or 0)}"
            ) from error

    def _live_with_errors(self, family: socket.AddressFamily) -> None:
        if sys.platform == "linux":
            self._socket.setsockopt(*_RECVERR[family], 1)
            self._socket.setsockopt(*_FRAGMENT[family])

    def _to(self, port: int) -> Address:
        host, _, *scope = self._address
        return (host, port, *scope)  # type: ignore[return-value]


def _looked_up(name: str, family: int = 0) -> tuple[socket.AddressFamily, Address]:
    """The address family and address of a host, by name or in numbers."""
    try:
        found = socket.getaddrinfo(name, 0, family, socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        raise TransportError(f"{name}: {reason}") from error
    return found[0][0], found[0][4]  # type: ignore[return-value]
