# SPDX-License-Identifier: GPL-2.0-or-later
"""The passive side: tells from datagrams seen on their way which dumps took place.

Sees both directions of any number of clients, servers and dumps, interleaved. Each capture is
observed by itself; when all has been read it is told which of their dumps are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from ... import formats
from .attribution import MAX_DUMPS, Attribution
from .batch import Batch, Floats, Flow, Storage
from .conversation import Conversation
from .disputes import Prefer
from .messages import MAX_PATH, Acks, Columns, Messages, decode, joined, payload
from .observed_dump import ObservedDump
from .selection import Directions, Selection, odd_heralds
from .sightings import join
from .stretch import Stretch
from .watcher import Watcher


class Observer:
    """Feeds dumps from batches of datagrams.

    ``storage_for`` is asked once for each sighting of a dump where its vmcore goes; ``prefer``
    tells which of different payloads is kept; ``watcher``, if there is one, is told of all that
    is seen of dumps. ``dumps`` are the sightings as they appeared, and from ``finish`` on the
    dumps in the order of their time. ``snapped`` counts messages that a snap length shortened,
    ``malformed`` those that netdumpd would not have answered, ``refused`` those of dumps beyond
    MAX_DUMPS.
    """

    def __init__(
        self,
        storage_for: Callable[[ObservedDump], Storage],
        selection: Selection | None = None,
        prefer: Prefer = Prefer.ACKED,
        watcher: Watcher | None = None,
    ) -> None:
        self.dumps: list[ObservedDump] = []
        self.snapped = self.malformed = self.refused = 0
        self._storage_for = storage_for
        self._prefer = prefer
        self._directions = Directions(selection or Selection())
        self._watcher = watcher
        self._datagrams = 0
        self._turn = 0
        self._captures = 0
        self._attribution = self._begin_capture()

    def new_capture(self) -> None:
        """The batches that follow are from another capture, of the same dumps or others."""
        self._end_capture()
        self._attribution = self._begin_capture()

    def observe(self, batch: Batch) -> None:
        """Take one batch."""
        self._turn += 1
        directions = self._directions.of(batch.flows, odd_heralds(batch))
        messages, acks, malformed, snapped = decode(batch, self._datagrams, directions)
        self.malformed += malformed
        self.snapped += snapped
        reader = _Reader(batch, self._turn, self._datagrams, messages, acks)
        self._datagrams += len(batch)
        for marker in np.flatnonzero(messages.type != formats.VMCORE).tolist():
            self._observe_data(reader, *reader.up_to(marker))
            self._observe_marker(reader, messages[marker : marker + 1])
        self._observe_data(reader, *reader.up_to(len(messages)))
        if self._watcher is not None:
            self._watcher.turn()

    def finish(self) -> None:
        """No more comes: tell which sightings are of one dump."""
        self._end_capture()
        self.dumps = join(self.dumps, self._prefer)
        if self._watcher is not None:
            self._watcher.found(self.dumps)

    def _begin_capture(self) -> Attribution:
        self._captures += 1
        self._datagrams = 0
        return Attribution(self._captures, self._began, self._watcher)

    def _end_capture(self) -> None:
        self._attribution.finish()
        self.malformed += self._attribution.stray
        self.refused += self._attribution.refused

    def _began(self, dump: ObservedDump) -> bool:
        if len(self.dumps) >= MAX_DUMPS:
            return False
        self.dumps.append(dump)
        dump.store_in(self._storage_for(dump), self._prefer)
        return True

    def _observe_data(self, reader: _Reader, messages: Messages, acks: Acks) -> None:
        """VMCORE messages and acks without anything else between them."""
        answers = [(reader.flows[flow], rows) for flow, rows in _by_flow(acks)]
        for flow, rows in answers:
            self._attribution.acked(flow, rows)
        taken: dict[Conversation, Stretch] = {}
        for number, sent in _by_flow(messages):
            stretch = reader.stretch(sent, acks[:0])
            found = self._attribution.conversation(reader.flows[number], formats.VMCORE, stretch)
            if found is not None:
                taken[found] = stretch
        for flow, rows in answers:
            found = self._attribution.acked_by(flow)
            if found is None:
                self._attribution.acked_early(flow, reader.stretch(messages[:0], rows))
            elif found in taken:
                taken[found] = reader.with_acks(taken[found], rows)
            else:
                taken[found] = reader.stretch(messages[:0], rows)
        for found, stretch in taken.items():
            found.take(stretch)

    def _observe_marker(self, reader: _Reader, message: Messages) -> None:
        """A message of another type: rare, and in its place among the others."""
        kind = int(message.type[0])
        flow = reader.flows[int(message.flow[0])]
        stretch = reader.stretch(message, Acks(*np.empty((3, 0), np.int64)))
        if kind == formats.HERALD:
            path = payload(reader.buffer, message, 0)[:MAX_PATH].split(b"\0")[0]
            time, place = float(stretch.times[0]), int(message.order[0])
            self._attribution.announce(flow, int(message.seqno[0]), path, time, place)
            return
        found = self._attribution.conversation(flow, kind, stretch)
        if found is not None:
            found.take_marker(kind, stretch)


class _Reader:
    """Takes a batch's messages and acks stretch by stretch."""

    def __init__(
        self, batch: Batch, turn: int, first_order: int, messages: Messages, acks: Acks
    ) -> None:
        self.buffer = batch.buffer
        self._turn = turn
        self.flows: list[Flow] = batch.flows
        self._times = batch.time
        self._first_order = first_order
        self._messages = messages
        self._acks = acks
        self._message = self._ack = 0

    def up_to(self, row: int) -> tuple[Messages, Acks]:
        """The messages after the latest marker and before ``row``, and the acks until then."""
        messages, acks = self._messages, self._acks
        until = len(acks)
        if row < len(messages):
            until = int(np.searchsorted(acks.order, messages.order[row]))
        stretch = messages[self._message : row], acks[self._ack : until]
        self._message, self._ack = row + 1, until
        return stretch

    def stretch(self, messages: Messages, acks: Acks) -> Stretch:
        """Some messages and acks of one client, with their times: not always in their order."""
        times, ack_times = self._times_of(messages), self._times_of(acks)
        return Stretch(self._turn, self.buffer, messages, times, acks, ack_times)

    def with_acks(self, stretch: Stretch, acks: Acks) -> Stretch:
        """The same with more acks, which may have gone to another port."""
        if len(stretch.acks):
            acks = joined(stretch.acks, acks)
            acks = acks[np.argsort(acks.order, kind="stable")]
        return replace(stretch, acks=acks, ack_times=self._times_of(acks))

    def _times_of(self, seen: Messages | Acks) -> Floats:
        return self._times[seen.order - self._first_order]


def _by_flow(columns: Columns) -> Iterator[tuple[int, Columns]]:
    """The rows of each flow, in their order; the flow that appears first comes first."""
    if not len(columns):
        return
    flow = columns.flow
    if (flow == flow[0]).all():
        yield int(flow[0]), columns
        return
    order = np.argsort(flow, kind="stable")
    edges = np.flatnonzero(np.diff(flow[order])) + 1
    for rows in sorted(np.split(order, edges), key=lambda rows: int(rows[0])):
        yield int(flow[rows[0]]), columns[rows]
