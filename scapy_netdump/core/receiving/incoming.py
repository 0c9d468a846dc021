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
        """Store what is to be the bytes ``[start, end)``, none of which are here."""
        try:
            self._sink.write(self.kind, pieces, start)
        except StoreError as error:
            raise WriteError(_NAMES[self.kind], start, error) from None
        if self._memory is not None:
            self._memory.put(start, b"".join(pieces))
        self.extents.add(start, end)

    def add(self, data: memoryview, start: int) -> bool:
        """Store what is new of ``data``; whether anything was."""
        new = list(self.extents.missing(start, start + len(data)))
        for first, last in new:
            self.write([data[first - start : last - start]], first, last)
        return bool(new)

    def agrees(self, data: memoryview, start: int) -> bool:
        """Whether ``data`` is what is here, as far as anything is."""
        return all(
            self.read(first, last) == data[first - start : last - start]
            for first, last in self.extents.present(start, start + len(data))
        )

    def note_conflicts(self, data: memoryview, start: int) -> None:
        """Note in which bytes ``data`` differs from what is here."""
        for first, last in self.extents.present(start, start + len(data)):
            self._conflicts.compare(
                first, data[first - start : last - start], self.read(first, last)
            )

    def keep_other(self, data: memoryview, start: int) -> None:
        """Store ``data`` as another version of bytes that are here."""
        try:
            self._sink.keep_other(self.kind, start, data)
        except StoreError as error:
            raise WriteError("other", start, error) from None

    def read(self, start: int, end: int) -> bytes:
        """The bytes ``[start, end)``, all of which are here."""
        if self._memory is not None:
            return self._memory.read(start, end)
        try:
            return self._sink.read(self.kind, start, end)
        except StoreError as error:
            raise WriteError(_NAMES[self.kind], start, error) from None
