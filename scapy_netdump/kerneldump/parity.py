# SPDX-License-Identifier: GPL-2.0-or-later
"""The checksum of a kernel dump header. Standard library only."""

from functools import reduce
from operator import xor
from struct import iter_unpack


def parity_of(data: bytes) -> int:
    """XOR of all whole 32-bit big-endian words of `data` (kerneldump_parity in sys/kerneldump.h).

    Over the 512 bytes of a header, its parity field included, the result is 0; over
    everything but that field it is the value that the field must have.
    """
    words = iter_unpack("!I", memoryview(data)[: len(data) & ~3])
    return reduce(xor, (word for (word,) in words), 0)
