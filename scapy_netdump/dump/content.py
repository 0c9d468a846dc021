# SPDX-License-Identifier: GPL-2.0-or-later
"""What has bytes by offset: a file, a part of one, one with padding, and all of it as a file
object.

Whoever reads a vmcore reads a Content; decryption and decompression are views of another one,
so that nothing is ever held in memory whole.
"""

from __future__ import annotations

import io
import os
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, Protocol, get_args

from ..core.extents import Range
from ..errors import NetdumpError, StoreError, UsageError
from ..wire import Buffer

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

#: What a hole gives to who reads it: an error, or zeros.
Holes = Literal["error", "zeros"]


class HoleError(NetdumpError, OSError):
    """Bytes of a dump were to be read that are not there."""


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

    ``length`` bytes are in the file, and what lies behind them up to ``size`` is zeros: the file
    may end before its last hole does. It is open from the first read on, until it is let go,
    closed or the last reference goes; a run may know of more files than it may have open.
    """

    _closed = False

    def __init__(self, path: Path, missing: Sequence[Range] = ()) -> None:
        """StoreError if the file cannot be read."""
        self.name = str(path)
        self._descriptor = -1
        self._finalize: weakref.finalize[..., FileContent] | None = None
        with self._readable():
            self.length = os.stat(path).st_size
        self.missing = list(missing)
        self.size = max(self.length, self.missing[-1][1] if self.missing else 0)

    @property
    def descriptor(self) -> int:
        """A descriptor of the open file. StoreError if it is closed."""
        if self._closed:
            raise StoreError(f"{self.name}: closed, and cannot be read any more")
        if self._descriptor < 0:
            with self._readable():
                self._hold(os.open(self.name, os.O_RDONLY | os.O_CLOEXEC))
        return self._descriptor

    def close(self) -> None:
        """Close the file for good; harmless when repeated."""
        self._closed = True
        self.let_go()

    def let_go(self) -> None:
        """Close the file until it is read again."""
        self._descriptor = -1
        if self._finalize is not None:
            self._finalize()

    def _hold(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._finalize = weakref.finalize(self, os.close, descriptor)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: a null byte in the path
            reason = getattr(error, "strerror", None) or error
            raise StoreError(f"{self.name}: cannot be read: {reason}") from None

    def read(self, offset: int, size: int) -> bytes:
        """The bytes from ``offset`` on."""
        wanted = max(0, min(size, self.length - offset, self.size - offset))
        data = b""
        while len(data) < wanted:
            with self._readable():
                more = os.pread(self.descriptor, wanted - len(data), offset + len(data))
            if not more:
                raise StoreError(f"{self.name}: became shorter while it was read")
            data = data + more if data else more
        return data if wanted == size else data.ljust(max(0, min(size, self.size - offset)), b"\0")

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
        except (AttributeError, OSError, ValueError) as error:  # ValueError: a closed file
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
    """The first ``size`` bytes of some content, of which the ranges ``missing`` are not there; if
    it is not told, what the content lacks, and what is behind its end."""

    def __init__(self, content: Content, size: int, missing: Sequence[Range] | None = None) -> None:
        self._content = content
        self.size = size
        if missing is not None:
            self.missing = list(missing)
            return
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


def read_around(content: Content, offset: int, size: int, holes: Holes) -> bytes:
    """``size`` bytes from ``offset`` on, fewer only at the end. HoleError if one of them is
    missing, unless ``holes`` is "zeros"; UsageError for a place before the start."""
    _check(holes)
    if offset < 0 or size < 0:
        raise UsageError(f"there are no {size} bytes at {offset} of the dump to read")
    end = min(offset + size, content.size)
    data = content.read(offset, max(0, end - offset))
    lost = list(_within(content.missing, offset, end))
    if not lost:
        return data
    if holes == "error":
        raise HoleError(f"bytes {lost[0][0]} to {lost[0][1]} of the dump are missing")
    zeroed = bytearray(data)
    for start, stop in lost:
        zeroed[start - offset : stop - offset] = bytes(stop - start)
    return bytes(zeroed)


def _check(holes: Holes) -> None:
    """UsageError if it does not say what a hole gives."""
    if holes not in get_args(Holes):
        raise UsageError(f"holes={holes!r}: a hole gives 'error' or 'zeros'")


def _within(ranges: Sequence[Range], start: int, end: int) -> Iterator[Range]:
    cut = ((max(start, first), min(end, last)) for first, last in ranges)
    return ((first, last) for first, last in cut if first < last)


class ContentFile(io.RawIOBase):
    """Some content as a binary file that can be read and sought in.

    Of a read that comes to a hole the bytes before it are returned; one that begins in a hole
    raises HoleError. With ``holes`` "zeros" holes read as zeros; any other word is a UsageError.
    As with any file, ValueError if it is used when it is closed.
    """

    def __init__(self, content: Content, holes: Holes = "error") -> None:
        _check(holes)
        super().__init__()
        self._content = content
        self._holes = holes
        self._position = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next read begins."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place, counted from the start, the place at hand or the end."""
        self._check_open()
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._content.size}
        if whence not in base or base[whence] + offset < 0:
            raise ValueError(f"cannot seek to {offset} from {whence}")
        self._position = base[whence] + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read into ``buffer``; returns how many bytes."""
        self._check_open()
        view = memoryview(buffer).cast("B")
        start, end = self._position, self._position + len(view)
        if self._holes == "error":
            hole = next(_within(self._content.missing, start, end), (end, end))
            end = hole[0] if hole[0] > start else end
        data = read_around(self._content, start, end - start, self._holes)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")
