# SPDX-License-Identifier: GPL-2.0-or-later
"""One file of a dump while a server receives it. Imports only its neighbours.

Bytes that are there are never written again: what was acked first stays.
"""

from __future__ import annotations

from collections.abc import Sequence

from ... import formats
from ...errors import StoreError
from ...wire import Buffer
from ..account import MemoryFile
from ..extents import Extents
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

    A small one is kept in ``memory`` as well. ``conflicting_bytes`` came again with other
    values.
    """

    def __init__(
        self, kind: int, sink: Sink, extents: Extents, memory: MemoryFile | None = None
    ) -> None:
        self.extents = extents
        self.conflicting_bytes = 0
        self._kind = kind
        self._sink = sink
        self._memory = memory

    def write(self, pieces: Sequence[Buffer], start: int, end: int) -> None:
        """Store what is to be the bytes ``[start, end)``, none of which are here."""
        try:
            self._sink.write(self._kind, pieces, start)
        except StoreError as error:
            raise WriteError(_NAMES[self._kind], start, error) from None
        if self._memory is not None:
            self._memory.put(start, b"".join(pieces))
        self.extents.add(start, end)

    def merge(self, data: memoryview, start: int) -> bool:
        """Store what is new of ``data``, and compare the rest; whether anything was new."""
        end = start + len(data)
        new = list(self.extents.missing(start, end))
        for first, last in list(self.extents.present(start, end)):
            self._compare(data[first - start : last - start], first)
        for first, last in new:
            self.write([data[first - start : last - start]], first, last)
        return bool(new)

    def _compare(self, data: memoryview, start: int) -> None:
        try:
            here = self._sink.read(self._kind, start, start + len(data))
        except StoreError as error:
            raise WriteError(_NAMES[self._kind], start, error) from None
        if here != data:
            self.conflicting_bytes += sum(a != b for a, b in zip(here, data, strict=False))
