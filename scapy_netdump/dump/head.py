# SPDX-License-Identifier: GPL-2.0-or-later
"""The storage of an observed dump of which only the first bytes are kept, in memory."""

from __future__ import annotations

import numpy as np

from ..core.account import MemoryFile
from ..core.observing.batch import Bytes, Ints


class Head:
    """Keeps the first ``limit`` bytes of a file, and forgets the others."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._file = MemoryFile(limit)

    def __bytes__(self) -> bytes:
        """The bytes up to the first hole."""
        return bytes(self._file)

    def write(self, buffer: Bytes, positions: Ints, lengths: Ints, offset: int) -> None:
        """Keep what lies in the head."""
        if offset < self.limit:
            count = int(np.searchsorted(np.cumsum(lengths), self.limit - offset)) + 1
            self._file.write(buffer, positions[:count], lengths[:count], offset)
            self._keep(offset, offset + int(lengths[:count].sum()))

    def put(self, start: int, data: bytes) -> None:
        """Keep what lies in the head."""
        self._file.put(start, data)
        self._keep(start, start + len(data))

    def read(self, start: int, end: int) -> bytes | None:
        """Bytes that are kept; None if not all of them are."""
        return self._file.read(start, end) if end <= self.limit else None

    def present(self) -> bytes:
        """All bytes of the head, zeros where there are holes."""
        return self._file.read(0, self.limit)

    def _keep(self, start: int, end: int) -> None:
        self._file.extents.add(start, min(end, self.limit))
