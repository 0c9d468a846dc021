# SPDX-License-Identifier: GPL-2.0-or-later
"""One file of a dump while a server receives it.

Bytes that are there are never written again: what was acked first stays.
"""

from __future__ import annotations

from collections.abc import Sequence

from ... import formats
from ...errors import StoreError
from ...wire import Buffer
from ..extents import Extents, Marks
from ..small_files import MemoryFile
from .sinks import Sink

_NAMES = {formats.VMCORE: "vmcore", formats.KDH: "kdh", formats.EKCD_KEY: "key"}


class WriteError(Exception):
    """The sink could not take bytes, or not give them back: which file, from which offset."""

    def __init__(self, file: str, offset: int, error: StoreError) -> None:
        super().__init__(str(error))
        self.file = file
        self.offset = offset


class IncomingFile:
    """The file that message type ``kind`` stands for; ``extents`` says what of it is here.

    A small one is kept in ``memory`` as well. ``conflicts`` are the bytes that came again with
    other values.
    """

    def __init__(
        self,
        kind: int,
        sink: Sink,
        extents: Extents,
        conflicts: Marks,
        memory: MemoryFile | None = None,
    ) -> None:
        self.kind = kind
        self.extents = extents
        self._conflicts = conflicts
        self._sink = sink
        self._memory = memory

    def write(self, pieces: Sequence[Buffer], start: int, end: int) -> None:
        """Store what is to be the bytes ``[start, end)``; those that are here are the same."""
        try:
            self._sink.write(self.kind, pieces, start)
        except StoreError as error:
            raise WriteError(_NAMES[self.kind], start, error) from None
        if self._memory is not None:
            self._memory.put(start, b"".join(pieces))
        self.extents.add(start, end)

    def add(self, data: memoryview, start: int) -> bool:
        """Store ``data``, which agrees with what is here; whether anything of it was new. It is
        one write however many holes it fills: the same bytes may be written twice."""
        end = start + len(data)
        if start == end or self.extents.covers(start, end):
            return False
        self.write([data], start, end)
        return True

    def add_around(self, data: memoryview, start: int) -> None:
        """Store what is new of ``data``, leave what is here, and note where they differ."""
        end = start + len(data)
        merged, old = bytearray(data), self._span(start, end)
        for first, last in self.extents.present(start, end):
            merged[first - start : last - start] = old[first - start : last - start]
        self._conflicts.compare(start, data, memoryview(merged))
        if not self.extents.covers(start, end):
            self.write([merged], start, end)

    def agrees(self, data: memoryview, start: int) -> bool:
        """Whether ``data`` is what is here, as far as anything is: one read, however many parts
        of it are."""
        end = start + len(data)
        if not self.extents.overlaps(start, end):
            return True
        old = self._span(start, end)
        return all(
            old[first - start : last - start] == data[first - start : last - start]
            for first, last in self.extents.present(start, end)
        )

    def keep_other(self, data: memoryview, start: int) -> None:
        """Store ``data`` as another version of bytes that are here."""
        try:
            self._sink.keep_other(self.kind, start, data)
        except StoreError as error:
            raise WriteError("other", start, error) from None

    def _span(self, start: int, end: int) -> bytes:
        """What is stored at ``[start, end)``: anything where nothing is here."""
        if self._memory is not None:
            return self._memory.read(start, end).ljust(end - start, b"\0")
        try:
            return self._sink.read(self.kind, start, end)
        except StoreError as error:
            raise WriteError(_NAMES[self.kind], start, error) from None
