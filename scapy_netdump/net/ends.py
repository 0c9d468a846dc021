# SPDX-License-Identifier: GPL-2.0-or-later
"""Addresses of sockets as text and port, and what a datagram says of its way beside its bytes.

The text of a link-local IPv6 address ends in its zone, ``%2``.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Sequence

from .udp import SOL_UDP, UDP_GRO, Address, split_sizes

#: An address as text, and a port.
End = tuple[str, int]

#: What recvmsg(2) and sendmsg(2) carry beside a datagram: level, type, data.
Ancillary = tuple[int, int, bytes]

# ip(7), udp(7): the module socket does not name them; sys/netinet/in.h has IP_RECVDSTADDR, which is
# IP_SENDSRCADDR as well, instead of IP_PKTINFO.
_LINUX_IP_PKTINFO = 8
_BSD_IP_RECVDSTADDR = 7
_PKTINFO = struct.Struct("@I4s4s")  # interface, local address, destination as in the header
_PKTINFO6 = struct.Struct("@16sI")  # address, interface
_SIZE = struct.Struct("@i")

#: Room for all that is asked for here.
ROOM = socket.CMSG_SPACE(_SIZE.size) + socket.CMSG_SPACE(max(_PKTINFO.size, _PKTINFO6.size))

#: Room for the size of the datagrams that were joined.
SIZE_ROOM = socket.CMSG_SPACE(_SIZE.size)


def address_of(end: End) -> Address:
    """An end as the module socket takes it."""
    text, port = end
    if ":" not in text:
        return text, port
    host, _, zone = text.partition("%")
    if zone and not zone.isdecimal():
        zone = str(socket.if_nametoindex(zone))
    return host, port, 0, int(zone or 0)


def end_of(sockaddr: Sequence[object]) -> End:
    """An address of the module socket's as text and port."""
    host, port = str(sockaddr[0]).partition("%")[0], int(str(sockaddr[1]))
    zone = int(str(sockaddr[3])) if len(sockaddr) > 3 else 0
    return (f"{host}%{zone}" if zone else host), port


def ask_for_destination(sock: socket.socket) -> None:
    """Have each datagram say which address it was sent to; an IPv6 socket hears IPv6 alone."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    elif sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_IP, _LINUX_IP_PKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _BSD_IP_RECVDSTADDR, 1)


def destination(ancillary: Sequence[Ancillary], sender: str) -> str:
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


def source(local: str) -> list[Ancillary]:
    """What has a datagram leave from one of this host's addresses, by a socket of all of them."""
    if ":" in local:
        packed = socket.inet_pton(socket.AF_INET6, local.partition("%")[0])
        zone = address_of((local, 0))[-1] if "%" in local else 0
        return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PKTINFO6.pack(packed, zone))]
    packed = socket.inet_aton(local)
    if sys.platform == "linux":
        return [(socket.IPPROTO_IP, _LINUX_IP_PKTINFO, _PKTINFO.pack(0, packed, bytes(4)))]
    return [(socket.IPPROTO_IP, _BSD_IP_RECVDSTADDR, packed)]


def datagram_sizes(size: int, ancillary: Sequence[Ancillary]) -> list[int]:
    """The sizes of the datagrams in ``size`` received bytes: the system says at what size it
    joined some (udp(7), UDP_GRO). The last one may be shorter."""
    for level, kind, data in ancillary:
        if (level, kind) == (SOL_UDP, UDP_GRO):
            return split_sizes(size, int(_SIZE.unpack(data[: _SIZE.size])[0]))
    return [size]
