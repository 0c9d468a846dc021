# SPDX-License-Identifier: GPL-2.0-or-later
"""What was sent and acked lately, to tell which of two different payloads the server took.

Nothing is computed while a capture is read: the columns are only kept, bounded in
number, and searched when two payloads for the same bytes turn out to differ.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, NamedTuple

import numpy as np

from .messages import Acks, Columns, Messages

#: Rows kept of each kind. The kernel client has at most 64 KiB in flight and gives a
#: chunk up after 12 transmissions, so what is older than this was settled long ago.
REMEMBERED = 1 << 17


class _Recent(Generic[Columns]):
    """The latest blocks of columns, oldest first, until they exceed REMEMBERED rows."""

    def __init__(self) -> None:
        self._rows = 0
        self._blocks: deque[Columns] = deque()

    def append(self, block: Columns) -> None:
        """Keep one more block."""
        if not len(block):
            return
        self._blocks.append(block)
        self._rows += len(block)
        while len(self._blocks) > 1 and self._rows > REMEMBERED:
            self._rows -= len(self._blocks.popleft())


class Sent(NamedTuple):
    """One transmission: its place in the captures and its sequence number."""

    order: int
    seqno: int


class SentHistory(_Recent[Messages]):
    """Messages of one file of a dump, in the order they were seen."""

    def first(self, start: int, end: int, before: int) -> Sent | None:
        """The earliest remembered transmission of any byte of ``[start, end)`` that
        came before place ``before``."""
        for block in self._blocks:
            wanted = (block.start < end) & (block.end > start) & (block.order < before)
            if wanted.any():
                row = int(np.argmax(wanted))
                return Sent(int(block.order[row]), int(block.seqno[row]))
        return None


class AckHistory(_Recent[Acks]):
    """Acks of one dump, in the order they were seen."""

    def first(self, seqnos: tuple[int, ...], after: int, before: int | None = None) -> int | None:
        """Which of ``seqnos`` was acked first between two places of the captures."""
        for block in self._blocks:
            wanted = np.isin(block.seqno, seqnos) & (block.order > after)
            if before is not None:
                wanted &= block.order < before
            if wanted.any():
                return int(block.seqno[np.argmax(wanted)])
        return None
