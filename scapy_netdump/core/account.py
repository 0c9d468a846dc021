# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known of one dump: its files' coverage, its header, and whether it is whole.

Role-neutral: a server, a client and a passive observer all keep one Account a dump.
Imports only its neighbours and the dump header's decoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..kerneldump.header import HEADER_SIZE, DumpHeader
from ..kerneldump.info import COMPLETE, INCOMPLETE
from ..text import counted
from .extents import Extents, Range

if TYPE_CHECKING:  # a server needs no numpy
    from .observing.batch import Bytes, Ints

#: The key blob is a small head and an RSA ciphertext, padded to the block size
#: (PROTOCOL.md); RSA keys of 16384 bits and blocks of 64 KiB stay below this.
MAX_KEY_SIZE = 1 << 17


#: What the status of a dump ends with if nothing below its highest byte is missing, and nobody
#: knows where its end is.
ENDLESS = "ends without a sound dump header, its length is not known"


class MemoryFile:
    """A small file of a dump (the header, the key), held whole and bounded in size.

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

    def write(self, buffer: Bytes, positions: Ints, lengths: Ints, offset: int) -> None:
        """Store pieces of ``buffer`` one after the other, from ``offset`` on."""
        for position, length in zip(positions.tolist(), lengths.tolist(), strict=True):
            self.put(offset, buffer[position : position + length].tobytes())
            offset += length


class Account:
    """One dump, from HERALD to FINISHED.

    ``path`` is the HERALD's, undecoded and without its NUL. ``vmcore`` says which bytes
    of the dump are here; whoever feeds the transfer stores them first and adds them then.
    """

    __slots__ = ("_announced", "finished", "heralded", "kdh", "key", "path", "vmcore")

    def __init__(self) -> None:
        self.heralded = False
        self.finished = False
        self.path = b""
        self.vmcore = Extents()
        self.kdh = MemoryFile(HEADER_SIZE)
        self.key = MemoryFile(MAX_KEY_SIZE)
        self._announced = 0

    def herald(self, path: bytes) -> None:
        """The client announced itself, with the path that it wants, if any."""
        self.heralded = True
        self.path = self.path or path

    def announce(self, end: int) -> None:
        """The client sent bytes of the vmcore up to ``end``, be they here or not."""
        self._announced = max(self._announced, end)

    @property
    def header(self) -> DumpHeader | None:
        """The dump header, decoded, when all of it is here: right or wrong."""
        data = bytes(self.kdh)
        return DumpHeader.unpack(data) if len(data) == HEADER_SIZE else None

    @property
    def trusted_header(self) -> DumpHeader | None:
        """The dump header if its magic and parity hold: only then its numbers count."""
        header = self.header
        return header if header is not None and header.valid else None

    @property
    def bytes_expected(self) -> int:
        """The dump's length as its header has it, else as far as is known without one."""
        header = self.trusted_header
        if header is not None:
            return header.dumplength
        return max(self._announced, self.vmcore.end)

    @property
    def bytes_received(self) -> int:
        """How many of the expected bytes are here."""
        return sum(end - start for start, end in self.vmcore.present(0, self.bytes_expected))

    @property
    def missing(self) -> list[Range]:
        """The holes, as ``[start, end)`` ranges of the vmcore file, in order."""
        return list(self.vmcore.missing(0, self.bytes_expected))

    @property
    def complete(self) -> bool:
        """Whether every byte arrived.

        FINISHED proves nothing (PROTOCOL.md: the kernel client's ack bitmap); it only
        stands in for the length when there is no header to tell it.
        """
        whole = self.vmcore.covers(0, self.bytes_expected)
        if self.trusted_header is not None:
            return whole
        return whole and self.finished and self.vmcore.total > 0

    @property
    def status(self) -> str:
        """In a line, whether the dump is whole and what it lacks; an info file ends with it."""
        if self.complete:
            return COMPLETE
        missing = self.missing
        if missing:
            count = sum(end - start for start, end in missing)
            ranges = counted(len(missing), "range")
            return f"{INCOMPLETE}{count} of {self.bytes_expected} bytes missing in {ranges}"
        if not self.vmcore.total:
            return f"{INCOMPLETE}no data received"
        return f"{INCOMPLETE}{ENDLESS}"
