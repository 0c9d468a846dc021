# SPDX-License-Identifier: GPL-2.0-or-later
"""What KDH and EKCD_KEY messages carry: the structures of sys/sys/kerneldump.h."""

import struct
from typing import Any

from scapy.fields import (
    ByteEnumField,
    FieldLenField,
    IntField,
    LongField,
    StrFixedLenField,
    StrLenField,
)
from scapy.layers.inet import UDP
from scapy.packet import Packet

from ..kerneldump.header import parity_of
from .fields import (
    CStringField,
    Described,
    DumpTimeField,
    MagicField,
    ParityField,
    Summary,
    _Layer,
    described,
    fixed_size,
    offset_of,
)

# KERNELDUMP_COMP_* and KERNELDUMP_ENC_*.
COMPRESSIONS = {0: "none", 1: "gzip", 2: "zstd"}
ENCRYPTIONS = {0: "none", 1: "aes-256-cbc", 2: "chacha20"}
# KERNELDUMPMAGIC, TEXTDUMPMAGIC, KERNELDUMPMAGIC_CLEARED.
MAGICS = (b"FreeBSD Kernel Dump", b"FreeBSD Text Dump", b"Cleared Kernel Dump")


# struct kerneldumpheader. Its versions begin and end alike.
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
        return ", ".join([shown, *faults]), [type(self.underlayer), UDP]


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
        return self.sprintf(shown), [type(self.underlayer), UDP]
