# SPDX-License-Identifier: GPL-2.0-or-later
"""A source's bytes, one window of a few megabytes after the other, in constant memory.

A plain file is mapped; anything else is read into a ring of buffers.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from collections import deque
from collections.abc import Iterator
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np

from ..core.observing.batch import Bytes
from .source import Source

#: Bytes looked at at once, in a mapped file and in a buffer. No record may be longer.
WINDOW = 1 << 24
_BUFFER = 1 << 23

#: The first window is short: it is for getting to know the capture.
_FIRST_WINDOW = 1 << 16

#: A batch stays valid until two more have been taken (core/observing/batch.py).
_BUFFERS = 3

_POPULATE_READ = 22  # Linux 5.14, asm-generic/mman-common.h: MADV_POPULATE_READ
_DONTNEED = mmap.MADV_DONTNEED

_madvise = ctypes.CDLL(None).madvise
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class Window(NamedTuple):
    """The bytes ``buffer[begin:end]``, which stand at ``origin + begin`` of the source.
    ``last`` says that the source ends here."""

    buffer: Bytes
    begin: int
    end: int
    origin: int
    last: bool


class Windows:
    """Hands out windows. The next one begins where ``consumed`` was left: the position in
    the current buffer up to which it has been understood."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.consumed = 0

    def __iter__(self) -> Iterator[Window]:
        return self._read() if self._source.mappable is None else self._map(self._source.mappable)

    def _map(self, descriptor: int) -> Iterator[Window]:
        buffer = np.frombuffer(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ), np.uint8)
        size = len(buffer)
        in_use: deque[int] = deque()  # where the windows begin that batches may point into
        end = 0
        with PageAdviser(buffer) as adviser:
            while end < size:
                begin = self.consumed
                size = self._size_now(descriptor, size)
                end = min(begin + (WINDOW if in_use else _FIRST_WINDOW), size)
                adviser.will_need(end, end + WINDOW)
                in_use.append(begin)
                if len(in_use) > _BUFFERS:
                    adviser.forget(in_use.popleft(), in_use[0])
                yield Window(buffer, begin, max(begin, end), 0, end == size)

    def _size_now(self, descriptor: int, before: int) -> int:
        """The size of the mapped file, which may have been cut while it is read: to touch
        what is gone would end the process (SIGBUS, mmap(2))."""
        size = os.fstat(descriptor).st_size
        if size < before:
            self._source.problem = "was cut shorter while it was being read"
        return min(size, before)

    def _read(self) -> Iterator[Window]:
        ring = deque(np.frombuffer(mmap.mmap(-1, _BUFFER), np.uint8) for _ in range(_BUFFERS))
        origin = end = 0
        room = _FIRST_WINDOW
        last = False
        while not last:
            previous, buffer = ring[-1], ring[0]
            ring.rotate(-1)
            kept = end - self.consumed
            buffer[:kept] = previous[self.consumed : end]
            origin += self.consumed
            end = kept + self._source.read_into(buffer.data[kept:room])
            last = end < room
            room = len(buffer)
            self.consumed = 0
            yield Window(buffer, 0, end, origin, last)


class PageAdviser:
    """Advises the kernel which pages of a mapped buffer to fetch and which to give up; to be
    used in ``with``.

    A fault for each page, and the pages' return, take a fifth of the time in which a capture is
    read, so both are done in a thread. madvise(2) is called through ctypes, which lets other
    threads run meanwhile. It is advice: a system that does not take it is only slower.
    """

    def __init__(self, buffer: Bytes) -> None:
        self._buffer = buffer
        self._advices: SimpleQueue[tuple[int, int, int] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="pages", daemon=True)

    def __enter__(self) -> PageAdviser:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._advices.put(None)
        self._thread.join()

    def will_need(self, begin: int, end: int) -> None:
        """The bytes ``[begin, end)`` of the buffer will be read soon."""
        self._advices.put((begin, min(end, len(self._buffer)), _POPULATE_READ))

    def forget(self, begin: int, end: int) -> None:
        """The whole pages of ``[begin, end)`` will not be read again."""
        self._advices.put((begin, end // mmap.PAGESIZE * mmap.PAGESIZE, _DONTNEED))

    def _work(self) -> None:
        address = self._buffer.ctypes.data
        while (advice := self._advices.get()) is not None:
            begin, end, what = advice
            begin = begin // mmap.PAGESIZE * mmap.PAGESIZE
            if begin < end:
                _madvise(address + begin, end - begin, what)
