# SPDX-License-Identifier: GPL-2.0-or-later
"""Different payloads for the same bytes: which bytes differ, and which payload is kept.

Unless somebody prefers the first or the last one, it is the one that was acked first; while
none was, the one that came first. An ack carries nothing but a sequence number, so it is
taken to answer the latest message with that number: the server drops a damaged datagram
unanswered, and the copy that was sent again is the one it took.

Nothing is done until two payloads differ. From then on all copies of those bytes are
kept until an ack decides; the earlier copies were the same as what is stored.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from ..extents import Extents, Marks
from .acks import AckHistory, Sent, SentHistory

#: Undecided copies kept of a file; beyond them the oldest is given up.
MAX_COPIES = 512


class Prefer(Enum):
    """Which of different payloads is kept."""

    ACKED = "acked"
    FIRST = "first"
    LAST = "last"


class _Copy(NamedTuple):
    """The part of one transmission that is in dispute: ``data`` from ``start`` on."""

    sent: Sent
    start: int
    data: bytes

    @property
    def end(self) -> int:
        return self.start + len(self.data)


class Disputes:
    """Notes one file's bytes that were seen with different values in ``differing``, and decides
    which are kept."""

    def __init__(
        self,
        overwrite: Callable[[int, bytes], None],
        sent: SentHistory,
        acks: AckHistory,
        differing: Marks,
        prefer: Prefer,
    ) -> None:
        """``overwrite`` stores data at a place in the file, over what is there."""
        self._overwrite = overwrite
        self._sent = sent
        self._acks = acks
        self._prefer = prefer
        self._differing = differing
        self._disputed = Extents()
        self._settled = Extents()  # the part of _disputed about which nothing is open
        self._copies: deque[_Copy] = deque(maxlen=MAX_COPIES)
        self._examined = -1  # the place of the latest ack that was looked at

    def compare(self, sent: Sent, start: int, data: bytes, held: bytes) -> None:
        """Take note of a copy of the stored bytes ``held``, which begin at ``start``."""
        end = start + len(data)
        if data != held:
            self._differing.compare(start, data, held)
            if self._prefer is Prefer.LAST:
                self._overwrite(start, data)
            if self._prefer is not Prefer.ACKED:
                return
            for new_start, new_end in list(self._disputed.missing(start, end)):
                self._open(sent.row, new_start, held[new_start - start : new_end - start])
        for part_start, part_end in self._disputed.present(start, end):
            self._keep(_Copy(sent, part_start, data[part_start - start : part_end - start]))

    def settle(self) -> None:
        """Decide as far as the acks tell by now: to be called when all messages before the
        latest ack in the history have been compared."""
        if not self._copies:
            return
        seqnos = {copy.sent.seqno for copy in self._copies}
        for order, seqno in self._acks.since(self._examined, seqnos):
            if seqno in seqnos:
                self._answer(order, seqno)
                seqnos = {copy.sent.seqno for copy in self._copies}
        self._examined = self._acks.last

    def _open(self, row: int, start: int, held: bytes) -> None:
        """What is stored is disputed by message ``row``; nobody disputed it before."""
        end = start + len(held)
        remembered = Extents()
        for sent in self._sent.touching(start, end, row):
            copy_start, copy_end = max(start, sent.start), min(end, sent.end)
            remembered.add(copy_start, copy_end)
            self._keep(_Copy(sent, copy_start, held[copy_start - start : copy_end - start]))
            self._examined = min(self._examined, sent.order)
        self._disputed.add(start, end)
        for long_ago_start, long_ago_end in remembered.missing(start, end):
            self._settled.add(long_ago_start, long_ago_end)

    def _keep(self, copy: _Copy) -> None:
        if not self._settled.covers(copy.start, copy.end):
            self._copies.append(copy)

    def _answer(self, order: int, seqno: int) -> None:
        """An ack at place ``order``: it answers one message, and those of this number that
        came before that one will never be answered."""
        asked = [copy for copy in self._copies if copy.sent.seqno == seqno]
        asked = [copy for copy in asked if copy.sent.order < order]
        if not asked:
            return
        answered = self._sent.latest(seqno, order)
        for copy in asked:
            if copy.sent.row == answered:
                self._take(copy)
            self._copies.remove(copy)

    def _take(self, copy: _Copy) -> None:
        for start, end in list(self._settled.missing(copy.start, copy.end)):
            self._overwrite(start, copy.data[start - copy.start : end - copy.start])
            self._settled.add(start, end)
