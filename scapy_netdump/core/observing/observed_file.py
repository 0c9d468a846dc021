# SPDX-License-Identifier: GPL-2.0-or-later
"""One file of a dump, put together from the copies of its bytes that a capture shows."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np

from ..extents import Extents, Marks
from .acks import AckHistory, Sent, SentHistory
from .batch import Bytes, Ints, Mask, Storage
from .disputes import Disputes, Prefer
from .messages import Messages
from .recent import RecentPayloads


class ObservedFile:
    """Takes the messages that carry pieces of one file, and stores each byte once; of
    different payloads for a byte the one that disputes.py tells."""

    def __init__(
        self,
        storage: Storage,
        extents: Extents,
        limit: int,
        acks: AckHistory,
        differing: Marks,
        prefer: Prefer = Prefer.ACKED,
    ) -> None:
        self.retransmitted = 0
        self._storage = storage
        self._extents = extents
        self._limit = limit
        self._sent = SentHistory()
        self._disputes = Disputes(self._overwrite, self._sent, acks, differing, prefer)
        self._recent = RecentPayloads()
        self._turn = 0

    def take(self, turn: int, buffer: Bytes, messages: Messages) -> None:
        """Store what is new in some messages, and compare what is not. They must be in the
        order of the capture; ``turn`` is the number of the batch that they are from."""
        self._turn = turn
        messages = self._bounded(messages)
        if not len(messages):
            return
        first = self._sent.append(messages)
        fresh, again = split(messages, self._extents)
        self._store(buffer, messages[fresh])
        repeated = messages[again]
        columns = (repeated.order, repeated.seqno, repeated.start, repeated.end, repeated.position)
        lists = (column.tolist() for column in (again + first, *columns))
        for *sent, position in zip(*lists, strict=True):
            transmission = Sent(*sent)
            end = position + transmission.end - transmission.start
            self._take_again(transmission, buffer[position:end].tobytes())

    def place_of(self, seqno: int) -> int | None:
        """Where the latest remembered message with this sequence number begins in the file."""
        return self._sent.place_of(seqno)

    def misplaced(self, other: ObservedFile) -> int:
        """How many messages of two sightings have one number, and are for different places."""
        mine, its = self._sent.places(), other._sent.places()
        _, some, others = np.intersect1d(mine[0], its[0], assume_unique=True, return_indices=True)
        return int(np.count_nonzero(mine[1][some] != its[1][others]))

    def in_common(self, other: ObservedFile) -> int:
        """How many numbers the messages of two files, or sightings, have in common."""
        mine, its = self._sent.places()[0], other._sent.places()[0]
        return len(np.intersect1d(mine, its, assume_unique=True))

    def settle(self) -> None:
        """Decide between payloads that differ, as far as the acks tell by now: to be called
        when all messages before the latest ack have been taken."""
        self._disputes.settle()

    def _bounded(self, messages: Messages) -> Messages:
        """The messages that carry anything, cut where the file may not go on."""
        inside = (messages.start < self._limit) & (messages.start < messages.end)
        if not inside.all():
            messages = messages[inside]
        if (messages.end > self._limit).any():
            messages = replace(messages, end=np.minimum(messages.end, self._limit))
        return messages

    def _store(self, buffer: Bytes, messages: Messages) -> None:
        """Write messages that are in the order of the file and new, run by run."""
        for run in runs(messages):
            start = int(messages.start[run.start])
            end = int(messages.end[run.stop - 1])
            lengths = messages.end[run] - messages.start[run]
            self._storage.write(buffer, messages.position[run], lengths, start)
            self._extents.add(start, end)
        if len(messages):
            self._recent.add(self._turn, buffer, messages)

    def _overwrite(self, start: int, data: bytes) -> None:
        self._recent.forget()
        self._storage.put(start, data)

    def _take_again(self, sent: Sent, data: bytes) -> None:
        """Take a message of which some bytes may be here."""
        start, end = sent.start, sent.end
        self.retransmitted += self._extents.covers(start, end)
        for held_start, held_end in self._extents.present(start, end):
            held = self._recent.find(self._turn, held_start, held_end)
            if held is None:
                held = self._storage.read(held_start, held_end)
            if held is not None:
                copy = data[held_start - start : held_end - start]
                self._disputes.compare(sent, held_start, copy, held)
        for new_start, new_end in list(self._extents.missing(start, end)):
            self._storage.put(new_start, data[new_start - start : new_end - start])
            self._extents.add(new_start, new_end)


def runs(messages: Messages) -> list[slice]:
    """The stretches of messages, in the order of the file, that follow without a gap."""
    if not len(messages):
        return []
    breaks = np.flatnonzero(messages.start[1:] != messages.end[:-1]) + 1
    edges = [0, *breaks.tolist(), len(messages)]
    return [slice(*pair) for pair in pairwise(edges)]


def split(messages: Messages, extents: Extents) -> tuple[Ints, Ints]:
    """Rows that bring nothing but new bytes, in the order of the file, and the other rows,
    in the order of the capture. A row of the first kind overlaps no other row, except
    later ones of the same range."""
    everything = np.arange(len(messages))
    ascending = bool((messages.start[1:] >= messages.end[:-1]).all())
    if ascending and not extents.overlaps(int(messages.start[0]), int(messages.end[-1])):
        return everything, everything[:0]
    by_start = np.argsort(messages.start, kind="stable")
    start, end = messages.start[by_start], messages.end[by_start]
    overlaps, repeats = np.zeros((2, len(start)), np.bool_)
    overlaps[1:] = start[1:] < np.maximum.accumulate(end)[:-1]
    repeats[1:] = (start[1:] == start[:-1]) & (end[1:] == end[:-1])
    heap = np.cumsum(~overlaps)  # numbers the heaps of rows that lie on each other
    ragged = np.zeros(len(start) + 1, np.bool_)
    ragged[heap[overlaps & ~repeats]] = True  # cut differently: one row after the other
    fresh = ~(overlaps | ragged[heap] | _overlapping(start, end, extents))
    return by_start[fresh], np.sort(by_start[~fresh])


def _overlapping(start: Ints, end: Ints, extents: Extents) -> Mask:
    starts, ends = (np.array(bound, np.int64) for bound in extents.bounds)
    return np.asarray(np.searchsorted(ends, start, "right") < np.searchsorted(starts, end, "left"))
