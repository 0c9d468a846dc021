# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel dump header, struct kerneldumpheader in sys/sys/kerneldump.h, all four versions.

Imports the standard library and the generated formats.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

from ..errors import NetdumpError
from ..formats import COMPRESSIONS, KDH_LAYOUTS, MAGICS
from .parity import parity_of

NEWEST = max(KDH_LAYOUTS)
HEADER_SIZE = struct.calcsize(KDH_LAYOUTS[NEWEST][0])
_VERSION = struct.Struct("!I")
_VERSION_AT = struct.calcsize(KDH_LAYOUTS[NEWEST][0].partition("I")[0])
_UNUSED = "unused"
_SUFFIXES = {"gzip": ".gz", "zstd": ".zst"}


class HeaderError(NetdumpError):
    """Bytes that are too few for a kernel dump header."""


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
        layout, names = KDH_LAYOUTS.get(version, KDH_LAYOUTS[NEWEST])
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

    def as_dict(self) -> dict[str, int | str]:
        """The C struct's fields and their values, as JSON takes them."""
        names = KDH_LAYOUTS[NEWEST][1]
        return {name: getattr(self, name) for name in names if name != _UNUSED}


def _text(value: bytes) -> str:
    return value.partition(b"\0")[0].decode(errors="backslashreplace")
