# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages to frames, and frames to what a server sent.

Scapy builds one frame; the others differ from it in two lengths, two checksums and a port.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from struct import Struct
from typing import NamedTuple

from scapy.layers.inet import ICMP, IP, UDP, IPerror, UDPerror
from scapy.layers.l2 import ARP, Ether

from ...wire import Buffer

_BROADCAST = "ff:ff:ff:ff:ff:ff"
_ARP_FRAME_SIZE = 14 + 28
_REQUEST, _REPLY = 1, 2  # RFC 826: ares_op$REQUEST and ares_op$REPLY

# Where IPv4 without options (RFC 791), UDP (RFC 768) and its payload begin behind Ethernet.
_IP, _UDP, _PAYLOAD = 14, 34, 42
_UDP_HEADER_SIZE = _PAYLOAD - _UDP
_IP_LENGTH, _IP_CHECKSUM = _IP + 2, _IP + 10
_SHORT = Struct("!H")
_PORTS_AND_LENGTH = Struct("!HHH")
_PORT_LENGTH_CHECKSUM, _PORT_LENGTH_CHECKSUM_AT = Struct("!HHH"), _UDP + 2
_IP_HEADER = Struct("!BxHxxHxBxx4s4s")  # version and size, length, fragment, protocol, addresses

_ICMP_PROTOCOL, _UDP_PROTOCOL = 1, 17
_IS_FRAGMENT = 0x3FFF  # more to come, or an offset
_UNREACHABLE = 3  # RFC 792
_ONES = 0xFFFF


class Ends(NamedTuple):
    """Addresses of client and server, and the client's port."""

    client: str
    server: str
    port: int


class FrameBuilder:
    """Builds what a kernel sends (PROTOCOL.md): ttl 255, DF, id 0, UDP checksum."""

    def __init__(self, ends: Ends, source: str, destination: str) -> None:
        """``source`` and ``destination`` are hardware addresses."""
        ip = IP(src=ends.client, dst=ends.server, ttl=255, flags="DF", id=0, len=0, chksum=0)
        udp = UDP(sport=ends.port, dport=0, len=0, chksum=0)
        self._template = bytes(Ether(src=source, dst=destination) / ip / udp)
        self._ip_sum = int.from_bytes(self._template[_IP:_UDP], "big")
        addresses = int(IPv4Address(ends.client)) + int(IPv4Address(ends.server))
        self._udp_sum = addresses + _UDP_PROTOCOL + ends.port

    def frame(self, message: Buffer, port: int) -> bytes:
        """The frame that carries a message to the server's port."""
        udp_length = _UDP_HEADER_SIZE + len(message)
        ip_length = udp_length + _UDP - _IP
        head = bytearray(self._template)
        # The sum of 16-bit words in ones' complement is the number that the words make, modulo
        # 65535, as 65536 is 1 there (RFC 1071). 0 and 65535 are the same there: IPv4 has 0 for
        # its checksum then, and UDP 65535, as its 0 stands for no checksum.
        _SHORT.pack_into(head, _IP_LENGTH, ip_length)
        _SHORT.pack_into(head, _IP_CHECKSUM, -(self._ip_sum + ip_length) % _ONES)
        words = int.from_bytes(message, "big") << 8 * (len(message) % 2)
        checksum = _ONES - (self._udp_sum + 2 * udp_length + port + words) % _ONES
        _PORT_LENGTH_CHECKSUM.pack_into(head, _PORT_LENGTH_CHECKSUM_AT, port, udp_length, checksum)
        return bytes(head + message)


class FrameReader:
    """Finds what the server sent us, in frames that hold IPv4."""

    def __init__(self, ends: Ends) -> None:
        self._ends = ends
        self._server, self._client = (
            IPv4Address(ends.server).packed,
            IPv4Address(ends.client).packed,
        )

    def datagram(self, frame: bytes) -> tuple[bytes, int] | None:
        """The payload of a datagram from the server, and the port that it came from.

        Checksums are not looked at: hosts that leave them to a network card, as virtual
        machines do among themselves, deliver frames that have none yet.
        """
        if len(frame) < _PAYLOAD:
            return None
        version, length, fragment, protocol, source, destination = _IP_HEADER.unpack_from(
            frame, _IP
        )
        start, end = _IP + (version & 15) * 4, min(_IP + length, len(frame))
        ours = source == self._server and destination == self._client
        whole = start >= _UDP and start + _UDP_HEADER_SIZE <= end and not fragment & _IS_FRAGMENT
        if not (ours and whole and protocol == _UDP_PROTOCOL and version >> 4 == 4):
            return None
        sport, dport, size = _PORTS_AND_LENGTH.unpack_from(frame, start)
        if dport != self._ends.port or size < _UDP_HEADER_SIZE:
            return None
        return frame[start + _UDP_HEADER_SIZE : min(start + size, end)], sport

    def trouble(self, frame: bytes) -> str:
        """What an ICMP error says of a message to the server; empty if it is no such error."""
        if len(frame) < _PAYLOAD or frame[_IP + 9] != _ICMP_PROTOCOL:
            return ""
        packet = Ether(frame)
        ip, icmp, sent, udp = (packet.getlayer(layer) for layer in (IP, ICMP, IPerror, UDPerror))
        if ip is None or icmp is None or icmp.type != _UNREACHABLE or sent is None or udp is None:
            return ""
        if self._ends != (ip.dst, sent.dst, udp.sport):
            return ""
        return f"{ip.src} says {icmp.sprintf('%ICMP.code%')}"


def arp_request(hardware: str, address: str, target: str) -> bytes:
    """The question of ``address``, which is at ``hardware``, who has ``target``."""
    arp = ARP(op=_REQUEST, hwsrc=hardware, psrc=address, pdst=target)
    return bytes(Ether(src=hardware, dst=_BROADCAST) / arp)


def arp_reply(frame: bytes, hardware: str, address: str) -> bytes:
    """What to answer to a frame that asks for ``address``; nothing if it does not."""
    asked = _arp(frame)
    if asked is None or asked.op != _REQUEST or asked.pdst != address:
        return b""
    arp = ARP(op=_REPLY, hwsrc=hardware, psrc=address, hwdst=asked.hwsrc, pdst=asked.psrc)
    return bytes(Ether(src=hardware, dst=asked.hwsrc) / arp)


def arp_answer(frame: bytes, target: str) -> str | None:
    """The hardware address at which ``target`` is, if the frame says so."""
    told = _arp(frame)
    if told is None or told.op != _REPLY or told.psrc != target:
        return None
    address: str = told.hwsrc
    return address


def _arp(frame: bytes) -> ARP | None:
    """What a frame has of ARP between Ethernet and IPv4 addresses."""
    arp = Ether(frame).getlayer(ARP) if len(frame) >= _ARP_FRAME_SIZE else None
    return arp if isinstance(arp, ARP) and (arp.hwlen, arp.plen) == (6, 4) else None
