# SPDX-License-Identifier: GPL-2.0-or-later
"""Scapy layers of FreeBSD netdump(4): the one definition of every protocol field.

Everything else that knows a field (formats.py for the bulk codec, the README's field
table) is generated from here by generate.py. May import Scapy and the standard library,
of this package only what does not depend on the generated formats.

    >>> IP(dst="192.0.2.1")/UDP()/Netdump(seqno=1)/NetdumpHerald(path="lab")
    >>> IP(dst="192.0.2.1")/UDP(dport=41885)/Netdump(seqno=2, offset=0)/b"..."
"""

import struct
from typing import Any, ClassVar, TypeAlias

from scapy.config import conf
from scapy.fields import (
    AnyField,
    ByteEnumField,
    FieldLenField,
    IntEnumField,
    IntField,
    LongField,
    PacketListField,
    StrFixedLenField,
    StrLenField,
)
from scapy.layers.inet import UDP
from scapy.packet import Packet, Raw, bind_layers, bind_top_down

from scapy_netdump.kerneldump.parity import parity_of
from scapy_netdump.scapy_fields import (
    CStringField,
    DumpTimeField,
    MagicField,
    ParityField,
    PathField,
    fixed_size,
)

__all__ = [
    "KernelDumpHeader",
    "KernelDumpHeaderV1",
    "KernelDumpHeaderV2",
    "KernelDumpHeaderV3",
    "KernelDumpKey",
    "Netdump",
    "NetdumpAck",
    "NetdumpAcks",
    "NetdumpHerald",
    "NetdumpMessages",
]

# netdump(4): heralds go to the server's port 20023, acks to the client's port 20024. The
# numbers are NETDUMP_PORT and NETDUMP_ACKPORT in sys/netinet/netdump/netdump.h.
HERALD_PORT = 20023
ACK_PORT = 20024

# sys/netinet/netdump/netdump.h, NETDUMP_HERALD and so on.
MESSAGE_TYPES = {1: "HERALD", 2: "FINISHED", 3: "VMCORE", 4: "KDH", 5: "EKCD_KEY"}
# sys/sys/kerneldump.h, KERNELDUMP_COMP_* and KERNELDUMP_ENC_*.
COMPRESSIONS = {0: "none", 1: "gzip", 2: "zstd"}
ENCRYPTIONS = {0: "none", 1: "aes-256-cbc", 2: "chacha20"}
# sys/sys/kerneldump.h: KERNELDUMPMAGIC, TEXTDUMPMAGIC, KERNELDUMPMAGIC_CLEARED.
MAGICS = (b"FreeBSD Kernel Dump", b"FreeBSD Text Dump", b"Cleared Kernel Dump")

# A server's data port is whatever its system hands out; a built ack leaves from the first
# port of the dynamic range (RFC 6335) unless told otherwise.
_SOME_EPHEMERAL_PORT = 49152
_ACK_SIZE = 4
_UDP_HEADER_SIZE = 8
_LARGEST_DATAGRAM = 65535

Described: TypeAlias = tuple[AnyField, str]
# What mysummary() returns: text, and the layers below whose own text stands before it.
# Scapy's annotation knows the text only.
Summary: TypeAlias = Any


def described(*fields: Described) -> tuple[list[AnyField], dict[str, str]]:
    """Splits (field, meaning) pairs into Scapy's `fields_desc` and a map of name to meaning."""
    return [field for field, _ in fields], {field.name: meaning for field, meaning in fields}


class _Layer(Packet):
    """A layer that may have been cut anywhere by a snap length, and still dissects."""

    meanings: ClassVar[dict[str, str]] = {}

    def do_dissect(self, s: bytes) -> bytes:
        """Takes the fields that are there whole; the others are None, the rest is payload."""
        rest = s
        for position, field in enumerate(self.fields_desc):
            if len(rest) < fixed_size(field):
                cut = self.fields_desc[position:]
                self.fields.update((missing.name, None) for missing in cut)
                break
            rest, self.fields[field.name] = field.getfield(self, rest)
        self.raw_packet_cache = s[: len(s) - len(rest)]
        self.raw_packet_cache_fields = {}
        self.explicit = 1
        return rest

    def guess_payload_class(self, payload: bytes) -> type[Packet]:
        """As bound; but what is left of a layer that was cut is no other layer."""
        cut = self.fields.get(self.fields_desc[-1].name, b"") is None
        return Raw if cut else super().guess_payload_class(payload)


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
        return struct.pack("!I", self.seqno or 0)

    def answers(self, other: Packet) -> int:
        return 0  # only an ack answers; a message quoted by an ICMP error does not

    def mysummary(self) -> Summary:
        shown = "netdump %Netdump.type% seqno=%Netdump.seqno%"
        if self.len:
            shown += " offset=%Netdump.offset% len=%Netdump.len%"
        return self.sprintf(shown), [UDP]


def offset_of(layer: type[Packet], name: str) -> int:
    """Where a field begins in its layer, in bytes; the fields before it have a fixed size."""
    names = [field.name for field in layer.fields_desc]
    return sum(map(fixed_size, layer.fields_desc[: names.index(name)]))


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
        return struct.pack("!I", self.seqno or 0)

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
                max_count=_LARGEST_DATAGRAM // _HEADER_SIZE,
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
                max_count=_LARGEST_DATAGRAM // _ACK_SIZE,
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


# sys/sys/kerneldump.h, struct kerneldumpheader. The versions begin and end alike.
_MAGIC = MagicField("magic", MAGICS, 20), "What this is: a kernel dump, a text dump, or cleared."
_ARCHITECTURE = CStringField("architecture", b"amd64", 12), "Machine architecture, as uname -p."
_ARCHITECTUREVERSION = (
    IntField("architectureversion", 2),
    "Version of the dump's own format on that architecture.",
)
_DUMPLENGTH = LongField("dumplength", 0), "Bytes of dump that are meant, headers not counted."
_DUMPTIME = DumpTimeField("dumptime", 0), "When the kernel panicked, in seconds since 1970."
_DUMPKEYSIZE = IntField("dumpkeysize", 0), "Bytes of key that were sent; 0 if not encrypted."
_BLOCKSIZE = IntField("blocksize", 4096), "Block size that the dump is padded to, in bytes."
_HOSTNAME = CStringField("hostname", b"", 64), "Name of the host."
_VERSIONSTRING = CStringField("versionstring", b"", 192), "Version of the kernel, as uname -v."
_COMPRESSION = ByteEnumField("compression", 0, COMPRESSIONS), "How the dump is compressed."
_DUMPEXTENT = LongField("dumpextent", 0), "Bytes set aside for the dump on a disk."
_UNUSED = StrFixedLenField("unused", b"", 4), "Not used."
_PARITY = ParityField("parity", None), "Makes the XOR of all 128 words of the header 0."


def _version(number: int) -> Described:
    return IntField("version", number), "Version of the header, which decides what follows."


def _panicstring(size: int) -> Described:
    return CStringField("panicstring", b"", size), "Why the kernel panicked."


class KernelDumpHeader(_Layer):
    """The payload of a KDH: struct kerneldumpheader in sys/sys/kerneldump.h, 512 bytes.

    This class is version 4, which FreeBSD writes today. Other values of `version` give the
    layouts of their time (KernelDumpHeaderV1 to V3), unknown ones this. `parity` is
    computed when it is left out; `parity_ok` and `magic_ok` say what a receiver would.
    """

    name = "FreeBSD kernel dump header"
    match_subclass = True
    fields_desc, meanings = described(
        _MAGIC,
        _ARCHITECTURE,
        _version(4),
        _ARCHITECTUREVERSION,
        _DUMPLENGTH,
        _DUMPTIME,
        _DUMPKEYSIZE,
        _BLOCKSIZE,
        _HOSTNAME,
        _VERSIONSTRING,
        _panicstring(175),
        _COMPRESSION,
        _DUMPEXTENT,
        _UNUSED,
        _PARITY,
    )

    @classmethod
    def dispatch_hook(
        cls, _pkt: bytes = b"", *args: Any, version: Any = None, **fields: Any
    ) -> type[Packet]:
        """The class for a version, which is given or is in the bytes."""
        if _pkt:
            (version,) = struct.unpack("!I", _pkt[_VERSION_AT : _VERSION_AT + 4].rjust(4, b"\0"))
        return header_layout(version)

    def setfieldval(self, attr: str, val: Any) -> None:
        super().setfieldval(attr, val)
        if attr == "version" and header_layout(val) is not type(self):
            self._become(header_layout(val))

    def _become(self, layout: type["KernelDumpHeader"]) -> None:
        """Changes to the layout of another version; fields of the same name keep their values."""
        object.__setattr__(self, "__class__", layout)
        names = {field.name for field in layout.fields_desc}
        self.fields = {name: value for name, value in self.fields.items() if name in names}
        self.init_fields()

    def post_build(self, pkt: bytes, pay: bytes) -> bytes:
        if self.parity is None:
            head = pkt[: offset_of(type(self), "parity")]
            pkt = head + struct.pack("!I", parity_of(head))
        return pkt + pay

    @property
    def parity_ok(self) -> bool:
        """Whether the whole header is there and the XOR of its words is 0."""
        header = bytes(self)[:_KDH_SIZE]
        return len(header) == _KDH_SIZE and parity_of(header) == 0

    @property
    def magic_ok(self) -> bool:
        """Whether the magic is one that FreeBSD writes."""
        return _MAGIC[0].is_known(self.magic)

    def mysummary(self) -> Summary:
        shown = self.sprintf(
            "KDH version %version% host %hostname% panic %panicstring% %dumplength% bytes"
        )
        faults = [] if self.magic_ok else ["unknown magic"]
        faults += [] if self.parity_ok else ["bad parity"]
        return ", ".join([shown, *faults]), [Netdump, UDP]


class KernelDumpHeaderV1(KernelDumpHeader):
    """struct kerneldumpheader, version 1: neither keys nor compression."""

    name = "FreeBSD kernel dump header, version 1"
    fields_desc, meanings = described(
        _MAGIC,
        _ARCHITECTURE,
        _version(1),
        _ARCHITECTUREVERSION,
        _DUMPLENGTH,
        _DUMPTIME,
        _BLOCKSIZE,
        _HOSTNAME,
        _VERSIONSTRING,
        _panicstring(192),
        _PARITY,
    )


class KernelDumpHeaderV2(KernelDumpHeader):
    """struct kerneldumpheader, version 2: adds the size of a key."""

    name = "FreeBSD kernel dump header, version 2"
    fields_desc, meanings = described(
        _MAGIC,
        _ARCHITECTURE,
        _version(2),
        _ARCHITECTUREVERSION,
        _DUMPLENGTH,
        _DUMPTIME,
        _DUMPKEYSIZE,
        _BLOCKSIZE,
        _HOSTNAME,
        _VERSIONSTRING,
        _panicstring(188),
        _PARITY,
    )


class KernelDumpHeaderV3(KernelDumpHeader):
    """struct kerneldumpheader, version 3: adds compression, in an order given up since."""

    name = "FreeBSD kernel dump header, version 3"
    fields_desc, meanings = described(
        _MAGIC,
        _ARCHITECTURE,
        _version(3),
        _ARCHITECTUREVERSION,
        _DUMPLENGTH,
        _DUMPEXTENT,
        _DUMPTIME,
        _DUMPKEYSIZE,
        _BLOCKSIZE,
        _COMPRESSION,
        _HOSTNAME,
        _VERSIONSTRING,
        _panicstring(179),
        _PARITY,
    )


HEADER_LAYOUTS: dict[int, type[KernelDumpHeader]] = {
    1: KernelDumpHeaderV1,
    2: KernelDumpHeaderV2,
    3: KernelDumpHeaderV3,
    4: KernelDumpHeader,
}
_KDH_SIZE = sum(map(fixed_size, KernelDumpHeader.fields_desc))
_VERSION_AT = offset_of(KernelDumpHeader, "version")


def header_layout(version: Any) -> type[KernelDumpHeader]:
    """The layout of a version; the newest one for whatever is no known version."""
    return HEADER_LAYOUTS.get(version if isinstance(version, int) else 0, KernelDumpHeader)


class KernelDumpKey(_Layer):
    """The payload of EKCD_KEY: struct kerneldumpkey in sys/sys/kerneldump.h, then zeros.

    The blob spans several messages; only the one at offset 0 holds these fields.
    """

    name = "FreeBSD kernel dump key"
    fields_desc, meanings = described(
        (ByteEnumField("encryption", 1, ENCRYPTIONS), "Cipher that the dump is encrypted with."),
        (StrFixedLenField("iv", b"", 32), "Initialization vector or nonce; ciphers use its head."),
        (
            FieldLenField("encryptedkeysize", None, length_of="encryptedkey", fmt="I"),
            "Bytes of encrypted key: the size of the RSA modulus.",
        ),
        (
            StrLenField("encryptedkey", b"", length_from=lambda pkt: pkt.encryptedkeysize),
            "The one-time key of the dump, encrypted with the RSA public key.",
        ),
    )

    def mysummary(self) -> Summary:
        shown = "key %KernelDumpKey.encryption% encryptedkeysize=%KernelDumpKey.encryptedkeysize%"
        return self.sprintf(shown), [Netdump, UDP]


def _known_type(payload: bytes) -> bool:
    """Whether a message may begin here."""
    return int.from_bytes(payload[:4], "big") in MESSAGE_TYPES and len(payload) >= 4


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

    Scapy takes a datagram from port 53 for DNS, and 53 is its default source port. The
    first four bytes of a DNS message are never a type of netdump: a response has the bit
    0x8000 set, a query 0x0100 or nothing but an id of zero and no flags.
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


def _bind_ports() -> None:
    """Puts netdump's ports in front of all others, once however often this is imported."""
    ports = [{side: port} for port in (HERALD_PORT, ACK_PORT) for side in ("dport", "sport")]
    others = [guess for guess in UDP.payload_guess if guess[1].__module__ != __name__]
    UDP.payload_guess = [(fields, Netdump) for fields in ports] + others
    for message in (Netdump, NetdumpMessages):
        bind_top_down(UDP, message, sport=ACK_PORT, dport=HERALD_PORT)
    for ack in (NetdumpAck, NetdumpAcks):
        bind_top_down(UDP, ack, sport=_SOME_EPHEMERAL_PORT, dport=ACK_PORT)


_bind_ports()
bind_layers(Netdump, NetdumpHerald, type=1)
bind_layers(Netdump, KernelDumpHeader, type=4, offset=0)
bind_layers(Netdump, KernelDumpKey, type=5, offset=0)
bind_top_down(Netdump, Raw, type=3)

# conf.layers.layers() evaluates the names of modules within Scapy, and explore("netdump")
# looks there too: list the classes under the name that load_contrib() gives them.
conf.layers.ldict["scapy.contrib.netdump"] = conf.layers.ldict.pop(__name__)
