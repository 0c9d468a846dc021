# SPDX-License-Identifier: GPL-2.0-or-later
"""The small files of a dump, which are held in memory: its key, and its header in all versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..kerneldump.header import HEADER_SIZE, DumpHeader
from .extents import Extents, Marks

if TYPE_CHECKING:  # a server needs no numpy
    from .observing.batch import Bytes, Ints

#: The key blob is a small head and an RSA ciphertext, padded to the block size
#: (PROTOCOL.md); RSA keys of 16384 bits and blocks of 64 KiB stay below this.
MAX_KEY_SIZE = 1 << 17

#: Versions of a header that are told apart; a kernel sends one, and only forgers many.
MAX_HEADERS = 4


class MemoryFile:
    """A small file of a dump (a header, the key), held whole and bounded in size.

    Like the vmcore's, its ``extents`` are added to by whoever stores bytes in it.
    """

    __slots__ = ("_data", "extents", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.extents = Extents()
        self._data = bytearray()

    def __bytes__(self) -> bytes:
        """The bytes from the start up to the first hole."""
        hole = next(self.extents.missing(0, self.limit), (self.limit, self.limit))
        return bytes(self._data[: hole[0]])

    def read(self, start: int, end: int) -> bytes:
        """The bytes of ``[start, end)``, zeros where none arrived."""
        return bytes(self._data[start:end])

    def put(self, start: int, data: bytes) -> None:
        """Store ``data`` at ``start``; what lies beyond the limit is dropped."""
        end = min(start + len(data), self.limit)
        if start < end:
            self._data.extend(bytes(max(0, end - len(self._data))))
            self._data[start:end] = data[: end - start]

    def copy(self) -> MemoryFile:
        """Another file with the same bytes."""
        other = MemoryFile(self.limit)
        other.extents, other._data = self.extents.copy(), self._data[:]
        return other

    def add(self, start: int, data: bytes) -> None:
        """Store ``data`` at ``start``, and have the extents tell of it."""
        self.put(start, data)
        self.extents.add(start, min(start + len(data), self.limit))

    def agrees(self, start: int, data: bytes) -> bool:
        """Whether ``data`` at ``start`` is what is here, as far as anything is."""
        return all(
            self._data[first:last] == data[first - start : last - start]
            for first, last in self.extents.present(start, min(start + len(data), self.limit))
        )

    def write(self, buffer: Bytes, positions: Ints, lengths: Ints, offset: int) -> None:
        """Store pieces of ``buffer`` one after the other, from ``offset`` on."""
        for position, length in zip(positions.tolist(), lengths.tolist(), strict=True):
            self.put(offset, buffer[position : position + length].tobytes())
            offset += length


class Headers:
    """The versions of a dump header that came, the first one first.

    A client sends its header once, or again the same. A piece that contradicts what is here
    makes another version: nothing that came is lost, and which one counts is decided later.
    """

    def __init__(self) -> None:
        self.versions = [MemoryFile(HEADER_SIZE)]
        self.conflicts = Marks()

    def take(self, start: int, data: bytes) -> bool:
        """Store a piece of a header; False if there are too many versions to keep this one.

        What goes on behind the end of a header is ignored, as a server does.
        """
        data = data[: max(0, HEADER_SIZE - start)]
        for version in self.versions:
            if version.agrees(start, data):
                version.add(start, data)
                return True
        first = self.versions[0]
        for begin, end in first.extents.present(start, start + len(data)):
            self.conflicts.compare(begin, data[begin - start : end - start], first.read(begin, end))
        if len(self.versions) == MAX_HEADERS:
            return False
        another = first.copy()
        another.add(start, data)
        self.versions.append(another)
        return True

    @property
    def size(self) -> int:
        """How many bytes came of the header of which most did."""
        return max(version.extents.total for version in self.versions)

    @property
    def whole(self) -> list[bytes]:
        """The versions of which all 512 bytes are here, right or wrong."""
        return [data for data in map(bytes, self.versions) if len(data) == HEADER_SIZE]

    @property
    def sound(self) -> list[bytes]:
        """Those of which magic and parity hold."""
        return [data for data in self.whole if DumpHeader.unpack(data).valid]
