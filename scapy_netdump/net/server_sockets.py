# SPDX-License-Identifier: GPL-2.0-or-later
"""The sockets of a dump server: one that HERALDs come to, and one for each dump.

Addresses are (text, port); the text of a link-local IPv6 address ends in its zone, ``%2``.
No error that a socket reports ends anything: ICMP is not authenticated, and what is lost
the client sends again.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import sys
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import NetdumpError
from ..wire import ACK_SIZE
from .udp import (
    MAX_DATAGRAM,
    MOST,
    Address,
    ManyReceiver,
    Splitter,
    ask_for_buffer,
    can_receive,
    join_received,
)

End = tuple[str, int]

_MAX_PORT = 0xFFFF

# ip(7): the module socket does not name it; sys/netinet/in.h has IP_RECVDSTADDR instead.
_LINUX_IP_PKTINFO = 8
_BSD_IP_RECVDSTADDR = 7
_PKTINFO = struct.Struct("@I4s4s")  # interface, local address, destination as in the header
_PKTINFO6 = struct.Struct("@16sI")  # destination, interface
_ANCILLARY = socket.CMSG_SPACE(max(_PKTINFO.size, _PKTINFO6.size))

#: Bytes after which other dumps have their turn.
_AT_ONCE = 1 << 20

#: As many datagrams of one size in a row, each of no more bytes, have the next looked for many
#: in a call; fewer, one a call. (Where the system joins them, they are longer.)
_MANY, _FEW, _LONGEST = 8, 2, 9000

#: After so many datagrams that came alone, only each so manieth time one more is looked for.
_ALONE, _LOOK = 8, 64

#: Looks, of a microsecond or so each, before the process sleeps until something comes: to be
#: woken takes longer than a client on a local network takes to answer. Each time that this is
#: in vain it looks less often; each so manieth sleep it tries again.
_LOOKS, _FEWER, _TRY_AGAIN = 100, 10, 64


class SocketError(NetdumpError):
    """The server cannot listen where it was asked to."""


class Poller:
    """Which sockets have something to read: epoll(7) where there is one, else poll(2)."""

    def __init__(self) -> None:
        if sys.platform == "linux":
            self._poll = select.epoll()
            self._second = 1.0
        else:
            self._poll = select.poll()
            self._second = 1000.0
        self._looks = 0
        self._sleeps = 0

    def add(self, descriptor: int) -> None:
        """Watch one from now on."""
        self._poll.register(descriptor, select.POLLIN)

    def remove(self, descriptor: int) -> None:
        """Watch it no more."""
        self._poll.unregister(descriptor)

    def wait(self, timeout: float) -> list[tuple[int, int]]:
        """Wait until there are some: their descriptors, each with what poll(2) says of it."""
        poll = self._poll.poll
        for _ in range(self._looks):
            ready = poll(0)
            if ready:
                self._looks = _LOOKS
                return ready
        self._sleeps += 1
        again = self._sleeps % _TRY_AGAIN == 0
        self._looks = _LOOKS if again else max(0, self._looks - _FEWER)
        return poll(timeout * self._second)

    def close(self) -> None:
        """Give back what the system keeps for it."""
        if sys.platform == "linux":
            self._poll.close()


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
            _ask_for_destination(self._socket)
            self._socket.setblocking(False)
            self._socket.bind(bound)
        except OSError as error:
            self._socket.close()
            reason = f"{error.strerror}; is another dump server running?"
            raise SocketError(f"{address} port {port}: cannot listen: {reason}") from None
        self.end = _end(self._socket.getsockname())

    def fileno(self) -> int:
        """Its descriptor, to poll."""
        return self._socket.fileno()

    def receive(self) -> tuple[bytes, End, str] | None:
        """A datagram, who sent it, and the address it was sent to; None if there is none."""
        try:
            data, ancillary, _, sender = self._socket.recvmsg(MAX_DATAGRAM, _ANCILLARY)
        except OSError:
            return None
        local = _destination(ancillary, _end(sender)[0]) or self.end[0]
        return data, _end(sender), local

    def close(self) -> None:
        """Give back the port."""
        self._socket.close()


def _ask_for_destination(sock: socket.socket) -> None:
    """Have each datagram say which address it was sent to."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    elif sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_IP, _LINUX_IP_PKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _BSD_IP_RECVDSTADDR, 1)


def _destination(ancillary: Sequence[tuple[int, int, bytes]], sender: str) -> str:
    """The address of this host that a datagram came to; nothing if the system does not say."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO):
            packed, interface = _PKTINFO6.unpack(data[: _PKTINFO6.size])
            text = socket.inet_ntop(socket.AF_INET6, packed)
            return f"{text}%{interface}" if "%" in sender else text
        if level == socket.IPPROTO_IP and kind == _LINUX_IP_PKTINFO and sys.platform == "linux":
            # not the destination in the header, which a broadcast has as well
            return socket.inet_ntoa(_PKTINFO.unpack(data[: _PKTINFO.size])[1])
        if level == socket.IPPROTO_IP and kind == _BSD_IP_RECVDSTADDR:
            return socket.inet_ntoa(data[:4])
    return ""


class Burst(NamedTuple):
    """Datagrams of one sender that lie end to end from ``start`` to ``end`` of a buffer;
    ``sender`` is None where it can only be the one that the socket is connected to."""

    sender: Address | None
    start: int
    end: int
    sizes: list[int]


class DataSocket:
    """The socket of one dump, on a port of its own.

    ``client`` is where acks go. A socket that is ``connected`` hears that port of the
    client only; else any port of it, and `receive` says which. What comes from another
    address is dropped. One `receive` takes what has come, but no more than lets the other
    dumps have their turn.
    """

    #: The most datagrams that one `receive` takes, and a buffer that is large enough to take
    #: them in one call.
    MOST = MOST
    ROOM = MOST * MAX_DATAGRAM

    def __init__(
        self, local: str, client: End, *, connected: bool, buffer: int, coalescing: bool
    ) -> None:
        """OSError if there can be no such socket."""
        family = socket.AF_INET6 if ":" in local else socket.AF_INET
        self._client = _address(client)
        self._connected = connected
        self._most = self.MOST
        self._alone = 0
        self._expected = 0  # the size of the many that come at a time; 0: not so many do
        self._many: ManyReceiver | None = None
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.bind(_address((local, 0)))
            if connected:
                self._socket.connect(self._client)
                self._drop_strangers()
            ask_for_buffer(self._socket, buffer)
            self.coalescing = coalescing and join_received(self._socket)
        except OSError:
            self._socket.close()
            raise
        self.client = client
        self.local = _end(self._socket.getsockname())
        self._splitter = Splitter(self._socket, coalescing)

    def fileno(self) -> int:
        """Its descriptor, to poll."""
        return self._socket.fileno()

    def receive(self, buffer: memoryview) -> list[Burst]:
        """Datagrams that have come, into ``buffer``, as far as it has room for any more."""
        if self._expected:
            return self._from_client_at_once(buffer)
        take = self._from_client if self._connected else self._from_any
        return take(buffer, self._most)

    def send(self, acks: bytes, address: Address | None) -> None:
        """Send acks to ``address``, as `receive` has it; None for the client's."""
        if address is None and not self._connected:
            address = self._client
        for _ in range(2):  # the first try may only tell of an ICMP error that came before
            try:
                self._splitter.send(acks, ACK_SIZE, address)
                return
            except OSError:
                continue

    def close(self) -> None:
        """Give back the port."""
        self._socket.close()

    def _from_client(self, buffer: memoryview, most: int) -> list[Burst]:
        sizes: list[int] = []
        end = 0
        receive = self._socket.recv_into
        last = min(len(buffer), _AT_ONCE) - MAX_DATAGRAM
        for _ in range(most):
            if end > last:
                break
            try:
                size = receive(buffer[end:])
            except BlockingIOError:
                break
            except OSError:
                continue
            sizes.append(size)
            end += size
        self._came(len(sizes))
        if len(sizes) >= _MANY and can_receive and len(buffer) >= self.ROOM:
            self._expect(sizes)
        return [Burst(None, 0, end, sizes)] if sizes else []

    def _from_client_at_once(self, buffer: memoryview) -> list[Burst]:
        if self._many is None or self._many.buffer is not buffer:
            self._many = ManyReceiver(self._socket, buffer)
        try:
            sizes = self._many.receive(self._expected)
        except OSError:
            self._expected = 0
            return []
        self._expect(sizes)
        return [Burst(None, 0, sum(sizes), sizes)]

    def _expect(self, sizes: list[int]) -> None:
        """Find out from those that came how the next are best received."""
        size = sizes[0]
        alike = sizes.count(size) >= len(sizes) - 1
        self._expected = size if len(sizes) > _FEW and alike and 0 < size <= _LONGEST else 0

    def _from_any(self, buffer: memoryview, most: int) -> list[Burst]:
        bursts: list[Burst] = []
        end = 0
        receive = self._socket.recvfrom_into
        last = min(len(buffer), _AT_ONCE) - MAX_DATAGRAM
        for _ in range(most):
            if end > last:
                break
            try:
                size, sender = receive(buffer[end:])
            except BlockingIOError:
                break
            except OSError:
                continue
            if sender[0] != self._client[0] or sender[3:] != self._client[3:]:
                continue
            if not bursts or bursts[-1].sender != sender:
                bursts.append(Burst(sender, end, end, []))
            end += size
            bursts[-1].sizes.append(size)
            bursts[-1] = bursts[-1]._replace(end=end)
        self._came(sum(len(burst.sizes) for burst in bursts))
        return bursts

    def _came(self, count: int) -> None:
        """So many came. Each look for one more costs a call: it is spared where it is in vain."""
        self._alone = self._alone + 1 if count == 1 else 0
        one = self._alone >= _ALONE and self._alone % _LOOK
        self._most = 1 if one else self.MOST

    def _drop_strangers(self) -> None:
        """Before it was connected, anyone could send to its port."""
        with contextlib.suppress(OSError):
            while True:
                self._socket.recv(1)


def probe(buffer: int, coalescing: bool) -> tuple[int, bool]:
    """The receive buffer that a dump's socket will get, and whether it joins datagrams."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return ask_for_buffer(sock, buffer), coalescing and join_received(sock)


def has_ipv6() -> bool:
    """Whether this host can listen on IPv6 at all."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def _address(end: End) -> Address:
    text, port = end
    if ":" not in text:
        return text, port
    host, _, zone = text.partition("%")
    if zone and not zone.isdecimal():
        zone = str(socket.if_nametoindex(zone))
    return host, port, 0, int(zone or 0)


def _end(sockaddr: Sequence[object]) -> End:
    """An address of the system's as text and port."""
    host, port = str(sockaddr[0]).partition("%")[0], int(str(sockaddr[1]))
    zone = int(str(sockaddr[3])) if len(sockaddr) > 3 else 0
    return (f"{host}%{zone}" if zone else host), port
