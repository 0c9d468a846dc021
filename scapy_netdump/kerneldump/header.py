# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel dump header, struct kerneldumpheader in sys/sys/kerneldump.h, all four versions,
and how its parity, its compression and its architecture's version are found."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from functools import reduce
from operator import xor
from typing import Any

from ..errors import NetdumpError
from ..formats import COMPRESSIONS, KDH_LAYOUTS, MAGICS

NEWEST = max(KDH_LAYOUTS)
HEADER_SIZE = struct.calcsize(KDH_LAYOUTS[NEWEST][0])
_VERSION = struct.Struct("!I")
_VERSION_AT = struct.calcsize(KDH_LAYOUTS[NEWEST][0].partition("I")[0])
_UNUSED = "unused"
_CODES = re.compile(r"\d*[a-zA-Z]")  # of a struct format, one for each field
_SUFFIXES = {"gzip": ".gz", "zstd": ".zst"}

#: What compressed data begins with: RFC 1952, section 2.3.1; RFC 8878, section 3.1.1.
GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
MAGIC_SIZE = len(ZSTD_MAGIC)

#: What is sent of a compressed dump is padded to its block size, which is no larger than this.
MAX_BLOCK = 1 << 16

#: KERNELDUMP_COMP_* by that.
_COMPRESSIONS = {GZIP_MAGIC: 1, ZSTD_MAGIC: 2}

#: KERNELDUMP_*_VERSION in sys/sys/kerneldump.h, where it is not 1.
_ARCHITECTURE_VERSIONS = {"amd64": 2, "i386": 2}


class HeaderError(NetdumpError):
    """Bytes that are too few for a kernel dump header, or values that fit in none."""


@dataclass(frozen=True, slots=True)
class DumpHeader:
    """A decoded header; the names are the C struct's, sizes in bytes, times in seconds since 1970.

    Fields that the header's version lacks are 0. Strings end at their first NUL; bytes
    that are not UTF-8 are written as escapes. Nothing here was checked but `parity_ok`: any
    sender may claim any number.
    """

    magic: str
    architecture: str
    version: int
    architectureversion: int
    dumplength: int
    dumptime: int
    blocksize: int
    hostname: str
    versionstring: str
    panicstring: str
    parity: int
    parity_ok: bool
    dumpkeysize: int = 0
    compression: int = 0
    dumpextent: int = 0

    @classmethod
    def unpack(cls, data: bytes) -> DumpHeader:
        """Decodes the first 512 of `data`, whatever they are; HeaderError if there are fewer.

        A version that is not known is read as the newest one.
        """
        if len(data) < HEADER_SIZE:
            raise HeaderError(f"kernel dump header: {len(data)} bytes instead of {HEADER_SIZE}")
        data = bytes(data[:HEADER_SIZE])
        (version,) = _VERSION.unpack_from(data, _VERSION_AT)
        layout, names = _layout(version)
        values: dict[str, Any] = {
            name: _text(value) if isinstance(value, bytes) else value
            for name, value in zip(names, struct.unpack(layout, data), strict=True)
            if name != _UNUSED
        }
        return cls(**values, parity_ok=parity_of(data) == 0)

    @property
    def magic_ok(self) -> bool:
        """Whether the magic is one that FreeBSD writes."""
        return self.magic.encode() in MAGICS

    @property
    def is_textdump(self) -> bool:
        """Whether the magic is a textdump's."""
        return self.magic.encode() == MAGICS[1]

    @property
    def valid(self) -> bool:
        """Whether this is a header at all, and undamaged."""
        return self.magic_ok and self.parity_ok

    @property
    def compression_name(self) -> str:
        """The compression in words: none, gzip, zstd, or unknown."""
        return COMPRESSIONS.get(self.compression, f"unknown ({self.compression})")

    @property
    def suffix(self) -> str:
        """What a file name ends in for the compression: `.gz`, `.zst` or nothing."""
        return _SUFFIXES.get(self.compression_name, "")

    @property
    def padding(self) -> int:
        """How many bytes may follow a dump of this header: fewer than a block, and of one that the
        kernel compressed only (dump_finish in sys/kern/kern_shutdown.c)."""
        packed = self.compression_name in _SUFFIXES and self.blocksize
        return min(self.blocksize, MAX_BLOCK) - 1 if packed else 0

    def as_dict(self) -> dict[str, int | str]:
        """The C struct's fields and their values, as JSON takes them."""
        names = KDH_LAYOUTS[NEWEST][1]
        return {name: getattr(self, name) for name in names if name != _UNUSED}


def pack_header(**values: int | str) -> bytes:
    """A header of the fields `values`, named as in the C struct; what is left out is 0 or empty.

    The version is the newest and the magic a kernel dump's unless they are given; the
    parity is made right. Strings are cut to their fields, with the NUL behind them, as
    strlcpy(3) does in the kernel. HeaderError if a number does not fit, or if the version
    has no such field.
    """
    version = int(values.get("version", NEWEST))
    values = {"magic": MAGICS[0].decode(), **values, "version": version}
    layout, names = _layout(version)
    lacking = [name for name, value in values.items() if name not in names and value]
    if lacking:
        raise HeaderError(f"kernel dump header: version {version} has no {lacking[0]}")
    return _packed(layout, [_value(name, values.get(name), layout, names) for name in names])


def changed_header(data: bytes, **changes: int | bytes) -> bytes:
    """A header as it is but for some of its numbers and texts, and the parity that these make.

    HeaderError if its version has no such field. Texts must fit (`text_room`).
    """
    (version,) = _VERSION.unpack_from(data, _VERSION_AT)
    layout, names = _layout(version)
    for name in changes:
        if name not in names:
            raise HeaderError(f"kernel dump header: version {version} has no {name}")
    old = zip(names, struct.unpack(layout, data[:HEADER_SIZE]), strict=True)
    return _packed(layout, [changes.get(name, value) for name, value in old])


def text_room(data: bytes, name: str) -> int:
    """How many bytes a header has room for in one of its texts, the NUL not counted."""
    layout, names = _layout(_VERSION.unpack_from(data, _VERSION_AT)[0])
    return _room(name, layout, names)


def _room(name: str, layout: str, names: tuple[str, ...]) -> int:
    return int(_CODES.findall(layout)[names.index(name)][:-1]) - 1


def _layout(version: int) -> tuple[str, tuple[str, ...]]:
    return KDH_LAYOUTS.get(version, KDH_LAYOUTS[NEWEST])


def _packed(layout: str, values: list[Any]) -> bytes:
    """The values, of which the last is the parity: whatever it was, it is computed."""
    try:
        data = struct.pack(layout, *values[:-1], 0)
    except struct.error as error:
        raise HeaderError(f"kernel dump header: a value does not fit: {error}") from None
    return data[: -_VERSION.size] + _VERSION.pack(parity_of(data))


def _value(name: str, value: int | str | None, layout: str, names: tuple[str, ...]) -> Any:
    """A field's value as struct takes it."""
    code = _CODES.findall(layout)[names.index(name)]
    if not code.endswith("s"):
        return value or 0
    text = value if isinstance(value, str) else ""
    return text.encode(errors="surrogateescape")[: _room(name, layout, names)]


def _text(value: bytes) -> str:
    return value.partition(b"\0")[0].decode(errors="backslashreplace")


def parity_of(data: bytes) -> int:
    """XOR of all whole 32-bit big-endian words of `data` (kerneldump_parity in sys/kerneldump.h).

    Over the 512 bytes of a header, its parity field included, the result is 0; over
    everything but that field it is the value that the field must have.
    """
    words = struct.iter_unpack("!I", memoryview(data)[: len(data) & ~3])
    return reduce(xor, (word for (word,) in words), 0)


def architecture_version(architecture: str) -> int:
    """The version of the dump format that the kernel claims on an architecture."""
    return _ARCHITECTURE_VERSIONS.get(architecture, 1)


def compression_number(head: bytes) -> int:
    """How a vmcore that begins with ``head`` is compressed, as the header has it; 0 if not."""
    return next((number for magic, number in _COMPRESSIONS.items() if head.startswith(magic)), 0)
