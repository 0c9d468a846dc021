# SPDX-License-Identifier: GPL-2.0-or-later
"""What was sent and acked lately, to tell which of two different payloads the server took.

Nothing is computed while a capture is read: the columns are only kept, bounded in
number, and searched when two payloads for the same bytes turn out to differ.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .batch import Ints
from .messages import Acks, Messages

#: Rows kept at least, of each kind. The kernel client has at most 64 KiB in flight, 46
#: messages, and waits for them: what is much older was settled long ago. All rows of
#: the latest batch are kept in any case.
REMEMBERED = 1 << 14

#: Blocks of fewer rows are joined with their neighbour: a live capture comes row by row.
_SMALL = 1 << 12

Table = npt.NDArray[np.int64]


class _Recent:
    """The latest rows of some columns, in blocks, oldest first. A block is an array of
    shape (columns, rows), copied: a view would keep the columns of a whole batch alive."""

    def __init__(self) -> None:
        self._held = 0
        self._blocks: deque[Table] = deque()
        self._forgotten = 0

    @property
    def _rows(self) -> int:
        """How many rows have come so far, forgotten ones included."""
        return self._forgotten + self._held

    def _append(self, *columns: Ints) -> None:
        block = np.array(columns, np.int64)
        self._held += block.shape[1]
        while self._blocks and self._blocks[-1].shape[1] <= min(block.shape[1], _SMALL):
            block = np.concatenate((self._blocks.pop(), block), axis=1)
        self._blocks.append(block)
        while self._held - self._blocks[0].shape[1] >= REMEMBERED:
            oldest = self._blocks.popleft().shape[1]
            self._held -= oldest
            self._forgotten += oldest

    def _newest_first(self) -> Iterator[tuple[int, Table]]:
        """The blocks, each with the number of its first row."""
        after = self._rows
        for block in reversed(self._blocks):
            after -= block.shape[1]
            yield after, block


class Sent(NamedTuple):
    """One transmission of the bytes ``[start, end)``: its number among the file's
    messages, the place of its datagram in the captures, its sequence number."""

    row: int
    order: int
    seqno: int
    start: int
    end: int


class SentHistory(_Recent):
    """Messages of one file of a dump, in the order they were seen."""

    def append(self, messages: Messages) -> int:
        """Keep some more, one at least; the number of the first of them."""
        first = self._rows
        self._append(messages.order, messages.seqno, messages.start, messages.end)
        return first

    def touching(self, start: int, end: int, before: int) -> list[Sent]:
        """The remembered transmissions of any byte of ``[start, end)`` with numbers below
        ``before``, oldest first."""
        found: list[Sent] = []
        for first, block in self._newest_first():
            _, _, starts, ends = block
            rows = np.flatnonzero((starts < end) & (ends > start))
            rows = rows[rows < before - first]
            older = [Sent(first + row, *block[:, row].tolist()) for row in rows.tolist()]
            found = older + found
        return found

    def latest(self, seqno: int, before: int) -> int | None:
        """The number of the latest remembered message with this sequence number that came
        before place ``before``."""
        for first, block in self._newest_first():
            orders, seqnos, _, _ = block
            rows = np.flatnonzero((seqnos == seqno) & (orders < before))
            if len(rows):
                return first + int(rows[-1])
        return None

    def place_of(self, seqno: int) -> int | None:
        """Where the latest remembered message with this sequence number begins in the file."""
        for _, block in self._newest_first():
            rows = np.flatnonzero(block[1] == seqno)
            if len(rows):
                return int(block[2, rows[-1]])
        return None

    def places(self) -> tuple[Ints, Ints]:
        """The numbers of the remembered messages, each once, and where they begin in the file;
        none if one number stands for several places."""
        blocks = [block[1:3] for _, block in self._newest_first()]
        pairs = np.unique(np.concatenate([np.empty((2, 0), np.int64), *blocks], axis=1), axis=1)
        seqnos, starts = pairs
        several = len(np.unique(seqnos)) < len(seqnos)
        return (seqnos[:0], starts[:0]) if several else (seqnos, starts)


class AckHistory(_Recent):
    """Acks of one dump, in the order they were seen."""

    def append(self, acks: Acks) -> None:
        """Keep some more, one at least."""
        self._append(acks.order, acks.seqno)

    @property
    def last(self) -> int:
        """The place of the latest ack; -1 before there is any."""
        return int(self._blocks[-1][0, -1]) if self._blocks else -1

    def since(self, after: int, seqnos: Collection[int]) -> list[tuple[int, int]]:
        """Place and number of the remembered acks of ``seqnos`` that came after place
        ``after``, in their order."""
        found: list[tuple[int, int]] = []
        wanted = np.fromiter(seqnos, np.int64, len(seqnos))
        for _, block in self._newest_first():
            if block[0, -1] <= after:
                break
            rows = np.flatnonzero(np.isin(block[1], wanted) & (block[0] > after))
            found = [(int(order), int(seqno)) for order, seqno in block[:, rows].T] + found
        return found
