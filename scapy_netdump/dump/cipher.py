# SPDX-License-Identifier: GPL-2.0-or-later
"""Views of a vmcore through its cipher: encrypted as the kernel does it, and back.

The cipher goes in ready; this module knows which bytes it has to be fed.
"""

from __future__ import annotations

from typing import Protocol

from ..kerneldump.key import AES, AES_BLOCK, CHACHA20, EncryptionError, undecryptable
from .content import Content

#: Bytes enciphered at once.
WINDOW = 1 << 20


class Stream(Protocol):
    """A cipher at some offset of a dump, going forward."""

    def update(self, data: bytes) -> bytes:
        """The next bytes, encrypted or decrypted. For AES-256-CBC whole blocks only."""


class Cipher(Protocol):
    """What crypto.py makes of a key."""

    name: str

    def encrypting(self, offset: int, before: bytes = b"") -> Stream:
        """A stream that encrypts from ``offset`` on; for AES-256-CBC ``offset`` begins a block,
        and ``before`` are the 16 encrypted bytes in front of it, unless it is 0."""

    def decrypting(self, offset: int, before: bytes = b"") -> Stream:
        """A stream that decrypts from ``offset`` on; the rest as for ``encrypting``."""


class _Windows:
    """Reads any part of what is computed window by window; keeps the last one."""

    def __init__(self, content: Content, cipher: Cipher) -> None:
        self.size = content.size
        self._content = content
        self._cipher = cipher
        self._chained = cipher.name == AES
        self._index = -1
        self._window = b""

    def read(self, offset: int, size: int) -> bytes:
        """The bytes from ``offset`` on."""
        end = min(offset + size, self.size)
        pieces = []
        while offset < end:
            index, start = divmod(offset, WINDOW)
            if index != self._index:
                self._window, self._index = self._computed(index), index
            piece = self._window[start : start + end - offset]
            pieces.append(piece)
            offset += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _computed(self, index: int) -> bytes:
        raise NotImplementedError


class Encrypted(_Windows):
    """Some content as the kernel encrypts it. EncryptionError if it is to be AES-256-CBC, and
    the content is not made of whole blocks.

    That chain can only be followed forward: of each window the end is kept, 16 bytes for
    a mebibyte, so that older parts can be read again.
    """

    def __init__(self, content: Content, cipher: Cipher) -> None:
        super().__init__(content, cipher)
        if self._chained and content.size % AES_BLOCK:
            raise EncryptionError(
                f"{content.size} bytes are no multiple of {AES_BLOCK}, as {AES} needs; "
                f"use {CHACHA20}"
            )
        self.missing = list(content.missing)
        self._ends = [b""]

    def _computed(self, index: int) -> bytes:
        if not self._chained:
            return self._encrypted(index, b"")
        for before in range(len(self._ends) - 1, index):
            self._ends.append(self._encrypted(before, self._ends[before])[-AES_BLOCK:])
        window = self._encrypted(index, self._ends[index])
        if index + 1 == len(self._ends):
            self._ends.append(window[-AES_BLOCK:])
        return window

    def _encrypted(self, index: int, before: bytes) -> bytes:
        offset = index * WINDOW
        stream = self._cipher.encrypting(offset, before)
        return stream.update(self._content.read(offset, WINDOW))


class Decrypted(_Windows):
    """Encrypted content as it was. What its holes make undecryptable is ``missing``."""

    def __init__(self, content: Content, cipher: Cipher) -> None:
        super().__init__(content, cipher)
        self.missing = list(undecryptable(cipher.name, content.missing, content.size))

    def _computed(self, index: int) -> bytes:
        offset = index * WINDOW
        data = self._content.read(offset, WINDOW)
        if not self._chained:
            return self._cipher.decrypting(offset).update(data)
        before = self._content.read(offset - AES_BLOCK, AES_BLOCK) if offset else b""
        whole = len(data) - len(data) % AES_BLOCK
        plain = self._cipher.decrypting(offset, before).update(data[:whole])
        return plain.ljust(len(data), b"\0")
