# SPDX-License-Identifier: GPL-2.0-or-later
"""Content in an unnamed temporary file."""

from __future__ import annotations

import os
import tempfile

from ..errors import StoreError
from .content import FileContent


class TemporaryContent(FileContent):
    """An unnamed file, to be written; it goes when it is closed, or with the last reference."""

    def __init__(self) -> None:
        """StoreError if there can be none."""
        self.name = "temporary file"
        self._descriptor, self._finalize = -1, None
        self.missing = []
        self.length = self.size = 0
        try:
            with tempfile.TemporaryFile() as file:
                self._hold(os.dup(file.fileno()))
        except OSError as error:
            raise self.no_room(error) from None

    def no_room(self, error: OSError) -> StoreError:
        """What to say when a temporary file cannot be written."""
        return StoreError(
            f"{tempfile.gettempdir()}: no room for a temporary file: {error.strerror}; "
            "TMPDIR says where to put it"
        )

    def write(self, offset: int, data: bytes) -> None:
        """Write to a temporary file. StoreError if there is no room."""
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self.descriptor, view, offset)
                offset += written
                view = view[written:]
        except OSError as error:
            raise self.no_room(error) from None
        self.grow(offset)

    def grow(self, end: int) -> None:
        """A temporary file has bytes up to ``end``."""
        self.length = self.size = max(self.length, end)
