# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes over UDP: messages, acks, and datagrams that hold several; which is which."""

import struct
from typing import Any

from scapy.fields import IntEnumField, IntField, LongField, PacketListField
from scapy.layers.inet import UDP, UDPerror
from scapy.packet import Packet, Raw, bind_top_down

from .fields import PathField, Summary, _Layer, described, fixed_size, offset_of

# netdump(4): heralds go to the server's port 20023, acks to the client's port 20024. The
# numbers are NETDUMP_PORT and NETDUMP_ACKPORT in sys/netinet/netdump/netdump.h.
HERALD_PORT = 20023
ACK_PORT = 20024

# sys/netinet/netdump/netdump.h, NETDUMP_HERALD and so on.
MESSAGE_TYPES = {1: "HERALD", 2: "FINISHED", 3: "VMCORE", 4: "KDH", 5: "EKCD_KEY"}

# A server's data port is whatever its system hands out; a built ack leaves from the first
# port of the dynamic range (RFC 6335) unless told otherwise.
_SOME_EPHEMERAL_PORT = 49152
_ACK_SIZE = 4
_UDP_HEADER_SIZE = 8
# Scapy stops lists at 100 items unless told otherwise; the bytes there are bound these.
_NO_LIMIT = 1 << 32


class Netdump(_Layer):
    """A message from the client, a panicking kernel: netdump(4).

    `type` follows the payload and `len` its size when they are left out. A datagram of
    four bytes dissects as NetdumpAck, one of several messages as NetdumpMessages.
    """

    name = "FreeBSD netdump"
    fields_desc, meanings = described(
        (
            IntEnumField("type", 1, MESSAGE_TYPES),
            "What the message is for, and what its payload is.",
        ),
        (IntField("seqno", 0), "Sequence number, which the ack repeats."),
        (LongField("offset", 0), "Where the payload belongs in its file, in bytes."),
        (IntField("len", None), "Bytes of payload; the header is not counted."),
        (IntField("aux2", 0), "Unused by netdump; some clients leave rubbish in it."),
    )

    @classmethod
    def dispatch_hook(
        cls,
        _pkt: bytes = b"",
        *args: Any,
        _underlayer: Packet | None = None,
        _parent: Packet | None = None,
        **fields: Any,
    ) -> type[Packet]:
        """The class for the bytes of a whole datagram; the ports below it are considered."""
        if not _pkt or _parent is not None:  # being built, or one message out of several
            return cls
        if isinstance(_underlayer, UDP):
            return _class_by_ports(_pkt, _underlayer)
        return datagram_class(_pkt, len(_pkt), from_client=True)

    def post_build(self, pkt: bytes, pay: bytes) -> bytes:
        if self.len is None:
            pkt = pkt[:_LEN_AT] + struct.pack("!I", len(pay)) + pkt[_LEN_AT + 4 :]
        return pkt + pay

    def extract_padding(self, s: bytes) -> tuple[bytes, bytes | None]:
        return (s, None) if self.len is None else (s[: self.len], s[self.len :])

    def hashret(self) -> bytes:
        return _hash_of_seqno(self)

    def answers(self, other: Packet) -> int:
        return 0  # only an ack answers; a message quoted by an ICMP error does not

    def mysummary(self) -> Summary:
        shown = "netdump %Netdump.type% seqno=%Netdump.seqno%"
        if self.len:
            shown += " offset=%Netdump.offset% len=%Netdump.len%"
        return self.sprintf(shown), [UDP]


def _hash_of_seqno(layer: Packet) -> bytes:
    """What Scapy files a message under until its ack comes. Of what an ICMP error quotes it is
    another: Scapy would take the error for an answer to what it quotes."""
    return b"" if isinstance(layer.underlayer, UDPerror) else struct.pack("!I", layer.seqno or 0)


_HEADER_SIZE = sum(map(fixed_size, Netdump.fields_desc))
_LEN_AT = offset_of(Netdump, "len")


class NetdumpAck(_Layer):
    """The server's only message: the seqno of a client message that it has processed."""

    name = "FreeBSD netdump ack"
    fields_desc, meanings = described(
        (IntField("seqno", 0), "Sequence number of the message that is acknowledged."),
    )

    def extract_padding(self, s: bytes) -> tuple[bytes, bytes | None]:
        return b"", s

    def hashret(self) -> bytes:
        return _hash_of_seqno(self)

    def answers(self, other: Packet) -> int:
        return int(isinstance(other, Netdump) and self.seqno == other.seqno)

    def mysummary(self) -> Summary:
        return self.sprintf("netdump ack seqno=%NetdumpAck.seqno%"), [UDP]


class NetdumpMessages(Packet):
    """Several messages in one datagram, as hosts that coalesce UDP (GRO, GSO) capture them."""

    name = "FreeBSD netdump messages"
    fields_desc, meanings = described(
        (
            PacketListField(
                "messages",
                [],
                next_cls_cb=lambda pkt, seen, last, rest: Netdump if _known_type(rest) else None,
                max_count=_NO_LIMIT,
            ),
            "The messages, one after the other.",
        ),
    )

    def mysummary(self) -> Summary:
        return f"{len(self.messages)} netdump messages", [UDP]


class NetdumpAcks(Packet):
    """Several acks in one datagram, as hosts that coalesce UDP (GRO, GSO) capture them."""

    name = "FreeBSD netdump acks"
    fields_desc, meanings = described(
        (
            PacketListField(
                "acks",
                [],
                next_cls_cb=lambda pkt, seen, last, rest: (
                    NetdumpAck if len(rest) >= _ACK_SIZE else None
                ),
                max_count=_NO_LIMIT,
            ),
            "The acks, one after the other.",
        ),
    )

    def mysummary(self) -> Summary:
        return f"{len(self.acks)} netdump acks", [UDP]


class NetdumpHerald(_Layer):
    """The payload of a HERALD: where below its dump directory the server shall put the dump."""

    name = "FreeBSD netdump herald"
    fields_desc, meanings = described(
        (PathField("path", b""), "Relative path with its NUL; nothing at all for the default."),
    )

    def mysummary(self) -> Summary:
        return self.sprintf("path %NetdumpHerald.path%"), [Netdump, UDP]


def _known_type(payload: bytes) -> bool:
    """Whether a message may begin here."""
    return len(payload) >= 4 and int.from_bytes(payload[:4], "big") in MESSAGE_TYPES


def datagram_class(payload: bytes, length: int, *, from_client: bool) -> type[Packet]:
    """The class for a netdump datagram; `length` is its size as sent, cut off bytes included."""
    if length == _ACK_SIZE:
        return NetdumpAck
    if not from_client:
        return NetdumpAcks if length % _ACK_SIZE == 0 else Raw
    (first,) = struct.unpack("!I", payload[_LEN_AT : _LEN_AT + 4].rjust(4, b"\0"))
    return NetdumpMessages if _known_type(payload[_HEADER_SIZE + first :]) else Netdump


def _class_by_ports(payload: bytes, udp: UDP) -> type[Packet]:
    """The class for a datagram on one of netdump's ports, which others may use by chance.

    Scapy takes a datagram from port 53 for DNS, and 53 is its default source port. Where
    netdump has its type, DNS has an id and flags (RFC 1035, 4.1.1): a type of 1 to 5 would
    be a query with an error code.
    """
    length = max(len(payload), (udp.len or 0) - _UDP_HEADER_SIZE)
    from_client = udp.sport == ACK_PORT or udp.dport == HERALD_PORT
    if length == _ACK_SIZE or (from_client and _known_type(payload)):
        return datagram_class(payload, length, from_client=from_client)
    other = _other_protocol(udp)
    if other is not None:
        return other
    to_client = udp.dport == ACK_PORT or udp.sport == HERALD_PORT
    return datagram_class(payload, length, from_client=not to_client)


def _other_protocol(udp: UDP) -> type[Packet] | None:
    """The protocol, other than netdump, that Scapy would choose by the ports."""
    for ports, layer in UDP.payload_guess:
        if layer is not Netdump and all(udp.getfieldval(k) == v for k, v in ports.items()):
            return layer
    return None


def bind_ports() -> None:
    """Puts netdump's ports in front of all others, once however often this is imported."""
    ports = [{side: port} for port in (HERALD_PORT, ACK_PORT) for side in ("dport", "sport")]
    others = [guess for guess in UDP.payload_guess if guess[1].__module__ != __name__]
    UDP.payload_guess = [(fields, Netdump) for fields in ports] + others
    for message in (Netdump, NetdumpMessages):
        bind_top_down(UDP, message, sport=ACK_PORT, dport=HERALD_PORT)
    for ack in (NetdumpAck, NetdumpAcks):
        bind_top_down(UDP, ack, sport=_SOME_EPHEMERAL_PORT, dport=ACK_PORT)
