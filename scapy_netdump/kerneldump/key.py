# SPDX-License-Identifier: GPL-2.0-or-later
"""The key of an encrypted dump, struct kerneldumpkey in sys/sys/kerneldump.h, and how the kernel
encrypts with it (PROTOCOL.md, "The key blob"): the rules, without the ciphers themselves."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..errors import NetdumpError
from ..formats import ENCRYPTIONS, KEY_FORMAT

_HEAD = struct.Struct(KEY_FORMAT)

#: The one-time key, of which the ciphers use the head (KERNELDUMP_KEY_MAX_SIZE).
ONE_TIME_KEY_SIZE = 64
CIPHER_KEY_SIZE = 32
IV_SIZE = 32

AES_BLOCK = 16
CHACHA20_BLOCK = 64

AES, CHACHA20 = "aes-256-cbc", "chacha20"

_NONCE_SIZE = 8
_COUNTER_SIZE = 8
_WORDS = 1 << 32


class DumpKeyError(NetdumpError):
    """Bytes that are too few for the key that they announce."""


class EncryptionError(NetdumpError):
    """A dump that cannot be encrypted or decrypted as asked."""


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


def encryption_number(cipher: str) -> int:
    """The number that a key blob has for a cipher."""
    for number, name in ENCRYPTIONS.items():
        if name == cipher:
            return number
    raise EncryptionError(f"{cipher}: not a cipher of kernel dumps; {AES} and {CHACHA20} are")


def check_combination(cipher: str, compressed: bool) -> None:
    """EncryptionError for what the kernel refuses: no padding goes with any length."""
    if cipher == AES and compressed:
        raise EncryptionError(
            f"{AES} cannot be combined with compression, as in the kernel; use {CHACHA20}"
        )


def aes_iv(iv: bytes) -> bytes:
    """What the first block of an AES-256-CBC dump is chained to."""
    return iv[:AES_BLOCK]


def chacha20_nonce(iv: bytes, offset: int) -> bytes:
    """The counter and the nonce for the block at ``offset``, in the 16 bytes OpenSSL takes.

    The counter has 64 bits as in the original cipher.
    """
    counter = offset // CHACHA20_BLOCK
    return counter.to_bytes(_COUNTER_SIZE, "little") + iv[:_NONCE_SIZE]


def chacha20_carry(offset: int) -> int:
    """The next offset after ``offset`` where the counter's low 32 bits begin anew: libraries
    do not go beyond it."""
    span = _WORDS * CHACHA20_BLOCK
    return (offset // span + 1) * span


def undecryptable(
    cipher: str, missing: Iterable[tuple[int, int]], size: int
) -> Iterator[tuple[int, int]]:
    """The ranges of a dump of ``size`` bytes that cannot be decrypted, of which ``missing``
    are holes.

    ChaCha20: just the holes. A block of AES-256-CBC needs all of itself and of the one before
    it: what a hole touches is lost, and one more block. So is a part of a block at the end.
    """
    if cipher == CHACHA20:
        yield from ((start, min(end, size)) for start, end in missing if start < size)
        return
    whole = size - size % AES_BLOCK
    lost: tuple[int, int] | None = None
    for start, end in [*missing, *([(whole, size)] if whole < size else [])]:
        if start >= size:
            break
        first = start - start % AES_BLOCK
        last = min(end + -end % AES_BLOCK + AES_BLOCK, size)
        if lost is not None and first <= lost[1]:
            lost = lost[0], max(lost[1], last)
            continue
        if lost is not None:
            yield lost
        lost = first, last
    if lost is not None:
        yield lost


def pkcs1_v15_message(block: bytes) -> bytes | None:
    """What PKCS#1 v1.5 encryption padding holds (RFC 8017, section 7.2.2); None if it is none."""
    padding, zero, message = block[2:].partition(b"\0")
    right = block[:2] == b"\0\2" and len(padding) >= 8 and zero
    return message if right else None
