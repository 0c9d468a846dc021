# SPDX-License-Identifier: GPL-2.0-or-later
"""Which physical page stands where in a minidump: its bitmap has a bit for each page of memory.

The pages follow each other in the file in the order of the bits that are set
(_kvm_pt_init in lib/libkvm/kvm_private.c).
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from .minidump import Minidump
from .regions import Range, pages_touched

#: Bytes of the bitmap that are expanded at a time: eight times as many numbers.
_BLOCK = 1 << 16


class PageMap:
    """The physical addresses of the pages in a minidump.

    ``known_pages``: how many of them, from the first on, are known; fewer than there are
    when the bitmap is cut short, as then it is not known what a page's place means.
    """

    def __init__(self, minidump: Minidump, bitmap: bytes, dump_avail: bytes) -> None:
        """``bitmap`` and ``dump_avail`` as they stand in the file, up to their first hole."""
        self._page = minidump.page
        self._bitmap = _byte_by_byte(bitmap[: minidump.bitmapsize], minidump.byte_order)
        self._ranges = list(_memory_ranges(minidump, dump_avail))
        #: the bit of the first page of each range, and the first one behind them all
        self._firsts = list(accumulate((end - start for start, end in self._ranges), initial=0))
        if minidump.dumpavailsize and not self._ranges:
            self._bitmap = self._bitmap[:0]  # a bit's number says nothing without them
        counts = [
            int(np.unpackbits(self._bitmap[at : at + _BLOCK]).sum())
            for at in range(0, len(self._bitmap), _BLOCK)
        ]
        self._before = np.concatenate(([0], np.cumsum(counts, dtype=np.int64)))
        self.known_pages = int(self._before[-1])

    def addresses(self, first: int, last: int) -> Iterator[int]:
        """The physical addresses of the pages of the numbers ``[first, last)``, of those known."""
        last = min(last, self.known_pages)
        block = int(np.searchsorted(self._before, first, "right")) - 1
        while first < last:
            bits = self._bitmap[block * _BLOCK : (block + 1) * _BLOCK]
            numbers = np.flatnonzero(np.unpackbits(bits, bitorder="little"))
            base = int(self._before[block])
            here = numbers[first - base : last - base] + block * _BLOCK * 8
            yield from map(self._address, here.tolist())
            first += len(here)
            block += 1

    def lost(self, pages_at: int, missing: Iterable[Range]) -> Iterator[int]:
        """The physical addresses of pages of which any byte is among the missing ranges of the
        file, in which the first page stands at ``pages_at``."""
        for first, after in pages_touched(missing, pages_at, self._page):
            yield from self.addresses(first, after)

    def _address(self, bit: int) -> int:
        place = bisect_right(self._firsts, bit) - 1
        if place < len(self._ranges):
            bit += self._ranges[place][0]
        return (bit - self._firsts[place]) * self._page


def _byte_by_byte(bitmap: bytes, byte_order: str) -> npt.NDArray[np.uint8]:
    """The bitmap with the bits of the lowest pages in its first bytes. It is an array of
    unsigned long, so that on a big-endian machine each eight bytes stand the other way."""
    data = np.frombuffer(bitmap, np.uint8)
    if byte_order == "<":
        return data
    words = data[: len(data) // 8 * 8].reshape(-1, 8)
    return np.ascontiguousarray(words[:, ::-1]).reshape(-1)


def _memory_ranges(minidump: Minidump, dump_avail: bytes) -> Iterator[Range]:
    """The ranges of physical memory that the bitmap's bits are about, one after the other, in
    pages: pairs of addresses, of which a zero end is the last
    (vm_page_dump_index_to_pa in sys/vm/vm_dumpset.h)."""
    code = {4: "I", 8: "Q"}[minidump.address_size]
    pair = struct.Struct(minidump.byte_order + code * 2)
    whole = min(len(dump_avail), minidump.dumpavailsize) // pair.size * pair.size
    for start, end in pair.iter_unpack(dump_avail[:whole]):
        if not end:
            return
        if start < end:
            yield start // minidump.page, -(-end // minidump.page)
