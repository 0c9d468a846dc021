# SPDX-License-Identifier: GPL-2.0-or-later
"""What has bytes by offset: a file, and a file that is padded. Standard library only.

Whoever reads a vmcore (the client, decryption, decompression) reads a Content; each step of
the way is a view of the one before it, so that nothing is ever held in memory whole.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Protocol

from ..core.extents import Range
from ..errors import StoreError, UsageError
from ..wire import Buffer


class Content(Protocol):
    """Bytes by offset. Reading forward, piece after piece, is fast; any order is right."""

    @property
    def size(self) -> int:
        """The number of bytes."""

    @property
    def missing(self) -> Sequence[Range]:
        """The ranges ``[start, end)`` whose bytes are not known, in order."""

    def read(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset`` on, fewer only at the end; of missing ones anything."""


class FileContent:
    """The bytes of a file, of which the ranges ``missing`` are holes.

    The file may end before its last hole does. StoreError if it cannot be read.
    """

    def __init__(self, path: Path, missing: Sequence[Range] = ()) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._length = os.lseek(self._descriptor, 0, os.SEEK_END)
        except (OSError, ValueError) as error:  # ValueError: a null byte in the path
            reason = getattr(error, "strerror", None) or error
            raise StoreError(f"{path}: cannot be read: {reason}") from None
        self.missing = list(missing)
        self.size = max(self._length, self.missing[-1][1] if self.missing else 0)

    def read(self, offset: int, size: int) -> bytes:
        """The bytes from ``offset`` on."""
        wanted = max(0, min(size, self._length - offset))
        data = b""
        try:
            while len(data) < wanted:
                more = os.pread(self._descriptor, wanted - len(data), offset + len(data))
                if not more:
                    raise StoreError(f"{self.path}: became shorter while it was read")
                data = data + more if data else more
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be read: {error.strerror}") from None
        return data if wanted == size else data.ljust(max(0, min(size, self.size - offset)), b"\0")

    def close(self) -> None:
        """Close the file; harmless when repeated."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> FileContent:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FileObjectContent:
    """The bytes of a binary file that the caller has open and closes, from its start to its end.

    It is read where it is needed, so that its position moves. UsageError if it cannot be read so,
    StoreError if it can no longer be.
    """

    missing: Sequence[Range] = ()

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        name = getattr(file, "name", None)  # a descriptor's number if there is no name
        self._name = name if isinstance(name, str) else "the file"
        try:
            file.seek(0, os.SEEK_END)
            self.size = file.tell()
            file.seek(0)
            binary = isinstance(file.read(0), bytes)
        except (OSError, ValueError) as error:  # ValueError: a file that is closed
            raise UsageError(f"{self._name}: not a file to read at any offset: {error}") from None
        if not binary:
            raise UsageError(f"{self._name}: opened as text; open it in mode 'rb'")

    def read(self, offset: int, size: int) -> bytes:
        """The bytes from ``offset`` on."""
        wanted = max(0, min(size, self.size - offset))
        data = b""
        try:
            self._file.seek(offset)
            while len(data) < wanted:
                more = self._file.read(wanted - len(data))
                if not more:
                    raise StoreError(f"{self._name}: became shorter while it was read")
                data = data + more if data else more
        except (OSError, ValueError) as error:
            raise StoreError(f"{self._name}: cannot be read: {error}") from None
        return data


class Part:
    """The first ``size`` bytes of some content; what it does not have of them is missing."""

    def __init__(self, content: Content, size: int) -> None:
        self._content = content
        self.size = size
        self.missing = [(start, min(end, size)) for start, end in content.missing if start < size]
        if content.size < size:
            begin = content.size
            if self.missing and self.missing[-1][1] == begin:
                begin = self.missing.pop()[0]
            self.missing.append((begin, size))

    def read(self, offset: int, size: int) -> bytes:
        """The bytes from ``offset`` on."""
        wanted = max(0, min(size, self.size - offset))
        return self._content.read(offset, wanted).ljust(wanted, b"\0")


class Padded:
    """Some content with zeros behind it, up to a multiple of ``block`` bytes."""

    def __init__(self, content: Content, block: int) -> None:
        self._content = content
        self.size = -(-content.size // block) * block
        self.missing = content.missing

    def read(self, offset: int, size: int) -> bytes:
        """The bytes from ``offset`` on."""
        wanted = max(0, min(size, self.size - offset))
        data = self._content.read(offset, wanted) if offset < self._content.size else b""
        return data if len(data) == wanted else data.ljust(wanted, b"\0")


class Held:
    """Bytes in memory: all of some content, or the first of its ``size`` bytes. What lies behind
    them reads as zeros, whether it is among the ranges ``missing`` or was not looked at.

    The bytes are not copied. One who changes them meanwhile changes what is read; a bytearray
    cannot be made shorter meanwhile.
    """

    def __init__(
        self, data: Buffer, size: int | None = None, missing: Sequence[Range] = ()
    ) -> None:
        view = memoryview(data)
        self._data = view.cast("B") if view.c_contiguous else memoryview(view.tobytes())
        self.size = len(self._data) if size is None else size
        self.missing = list(missing)

    def read(self, offset: int, size: int) -> bytes:
        """The bytes from ``offset`` on."""
        wanted = max(0, min(size, self.size - offset))
        return bytes(self._data[offset : offset + wanted]).ljust(wanted, b"\0")
