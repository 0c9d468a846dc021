# SPDX-License-Identifier: GPL-2.0-or-later
"""One file of a dump, put together from the copies of its bytes that a capture shows.

Of two different payloads for the same bytes the first that was acked is kept. An ack
carries nothing but a sequence number, so it is taken to answer the latest message with
that number: the server drops a damaged datagram unanswered, and the copy that was sent
again is the one it took.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np

from .acks import AckHistory, Sent, SentHistory
from .batch import Bytes, Ints, Mask
from .extents import Extents
from .messages import Messages, payload

#: Undecided payloads kept at most; beyond that the copy that came first stays.
MAX_CHALLENGERS = 256


class Storage(Protocol):
    """Where the bytes of a file go."""

    def write(self, buffer: Bytes, positions: Ints, lengths: Ints, offset: int) -> None:
        """Store one contiguous range from ``offset`` on: the pieces of ``buffer`` at
        ``positions``, of ``lengths`` bytes each, one after the other."""

    def put(self, start: int, data: bytes) -> None:
        """Store ``data`` at ``start``."""

    def read(self, start: int, end: int) -> bytes | None:
        """The bytes stored in ``[start, end)``; None if they are not kept."""


class _Challenger(NamedTuple):
    """A payload that differs from the one held, while neither has been acked."""

    sent: Sent
    holder: Sent  # the payload that is held
    start: int
    data: bytes


class ObservedFile:
    """Takes the messages that carry pieces of one file, and stores each byte once."""

    def __init__(self, storage: Storage, extents: Extents, limit: int, acks: AckHistory) -> None:
        self.retransmitted = 0
        self.conflicting_bytes = 0
        self._storage = storage
        self._extents = extents
        self._limit = limit
        self._acks = acks
        self._sent = SentHistory()
        self._seen_here: Extents | None = None
        self._conflicts = Extents()
        self._settled = Extents()
        self._challengers: list[_Challenger] = []

    def new_capture(self) -> None:
        """What follows is another capture, whose messages may all have been seen before."""
        self._seen_here = Extents()

    def take(self, buffer: Bytes, messages: Messages) -> None:
        """Store what is new in some messages, check what is not; they must be in the
        order of the capture, and the acks among them must be in the history already."""
        messages = self._bounded(messages)
        if not len(messages):
            return
        self._sent.append(messages)
        if self._seen_here is not None:
            self.retransmitted += _count_repeats(messages, self._seen_here)
        fresh, again = split(messages, self._extents)
        self._store(buffer, messages[fresh])
        for row in again.tolist():
            self._take_again(buffer, messages, row)

    def settle(self) -> None:
        """Decide between payloads that differ, as far as the acks tell by now."""
        waiting = []
        for challenger in self._challengers:
            end = challenger.start + len(challenger.data)
            if self._settled.overlaps(challenger.start, end):
                continue
            sent, holder = challenger.sent, challenger.holder
            acked = self._acks.first((sent.seqno, holder.seqno), sent.order)
            if acked is None:
                waiting.append(challenger)
            elif acked == sent.seqno:
                self._storage.put(challenger.start, challenger.data)
                self._settled.add(challenger.start, end)
        self._challengers = waiting

    def _bounded(self, messages: Messages) -> Messages:
        inside = (messages.start < self._limit) & (messages.start < messages.end)
        if not inside.all():
            messages = messages[inside]
        np.minimum(messages.end, self._limit, out=messages.end)
        return messages

    def _store(self, buffer: Bytes, messages: Messages) -> None:
        """Write messages that are in the order of the file and new, run by run."""
        for run in runs(messages):
            start = int(messages.start[run.start])
            end = int(messages.end[run.stop - 1])
            lengths = messages.end[run] - messages.start[run]
            self._storage.write(buffer, messages.position[run], lengths, start)
            self._extents.add(start, end)

    def _take_again(self, buffer: Bytes, messages: Messages, row: int) -> None:
        start, end = int(messages.start[row]), int(messages.end[row])
        if self._seen_here is None and self._extents.covers(start, end):
            self.retransmitted += 1
        data = payload(buffer, messages, row)
        for held_start, held_end in self._extents.present(start, end):
            copy = data[held_start - start : held_end - start]
            held = self._storage.read(held_start, held_end)
            if held is not None and held != copy:
                sent = Sent(int(messages.order[row]), int(messages.seqno[row]))
                self._conflict(sent, held_start, copy, held)
        for new_start, new_end in list(self._extents.missing(start, end)):
            self._storage.put(new_start, data[new_start - start : new_end - start])
            self._extents.add(new_start, new_end)

    def _conflict(self, sent: Sent, start: int, copy: bytes, held: bytes) -> None:
        """Count a difference from the bytes held, and remember it while it is undecided."""
        end = start + len(copy)
        if not self._conflicts.covers(start, end):
            differs = np.frombuffer(copy, np.uint8) != np.frombuffer(held, np.uint8)
            self.conflicting_bytes += int(np.count_nonzero(differs))
            self._conflicts.add(start, end)
        holder = self._sent.first(start, end, sent.order)
        if holder is None or self._settled.overlaps(start, end):
            return
        acked = self._acks.first((holder.seqno,), holder.order, sent.order)
        if acked is None and len(self._challengers) < MAX_CHALLENGERS:
            self._challengers.append(_Challenger(sent, holder, start, copy))


def runs(messages: Messages) -> list[slice]:
    """The stretches of messages, in the order of the file, that follow without a gap."""
    if not len(messages):
        return []
    breaks = np.flatnonzero(messages.start[1:] != messages.end[:-1]) + 1
    edges = [0, *breaks.tolist(), len(messages)]
    return [slice(*pair) for pair in pairwise(edges)]


def split(messages: Messages, extents: Extents) -> tuple[Ints, Ints]:
    """Rows that bring nothing but new bytes, in the order of the file, and the other rows,
    in the order of the capture. A row of the first kind overlaps no other row of it."""
    everything = np.arange(len(messages))
    none = everything[:0]
    ascending = bool((messages.start[1:] >= messages.end[:-1]).all())
    if ascending and not extents.overlaps(int(messages.start[0]), int(messages.end[-1])):
        return everything, none
    by_start = np.argsort(messages.start, kind="stable")
    start, end = messages.start[by_start], messages.end[by_start]
    repeats = np.zeros(len(start), np.bool_)
    repeats[1:] = (start[1:] == start[:-1]) & (end[1:] == end[:-1])
    overlaps = np.zeros(len(start), np.bool_)
    overlaps[1:] = start[1:] < np.maximum.accumulate(end)[:-1]
    if (overlaps & ~repeats).any():  # pieces cut differently each time: one after the other
        return none, everything
    fresh = ~(repeats | _overlapping(start, end, extents))
    return by_start[fresh], np.sort(by_start[~fresh])


def _overlapping(start: Ints, end: Ints, extents: Extents) -> Mask:
    starts, ends = (np.array(bound, np.int64) for bound in extents.bounds)
    return np.asarray(np.searchsorted(ends, start, "right") < np.searchsorted(starts, end, "left"))


def _count_repeats(messages: Messages, seen: Extents) -> int:
    """How many of the messages bring no byte that was not seen; all are seen afterwards."""
    fresh, again = split(messages, seen)
    new = messages[fresh]
    for run in runs(new):
        seen.add(int(new.start[run.start]), int(new.end[run.stop - 1]))
    count = 0
    repeated = messages[again]
    for start, end in zip(repeated.start.tolist(), repeated.end.tolist(), strict=True):
        count += seen.covers(start, end)
        seen.add(start, end)
    return count
