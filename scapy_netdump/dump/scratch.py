# SPDX-License-Identifier: GPL-2.0-or-later
"""The vmcores of captures in an unnamed temporary file, for whoever does not keep them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from ..core.account import Account
from ..core.extents import Range
from ..core.observing.batch import Bytes, Ints
from ..core.observing.disputes import Prefer
from ..core.observing.observed_dump import ObservedDump
from ..errors import StoreError
from ..kerneldump.header import MAGIC_SIZE, compression_number
from ..store.vmcore_file import Pieces, pieces_of, write_pieces
from .content import Content, Held
from .dump import Dump, Unlock
from .temporary import TemporaryContent
from .transfer import Transfer

#: Bytes of a vmcore that stand together in the file: a hole in it costs no room on the disk.
_STRETCH = 1 << 26


class Scratches:
    """Where the vmcores of captures go that are only looked into: all into one unnamed file, as a
    capture may show more dumps than a process may have files open. It goes when the contents of
    all of them are closed, or with the last reference to any."""

    def __init__(self, limit: int | None = None) -> None:
        """``limit``: bytes kept of each vmcore that can be looked into by them, all if None."""
        self._limit = limit
        self._file: TemporaryContent | None = None
        self._stretches = 0
        self._users = 0

    def storage_for(self, dump: ObservedDump) -> Scratch:
        """A dump has appeared in a capture."""
        return Scratch(dump.account, self, self._limit)

    @property
    def file(self) -> TemporaryContent:
        """The file, which comes into being with its first byte. StoreError if there can be none."""
        if self._file is None:
            self._file = TemporaryContent()
        return self._file

    def use(self) -> None:
        """A vmcore has its first byte in the file."""
        self._users += 1

    def leave(self) -> None:
        """The content of a vmcore is closed."""
        self._users -= 1
        if not self._users and self._file is not None:
            self._file.close()

    def stretch(self) -> int:
        """Where in the file there is room for another stretch of a vmcore."""
        self._stretches += 1
        return (self._stretches - 1) * _STRETCH


class Scratch:
    """The storage of an observed vmcore (core/observing/batch.py), in the file of ``scratches``.

    With ``limit`` no byte from there on is kept, unless the dump is compressed or encrypted: then
    all are needed to look into it.
    """

    def __init__(self, account: Account, scratches: Scratches, limit: int | None) -> None:
        self._account = account
        self._scratches = scratches
        self._limit = limit
        self._places: dict[int, int] = {}
        self._length = 0
        self._cut = False

    def write(self, buffer: Bytes, positions: Ints, lengths: Ints, offset: int) -> None:
        """Store pieces of ``buffer`` one after the other from ``offset`` on."""
        size = int(lengths.sum())
        if offset // _STRETCH == (offset + size - 1) // _STRETCH:
            self._write(pieces_of(buffer, positions, lengths), offset, size)
            return
        pairs = zip(positions.tolist(), lengths.tolist(), strict=True)
        self.put(offset, b"".join(buffer[at : at + length].tobytes() for at, length in pairs))

    def put(self, start: int, data: bytes) -> None:
        """Store ``data`` at ``start``."""
        buffer = np.frombuffer(data, np.uint8)
        for first, last in _stretches(start, start + len(data)):
            at, size = np.array([first - start]), np.array([last - first])
            self._write(pieces_of(buffer, at, size), first, last - first)

    def read(self, start: int, end: int) -> bytes | None:
        """The bytes of ``[start, end)``; None if not all of them are kept."""
        if not self._places or (self._cut and end > self._length):
            return None
        return b"".join(self._read(*part) for part in _stretches(start, end))

    @property
    def content(self) -> Content:
        """What is kept of the vmcore; to be closed."""
        return _Kept(self, self._length) if self._places else Held(b"", 0)

    def close(self) -> None:
        """Nobody reads it any more; harmless when repeated."""
        if self._places:
            self._places.clear()
            self._scratches.leave()

    def _write(self, pieces: Pieces, offset: int, size: int) -> None:
        """Store pieces within one stretch."""
        if self._is_enough(offset):
            self._cut = True
            return
        file = self._scratches.file
        number, within = divmod(offset, _STRETCH)
        if not self._places:
            self._scratches.use()
        if number not in self._places:
            self._places[number] = self._scratches.stretch()
        place = self._places[number] + within
        try:
            write_pieces(file.descriptor, pieces, place)
        except OSError as error:
            raise file.no_room(error) from None
        file.grow(place + size)
        self._length = max(self._length, offset + size)

    def _read(self, start: int, end: int) -> bytes:
        number, within = divmod(start, _STRETCH)
        size = end - start
        if number not in self._places:
            return bytes(size)
        return self._scratches.file.read(self._places[number] + within, size).ljust(size, b"\0")

    def _is_enough(self, offset: int) -> bool:
        if self._limit is None or offset < self._limit or self._account.encrypted:
            return False
        return not compression_number(self.read(0, MAGIC_SIZE) or b"")


class _Kept:
    """What a Scratch has, as content."""

    missing: Sequence[Range] = ()

    def __init__(self, scratch: Scratch, size: int) -> None:
        self.size = size
        self._scratch = scratch

    def read(self, offset: int, size: int) -> bytes:
        """The bytes from ``offset`` on."""
        end = max(offset, min(offset + size, self.size))
        data = self._scratch.read(offset, end)
        if data is None:
            raise StoreError("the dump was closed, and its temporary file with it")
        return data

    def close(self) -> None:
        """Give back its room."""
        self._scratch.close()


def _stretches(start: int, end: int) -> Iterator[Range]:
    """A range in parts that do not go from one stretch into the next."""
    while start < end:
        stop = min(end, (start // _STRETCH + 1) * _STRETCH)
        yield start, stop
        start = stop


def opened(
    observed: Iterable[ObservedDump],
    *,
    prefer: Prefer = Prefer.ACKED,
    unlock: Unlock | None = None,
) -> Iterator[Dump]:
    """The dumps that captures show, of which no more comes, opened: their vmcores are in
    Scratches."""
    for dump in observed:
        storage = dump.storage
        assert isinstance(storage, Scratch)
        dump.account.examine(storage.read)
        dump.account.set_stray_aside()
        transfer = Transfer.of(dump, prefer)
        yield Dump(transfer.client, dump.account, storage.content, transfer=transfer, unlock=unlock)
