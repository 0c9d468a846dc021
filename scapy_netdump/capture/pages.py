# SPDX-License-Identifier: GPL-2.0-or-later
"""Which pages of a mapped file are in memory: fetched before they are needed, given up after.

A fault for each page, and the pages' return, take a fifth of the time in which a capture is
read, so both are done in a thread. madvise(2) is called through ctypes, which lets other
threads run meanwhile. It is advice: a system that does not take it is only slower.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
from queue import SimpleQueue

from ..core.observing.batch import Bytes

_POPULATE_READ = 22  # Linux 5.14, asm-generic/mman-common.h: MADV_POPULATE_READ
_DONTNEED = mmap.MADV_DONTNEED

_madvise = ctypes.CDLL(None).madvise
_madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


class PageAdviser:
    """Advises the kernel on a mapped buffer, in the background; to be used in ``with``."""

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
