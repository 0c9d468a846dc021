# SPDX-License-Identifier: GPL-2.0-or-later
"""The ways in which a capture may show a datagram, each as a function, and traffic that is
something else. Struct only, so that hypothesis can make thousands."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from helpers.captures import ETHERNET, enhanced, interface, section
from helpers.traffic import Datagram, frames

COOKED_V1, COOKED_V2, NULL, RAW = 113, 276, 0, 101
LINKS = (ETHERNET, COOKED_V1, COOKED_V2, NULL, RAW)


class Packet(NamedTuple):
    """A frame of some link layer; ``original`` is its size on the wire."""

    link: int
    data: bytes
    original: int

    def cut(self, size: int) -> Packet:
        return self._replace(data=self.data[:size])


def ip_packet(datagram: Datagram) -> bytes:
    """The IP packet alone, without the padding of Ethernet."""
    frame = next(frames([datagram])).data
    size = 40 if ":" in datagram.source else 20
    return frame[14 : 14 + size + 8 + len(datagram.payload)]


def _whole(link: int, data: bytes) -> list[Packet]:
    return [Packet(link, data, len(data))]


def _ethertype(packet: bytes) -> bytes:
    return b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00"


def _ethernet(packet: bytes, tags: bytes = b"") -> list[Packet]:
    data = bytes.fromhex("020000000001020000000002") + tags + _ethertype(packet) + packet
    return _whole(ETHERNET, data + bytes(max(0, 60 - len(data))))


def plain(datagram: Datagram) -> list[Packet]:
    return _ethernet(ip_packet(datagram))


def with_checksum_trailer(datagram: Datagram) -> list[Packet]:
    frame = plain(datagram)[0]
    return _whole(ETHERNET, frame.data + b"\xde\xad\xbe\xef")


def tagged(datagram: Datagram) -> list[Packet]:
    return _ethernet(ip_packet(datagram), b"\x81\x00\x00\x07")


def tagged_twice(datagram: Datagram) -> list[Packet]:
    return _ethernet(ip_packet(datagram), b"\x88\xa8\x00\x07\x81\x00\x00\x08")


def cooked_v1(datagram: Datagram) -> list[Packet]:
    packet = ip_packet(datagram)
    return _whole(COOKED_V1, bytes(14) + _ethertype(packet) + packet)


def cooked_v2(datagram: Datagram) -> list[Packet]:
    packet = ip_packet(datagram)
    return _whole(COOKED_V2, _ethertype(packet) + bytes(18) + packet)


def null(datagram: Datagram) -> list[Packet]:
    packet = ip_packet(datagram)
    family = 28 if packet[0] >> 4 == 6 else 2
    return _whole(NULL, struct.pack("<I", family) + packet)


def raw(datagram: Datagram) -> list[Packet]:
    return _whole(RAW, ip_packet(datagram))


def with_options(datagram: Datagram) -> list[Packet]:
    """IPv4 options (RFC 791: four no-operations), or an IPv6 hop-by-hop header of padding."""
    packet = ip_packet(datagram)
    if packet[0] >> 4 == 6:
        length = struct.pack("!H", len(packet) - 40 + 8)
        changed = packet[:4] + length + b"\0" + packet[7:40] + b"\x11\0\1\4\0\0\0\0" + packet[40:]
    else:
        length = struct.pack("!H", len(packet) + 4)
        changed = b"\x46" + packet[1:2] + length + packet[4:20] + b"\1\1\1\1" + packet[20:]
    return _ethernet(changed)


def without_ip_length(datagram: Datagram) -> list[Packet]:
    """As hosts that leave segmentation to the network card show what they send."""
    packet = ip_packet(datagram)
    at = 4 if packet[0] >> 4 == 6 else 2
    if len(packet) < 46:
        return _ethernet(packet)  # padding would be taken for payload
    return _ethernet(packet[:at] + b"\0\0" + packet[at + 2 :])


def fragments(datagram: Datagram, number: int = 0) -> list[Packet]:
    """In pieces, the second one first; ``number`` is the identification."""
    packet = ip_packet(datagram)
    six = packet[0] >> 4 == 6
    size = 40 if six else 20
    payload = packet[size:]
    cut = max(8, len(payload) // 2 // 8 * 8)
    pieces = [(0, payload[:cut], True), (cut, payload[cut:], False)]
    whole = []
    for at, piece, more in reversed([piece for piece in pieces if piece[1]]):
        if six:
            extra = struct.pack("!BBHI", 17, 0, at | more, number)
            head = packet[:4] + struct.pack("!HB", len(piece) + 8, 44) + packet[7:40] + extra
        else:
            total = struct.pack("!HHH", 20 + len(piece), number & 0xFFFF, more << 13 | at // 8)
            head = packet[:2] + total + packet[8:20]
        whole += _ethernet(head + piece)
    return whole


WRAPPINGS: list[Callable[[Datagram], list[Packet]]] = [
    plain,
    with_checksum_trailer,
    tagged,
    tagged_twice,
    cooked_v1,
    cooked_v2,
    null,
    raw,
    with_options,
    without_ip_length,
]

_ARP = bytes.fromhex("ffffffffffff0200000000020806") + bytes(46)
_TCP = (
    bytes.fromhex("0200000000010200000000020800")
    + bytes.fromhex("4500002c000040004006000001020304050607084e384e37")
    + bytes(40)
)
_ICMP6 = bytes.fromhex("02000000000102000000000286dd60000000000c3aff") + bytes(44)
_SPANNING_TREE = bytes.fromhex("0180c2000000020000000002002642420300") + bytes(42)
_DNS = Datagram(0.0, "10.99.0.9", 5353, "10.99.0.8", 53, b"a question of names" * 3)

#: What is none of the protocol's: nothing may be found in it.
OTHER_TRAFFIC = [
    *(Packet(ETHERNET, data, len(data)) for data in (_ARP, _TCP, _ICMP6, _SPANNING_TREE, b"runt")),
    *plain(_DNS),
    *fragments(_DNS, 77),
    Packet(COOKED_V1, bytes(16), 16),
    Packet(NULL, b"\x1e\0\0\0", 4),
    Packet(RAW, b"", 0),
]


def capture(packets: list[Packet]) -> bytes:
    """A pcapng file with an interface for each link layer; packet n has the time n seconds."""
    return (
        section()
        + b"".join(interface(link) for link in LINKS)
        + b"".join(
            enhanced(packet.data, number * 10**6, LINKS.index(packet.link), packet.original)
            for number, packet in enumerate(packets)
        )
    )
