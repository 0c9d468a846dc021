# SPDX-License-Identifier: GPL-2.0-or-later
"""What the core asks of whoever keeps a file's bytes."""

from __future__ import annotations

from typing import Protocol

from .batch import Bytes, Ints


class Storage(Protocol):
    """Where the bytes of a file go."""

    def write(self, buffer: Bytes, positions: Ints, lengths: Ints, offset: int) -> None:
        """Store one contiguous range from ``offset`` on: the pieces of ``buffer`` at
        ``positions``, of ``lengths`` bytes each, one after the other."""

    def put(self, start: int, data: bytes) -> None:
        """Store ``data`` at ``start``."""

    def read(self, start: int, end: int) -> bytes | None:
        """The bytes stored in ``[start, end)``; None if they are not kept."""
