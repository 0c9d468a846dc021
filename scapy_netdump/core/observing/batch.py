# SPDX-License-Identifier: GPL-2.0-or-later
"""Datagrams on their way into the core, many at a time, and what takes their payloads.

A capture of a gigabyte holds 1.5 million datagrams. One Python object for each
would cost more than copying the capture twice, so they travel as columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class Flow(NamedTuple):
    """Where datagrams come from and go to; addresses packed, 4 or 16 bytes."""

    source: bytes
    sport: int
    destination: bytes
    dport: int


@dataclass(frozen=True, slots=True)
class Batch:
    """UDP datagrams in the order of the capture, one row each.

    ``buffer`` holds the payloads, and keeps doing so until two more batches have been
    taken from where this one came from. A datagram's payload starts at
    ``buffer[start]``; ``length`` bytes of it were sent, ``captured`` of them are there
    (fewer when a snap length cut the frame). ``flow`` is an index into ``flows``,
    ``time`` is in seconds since 1970.
    """

    buffer: Bytes
    start: Ints
    captured: Ints
    length: Ints
    flow: Ints
    time: Floats
    flows: list[Flow]

    def __len__(self) -> int:
        return len(self.start)


class Storage(Protocol):
    """Where the bytes of a file go."""

    def write(self, buffer: Bytes, positions: Ints, lengths: Ints, offset: int) -> None:
        """Store one contiguous range from ``offset`` on: the pieces of ``buffer`` at
        ``positions``, of ``lengths`` bytes each, one after the other."""

    def put(self, start: int, data: bytes) -> None:
        """Store ``data`` at ``start``."""

    def read(self, start: int, end: int) -> bytes | None:
        """The bytes stored in ``[start, end)``; None if they are not kept."""


def at_every_byte(buffer: Bytes, dtype: str) -> npt.NDArray[Any]:
    """The buffer read as items of ``dtype`` that begin at every byte, aligned or not.

    A view with a stride of one byte: indexing it with positions reads headers of any size
    in 5 to 12 ns each. It is shorter than the buffer by the size of an item less one.
    """
    items = max(0, len(buffer) - np.dtype(dtype).itemsize + 1)
    return np.ndarray((items,), dtype, buffer.data, 0, (1,)) if items else np.empty(0, dtype)


def gather(buffer: Bytes, positions: Ints, dtype: str) -> npt.NDArray[Any]:
    """The items of type ``dtype`` that stand at ``positions``, which must lie within."""
    return at_every_byte(buffer, dtype)[positions]
