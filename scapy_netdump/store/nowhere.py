# SPDX-License-Identifier: GPL-2.0-or-later
"""The storage of a dump that is only looked at."""

from __future__ import annotations

from ..core.observing.batch import Bytes, Ints


class Nowhere:
    """Keeps no bytes of a vmcore; what has arrived is known all the same."""

    def write(self, buffer: Bytes, positions: Ints, lengths: Ints, offset: int) -> None:
        """Drop the pieces."""

    def put(self, start: int, data: bytes) -> None:
        """Drop the bytes."""

    def read(self, start: int, end: int) -> None:
        """There is nothing to compare with."""
