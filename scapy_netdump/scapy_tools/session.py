# SPDX-License-Identifier: GPL-2.0-or-later
"""Dissecting traffic of netdump on any port.

>>> sniff(offline="panic.pcapng", session=NetdumpSession).summary()
>>> sniff(offline="panic.pcapng", session=NetdumpSession(IPSession))    # fragments too
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias, TypeVar, cast

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import NoPayload, Packet, Padding
from scapy.sessions import DefaultSession

from ..formats import ACK_PORT, HERALD, HERALD_PORT
from ..layers import Netdump, NetdumpAck, NetdumpAcks, NetdumpMessages
from ..layers.messages import datagram_class
from ..wire import ACK_SIZE, HEADER_SIZE

if TYPE_CHECKING:
    from scapy.supersocket import SuperSocket

# An address and a port of the client, then of the server.
Ends: TypeAlias = tuple[str, int, str, int]
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

_UDP_HEADER_SIZE = len(UDP())
# Anyone can send heralds, so only so many are remembered; the oldest are forgotten.
_MAX_REMEMBERED = 1024


class NetdumpSession(DefaultSession):
    """For `sniff(session=...)`: dissects netdump on any port, one message a packet.

    The layers know a datagram by the ports 20023 and 20024. A client may send from another
    port, and then only its HERALD is known by its port. The session learns both ends of
    each dump from the HERALD and its ack, and dissects what follows between them.
    Super-frames (several messages or acks in one datagram) become a packet for each, with
    lengths and checksums of their own.
    """

    def __init__(self, supersession: DefaultSession | None = None) -> None:
        super().__init__(supersession)
        self._heralds: dict[tuple[str, int, str], int] = {}
        self._dumps: dict[Ends, None] = {}

    def recv(self, sock: "SuperSocket") -> Iterator[Packet]:
        for packet in super().recv(sock):
            for single in take_apart(packet):
                self._dissect_again(single)
                yield single

    def process(self, pkt: Packet) -> Packet | None:
        packet = super().process(pkt)
        if packet is not None:
            self._dissect_again(packet)
        return packet

    def _dissect_again(self, packet: Packet) -> None:
        carriers = udp_and_ip(packet)
        if carriers is None:
            return
        udp, ip = carriers
        self._learn(udp, ip)
        if isinstance(udp.payload, (Netdump, NetdumpAck, NetdumpMessages, NetdumpAcks)):
            return
        if (ip.src, udp.sport, ip.dst, udp.dport) in self._dumps:
            _replace_payload(udp, from_client=True)
        elif (ip.dst, udp.dport, ip.src, udp.sport) in self._dumps:
            _replace_payload(udp, from_client=False)

    def _learn(self, udp: UDP, ip: IP | IPv6) -> None:
        message = udp.payload
        if udp.dport == HERALD_PORT and isinstance(message, Netdump) and message.type == HERALD:
            _remember(self._heralds, (ip.src, udp.sport, ip.dst), message.seqno)
            return
        seqno = _ack_seqno(udp)
        for client_port in self._announced(ip.dst, udp.dport, ip.src):
            if self._heralds[ip.dst, client_port, ip.src] == seqno:
                _remember(self._dumps, (ip.dst, client_port, ip.src, udp.sport), None)

    def _announced(self, client: str, port: int, server: str) -> list[int]:
        """The client's ports whose HERALD an ack to `port` may answer: that one, or any if
        the ack goes where netdump(4) has all acks go."""
        if (client, port, server) in self._heralds:
            return [port]
        if port != ACK_PORT:
            return []
        return [sport for src, sport, dst in self._heralds if (src, dst) == (client, server)]


def udp_and_ip(packet: Packet) -> tuple[UDP, IP | IPv6] | None:
    """The datagram and what carries it; not a datagram that an ICMP error quotes."""
    udp = packet.getlayer(UDP)
    below = udp.underlayer if udp is not None else None
    while below is not None and not isinstance(below, (IP, IPv6)):
        below = below.underlayer  # extension headers of IPv6
    return None if udp is None or below is None else (cast(UDP, udp), below)


def _size_of_data(udp: UDP) -> int:
    """Bytes that the datagram held as sent, of which fewer may have been captured."""
    return len(udp.payload) if udp.len is None else max(udp.len - _UDP_HEADER_SIZE, 0)


def datagram_of(udp: UDP) -> bytes:
    """What the datagram holds, as far as it was captured, without padding of the frame."""
    return bytes(udp.payload)[: _size_of_data(udp)]


def _ack_seqno(udp: UDP) -> int | None:
    data = datagram_of(udp)
    return int.from_bytes(data, "big") if len(data) == ACK_SIZE else None


def _remember(table: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Puts an entry at the table's end; the one at its beginning goes if there are too many."""
    table.pop(key, None)
    table[key] = value
    if len(table) > _MAX_REMEMBERED:
        del table[next(iter(table))]


def _replace_payload(udp: UDP, *, from_client: bool) -> None:
    data = datagram_of(udp)
    padding = bytes(udp.payload)[len(data) :]
    layer = datagram_class(data, _size_of_data(udp), from_client=from_client)
    udp.remove_payload()
    if data:
        udp.add_payload(layer(data))
    if padding:
        udp.add_payload(Padding(padding))


def take_apart(packet: Packet) -> Iterator[Packet]:
    """The packet itself; or one packet for each message or ack of a super-frame."""
    carriers = udp_and_ip(packet)
    parts = _parts(carriers[0].payload) if carriers is not None else []
    if carriers is None or not parts:
        yield packet
        return
    sent = _size_of_data(carriers[0])
    carrier: Packet = packet.copy()
    carrier[UDP].remove_payload()
    for part in parts:
        yield _alone(carrier, part, surplus=sent - _size_as_sent(part))


def _parts(super_frame: Packet) -> list[Packet]:
    if isinstance(super_frame, NetdumpMessages):
        parts = list(super_frame.messages)
    elif isinstance(super_frame, NetdumpAcks):
        parts = list(super_frame.acks)
    else:
        return []
    rest = super_frame.payload
    return parts if isinstance(rest, (NoPayload, Padding)) else [*parts, rest]


def _size_as_sent(part: Packet) -> int:
    """Bytes of a message or ack; more than are here if a snap length cut it."""
    if isinstance(part, Netdump) and part.len is not None:
        return HEADER_SIZE + int(part.len)
    return len(part)


def _alone(carrier: Packet, part: Packet, surplus: int) -> Packet:
    """`part` in a packet of its own, which has `surplus` bytes less than the super-frame had."""
    single = carrier / part
    udp, ip = cast(tuple[UDP, IP | IPv6], udp_and_ip(single))
    for layer, size in ((udp, "len"), (ip, "len" if isinstance(ip, IP) else "plen")):
        left = (layer.getfieldval(size) or 0) - surplus
        here = len(layer) - (40 if size == "plen" else 0)  # IPv6 does not count its own header
        layer.setfieldval(size, left if left >= here else None)
    udp.chksum = None
    if isinstance(ip, IP):
        ip.chksum = None
    copy = type(carrier)(bytes(single))
    copy.time = carrier.time
    copy.sniffed_on = carrier.sniffed_on
    copy.direction = carrier.direction
    return copy
