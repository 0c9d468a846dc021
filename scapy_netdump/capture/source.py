# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the bytes of a capture come from.

A file, a pipe or standard input; plain, gzip or zstd, told apart by content. Plain bytes
are read straight into the caller's buffer. Compressed ones are unpacked by a thread that
runs a few megabytes ahead: zlib and zstandard release the interpreter's lock meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import select
import stat
import threading
from abc import ABC, abstractmethod
from queue import Empty, Queue
from typing import Any

from ..errors import CaptureError
from . import compressed

_STDIN = 0
_PIPE_SIZE = 1 << 20  # what Linux grants any user; at its usual 64 KiB reading takes twice as long
_PIECES_AHEAD = 16
_PATIENCE = 0.25  # seconds without a byte after which a source that is to stop ends


class Source(ABC):
    """The bytes of one capture, unpacked, from first to last.

    ``name`` is what to call it in messages. ``size`` is the number of bytes to come, None
    if that is not known. ``mappable`` is the descriptor of a plain file that can be mapped
    from its first byte instead of being read, else None. ``problem`` says after the end,
    in one line without the name, why there is not more; None if all is well.
    """

    mappable: int | None = None
    size: int | None = None
    problem: str | None = None

    _stopping = False

    def __init__(self, name: str) -> None:
        self.name = name

    def stop(self) -> None:
        """End when no more bytes are there to be had, without waiting for a slow writer.

        Does nothing but to set a flag, so that a signal handler may call it.
        """
        self._stopping = True

    @abstractmethod
    def read_into(self, buffer: memoryview) -> int:
        """Fill ``buffer`` and return the number of bytes: fewer at the end, then 0.

        Waits for a slow writer until the buffer is full. The kernel copies fastest into a
        buffer that starts on a page, such as an anonymous mmap.
        """

    @abstractmethod
    def close(self) -> None:
        """Give everything back; harmless when repeated."""

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_source(path: str) -> Source:
    """The capture at ``path``; ``-`` is standard input.

    Raises ``CaptureError`` when there is nothing that can be read: no such file, no
    permission, a directory, a terminal, an empty file, or zstd without its package.
    """
    name = "standard input" if path == "-" else path
    try:
        file = _open(path, name)
        try:
            return _source(file, name)
        except BaseException:
            file.close()
            raise
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise CaptureError(f"{name}: {getattr(error, 'strerror', None) or error}") from None


def _open(path: str, name: str) -> io.FileIO:
    if path != "-":
        return io.FileIO(path)
    file = io.FileIO(_STDIN, closefd=False)
    if file.isatty():
        raise CaptureError(f"{name}: a terminal; pipe a capture into it")
    return file


def _source(file: io.FileIO, name: str) -> Source:
    fd = file.fileno()
    os.set_blocking(fd, True)  # standard input may have been left otherwise by a parent
    status = os.fstat(fd)
    regular = stat.S_ISREG(status.st_mode)
    whole = regular and status.st_size > 0 and file.tell() == 0
    if stat.S_ISFIFO(status.st_mode):
        _enlarge_pipe(fd)
    peeked = _Peeked(file)
    if not peeked.head:
        raise CaptureError(f"{name}: empty")
    if unpack := compressed.unpacker(peeked.head, name):
        return _UnpackedSource(name, io.BufferedReader(peeked), unpack)
    return _PlainSource(name, peeked, status.st_size if whole else None)


def _enlarge_pipe(fd: int) -> None:
    resize = getattr(fcntl, "F_SETPIPE_SZ", None)  # Linux only; elsewhere pipes grow by themselves
    if resize is not None:
        with contextlib.suppress(OSError):  # refused beyond a limit for each user
            fcntl.fcntl(fd, resize, _PIPE_SIZE)


class _Peeked(io.RawIOBase):
    """A file whose first bytes, ``head``, were looked at and will be read again."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self.head = b""
        while missing := compressed.MAGIC_SIZE - len(self.head):
            more = file.read(missing)
            if not more:
                break
            self.head += more
        self._unread = self.head

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._unread:
            return self._file.readinto(buffer) or 0
        count = min(len(buffer), len(self._unread))
        buffer[:count] = self._unread[:count]
        self._unread = self._unread[count:]
        return count

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()
        super().close()


class _PlainSource(Source):
    """Bytes as they are. A thread to read ahead was measured to gain nothing over the pipe's."""

    def __init__(self, name: str, file: _Peeked, size: int | None) -> None:
        super().__init__(name)
        self._file = file
        self._poll = select.poll()
        self._poll.register(file.fileno(), select.POLLIN)
        self.size = size
        self.mappable = None if size is None else file.fileno()

    def read_into(self, buffer: memoryview) -> int:
        filled = 0
        try:
            while filled < len(buffer) and self._is_ready():
                count = self._file.readinto(buffer[filled:])
                if not count:
                    break
                filled += count
        except OSError as error:
            self.problem = f"cannot be read any further: {error.strerror}"
        return filled

    def _is_ready(self) -> bool:
        """Whether there are bytes, or the end, after waiting for them if need be."""
        while not self._poll.poll(_PATIENCE * 1000):
            if self._stopping:
                self.problem = "interrupted"
                return False
        return True

    def close(self) -> None:
        self._file.close()


class _UnpackedSource(Source):
    """Bytes that a thread unpacks, a few pieces ahead of their reader."""

    def __init__(self, name: str, file: io.BufferedReader, unpack: compressed.Unpack) -> None:
        super().__init__(name)
        self._queue: Queue[bytes | None] = Queue(_PIECES_AHEAD)
        self._piece = memoryview(b"")
        self._ended = False
        self._closed = False
        threading.Thread(
            target=self._unpack, args=(file, unpack), name=f"unpack {name}", daemon=True
        ).start()

    def _unpack(self, file: io.BufferedReader, unpack: compressed.Unpack) -> None:
        """The thread; it closes the file itself, as it may be waiting in a read."""
        try:
            with file:
                for piece in unpack(file):
                    self._queue.put(piece)
                    if self._closed:
                        break
        except compressed.DamagedError as error:
            self.problem = str(error)
        except OSError as error:
            self.problem = f"cannot be read any further: {error.strerror}"
        except Exception as error:  # or the reader would take this for the end of the capture
            self.problem = f"cannot be unpacked any further: {error!r}"
        finally:
            self._queue.put(None)

    def read_into(self, buffer: memoryview) -> int:
        filled = 0
        while filled < len(buffer) and self._fetch():
            count = min(len(buffer) - filled, len(self._piece))
            buffer[filled : filled + count] = self._piece[:count]
            self._piece = self._piece[count:]
            filled += count
        return filled

    def _fetch(self) -> bool:
        """Whether there is a piece with bytes left, after waiting for one if need be."""
        while not self._piece and not self._ended:
            try:
                piece = self._queue.get(timeout=_PATIENCE)
            except Empty:
                if not self._stopping:
                    continue
                self.problem, piece = "interrupted", None
            self._piece = memoryview(piece or b"")
            self._ended = piece is None
        return not self._ended

    def close(self) -> None:
        """The thread may be waiting for room in the queue, and stops as soon as there is."""
        self._closed = True
        with contextlib.suppress(Empty):
            while True:
                self._queue.get_nowait()
