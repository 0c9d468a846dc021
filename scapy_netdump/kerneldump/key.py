# SPDX-License-Identifier: GPL-2.0-or-later
"""The key of an encrypted dump, struct kerneldumpkey in sys/sys/kerneldump.h.

Imports the standard library and the generated formats; decrypts nothing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from ..errors import NetdumpError
from ..formats import ENCRYPTIONS, KEY_FORMAT

_HEAD = struct.Struct(KEY_FORMAT)


class DumpKeyError(NetdumpError):
    """Bytes that are too few for the key that they announce."""


@dataclass(frozen=True, slots=True)
class DumpKey:
    """A decoded key blob: cipher, the 32 bytes of its `iv`, and the RSA-encrypted one-time key."""

    encryption: int
    iv: bytes
    encryptedkey: bytes = field(repr=False)

    @classmethod
    def unpack(cls, data: bytes) -> DumpKey:
        """Decodes a key blob, zeros behind it or not; DumpKeyError if it is cut short."""
        if len(data) < _HEAD.size:
            raise DumpKeyError(f"dump key: {len(data)} bytes, its head alone has {_HEAD.size}")
        encryption, iv, size = _HEAD.unpack_from(data)
        encryptedkey = bytes(data[_HEAD.size : _HEAD.size + size])
        if len(encryptedkey) < size:
            raise DumpKeyError(f"dump key: {len(encryptedkey)} bytes of {size} are there")
        return cls(encryption, iv, encryptedkey)

    def pack(self, block: int = 1) -> bytes:
        """The key blob, with zeros behind it up to a multiple of ``block`` bytes."""
        head = _HEAD.pack(self.encryption, self.iv, len(self.encryptedkey))
        blob = head + self.encryptedkey
        return blob + bytes(-len(blob) % block)

    @property
    def encryption_name(self) -> str:
        """The cipher in words: none, aes-256-cbc, chacha20, or unknown."""
        return ENCRYPTIONS.get(self.encryption, f"unknown ({self.encryption})")
