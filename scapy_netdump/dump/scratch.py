# SPDX-License-Identifier: GPL-2.0-or-later
"""The vmcores of captures in unnamed temporary files, for whoever does not want to keep them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ..core.account import Account
from ..core.observing.batch import Bytes, Ints
from ..core.observing.disputes import Prefer
from ..core.observing.observed_dump import ObservedDump
from ..kerneldump.header import MAGIC_SIZE, compression_number
from ..store.vmcore_file import pieces_of, write_pieces
from .content import Content, FileContent, Held
from .dump import Dump, Unlock
from .transfer import Transfer


class Scratch:
    """The storage of an observed vmcore (core/observing/batch.py): an unnamed file, which comes
    into being with its first byte, and which goes with the last reference to its content.

    With ``limit`` no byte from there on is kept, unless the dump is compressed or encrypted: then
    all are needed to look into it.
    """

    def __init__(self, account: Account, limit: int | None = None) -> None:
        self._account = account
        self._limit = limit
        self._file: FileContent | None = None
        self._cut = False

    def write(self, buffer: Bytes, positions: Ints, lengths: Ints, offset: int) -> None:
        """Store pieces of ``buffer`` one after the other from ``offset`` on."""
        if self._is_enough(offset):
            self._cut = True
            return
        self._file = self._file or FileContent.temporary()
        try:
            write_pieces(self._file.descriptor, pieces_of(buffer, positions, lengths), offset)
        except OSError as error:
            raise self._file.no_room(error) from None
        self._file.grow(offset + int(lengths.sum()))

    def put(self, start: int, data: bytes) -> None:
        """Store ``data`` at ``start``."""
        buffer = np.frombuffer(data, np.uint8)
        self.write(buffer, np.zeros(1, np.int64), np.array([len(data)]), start)

    def read(self, start: int, end: int) -> bytes | None:
        """The bytes of ``[start, end)``; None if not all of them are kept."""
        if self._file is None or (self._cut and end > self._file.length):
            return None
        return self._file.read(start, end - start).ljust(end - start, b"\0")

    @property
    def content(self) -> Content:
        """What is kept of the vmcore."""
        return self._file or Held(b"", 0)

    def _is_enough(self, offset: int) -> bool:
        if self._limit is None or offset < self._limit or self._account.encrypted:
            return False
        return not compression_number(self.read(0, MAGIC_SIZE) or b"")


class Scratches:
    """Where the vmcores of captures go that are only looked into: a Scratch each."""

    def __init__(self, limit: int | None = None) -> None:
        """``limit``: bytes kept of each vmcore that can be looked into by them, all if None."""
        self._limit = limit

    def storage_for(self, dump: ObservedDump) -> Scratch:
        """A dump has appeared in a capture."""
        return Scratch(dump.account, self._limit)


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
