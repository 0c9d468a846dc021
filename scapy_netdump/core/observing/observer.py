# SPDX-License-Identifier: GPL-2.0-or-later
"""The passive side: tells from datagrams seen on their way which dumps took place.

Sees both directions of any number of clients, servers and dumps, interleaved. Imports
only its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ... import formats
from .attribution import Attribution, Stretch
from .batch import Batch, Floats, Flow, Storage
from .disputes import Prefer
from .messages import Acks, Columns, Messages, decode, payload
from .observed_dump import ObservedDump
from .selection import Directions, Selection
from .watcher import Watcher

MAX_PATH = 1024  # PATH_MAX of FreeBSD's sys/syslimits.h


class Observer:
    """Feeds dumps from batches of datagrams.

    ``storage_for`` is asked once a dump where its vmcore goes; ``prefer`` tells which of
    different payloads is kept; ``watcher``, if there is one, is told of all that is seen of
    dumps. ``snapped`` counts messages that a snap length shortened.
    """

    def __init__(
        self,
        storage_for: Callable[[ObservedDump], Storage],
        selection: Selection | None = None,
        prefer: Prefer = Prefer.ACKED,
        watcher: Watcher | None = None,
    ) -> None:
        self.snapped = 0
        self._malformed = 0
        self._attribution = Attribution(storage_for, prefer)
        self._directions = Directions(selection or Selection())
        self._watcher = watcher
        self._datagrams = 0
        self._turn = 0

    @property
    def dumps(self) -> list[ObservedDump]:
        """The dumps as they appeared."""
        return self._attribution.dumps

    @property
    def malformed(self) -> int:
        """How many messages netdumpd would not have answered: bad ones, and stray ones."""
        return self._malformed + self._attribution.stray

    @property
    def refused(self) -> int:
        """How many messages belong to dumps beyond MAX_DUMPS."""
        return self._attribution.refused

    def new_capture(self) -> None:
        """The batches that follow are from another capture, of the same dumps or others."""
        self._attribution.new_capture()

    def observe(self, batch: Batch) -> None:
        """Take one batch."""
        self._turn += 1
        directions = self._directions.of(batch.flows)
        messages, acks, malformed, snapped = decode(batch, self._datagrams, directions)
        self._malformed += malformed
        self.snapped += snapped
        reader = _Reader(batch, self._datagrams, messages, acks)
        self._datagrams += len(batch)
        for marker in np.flatnonzero(messages.type != formats.VMCORE).tolist():
            self._observe_data(reader, *reader.up_to(marker))
            self._observe_marker(reader, messages[marker : marker + 1])
        self._observe_data(reader, *reader.up_to(len(messages)))
        if self._watcher is not None:
            self._watcher.turn()

    def finish(self) -> None:
        """No more comes."""
        self._attribution.finish()

    def _observe_data(self, reader: _Reader, messages: Messages, acks: Acks) -> None:
        """VMCORE messages and acks without anything else between them.

        Acks go into the histories before the messages, which came partly before, partly
        after them: by their places it is known which ack answers which message.
        """
        answers = [(reader.flows[flow], rows) for flow, rows in _by_flow(acks)]
        for flow, rows in answers:
            self._attribution.acked(flow, rows)
        taken = [(self._dump_of(reader, rows), rows) for _, rows in _by_flow(messages)]
        touched = set()
        for flow, rows in answers:
            dump = self._attribution.dump_acked_by(flow)
            if dump is not None:
                dump.acked(rows)
                touched.add(dump)
                if self._watcher is not None:
                    self._watcher.acked(dump, rows, reader.times(rows))
        for dump, messages in taken:
            if dump is not None:
                dump.data(formats.VMCORE, self._turn, reader.buffer, messages)
                touched.add(dump)
                if self._watcher is not None:
                    self._watcher.sent(dump, messages, reader.times(messages))
        for dump in touched:
            dump.settle()

    def _observe_marker(self, reader: _Reader, message: Messages) -> None:
        """A message of another type: rare, and in its place among the others."""
        kind = int(message.type[0])
        if kind == formats.HERALD:
            path = payload(reader.buffer, message, 0)[:MAX_PATH].split(b"\0")[0]
            flow = reader.flows[int(message.flow[0])]
            time = float(reader.times(message)[0])
            self._attribution.announce(flow, int(message.seqno[0]), path, time)
            return
        dump = self._dump_of(reader, message)
        if dump is None:
            return
        if self._watcher is not None:
            self._watcher.sent(dump, message, reader.times(message))
        if kind == formats.FINISHED:
            dump.finish()
        else:
            dump.data(kind, self._turn, reader.buffer, message)
            dump.settle()

    def _dump_of(self, reader: _Reader, messages: Messages) -> ObservedDump | None:
        """The dump of some messages of one flow."""
        times = reader.times(messages)
        stretch = Stretch(
            flow=reader.flows[int(messages.flow[0])],
            first_time=float(times.min()),
            last_time=float(times.max()),
            order=int(messages.order[0]),
            type=int(messages.type[0]),
            seqno=int(messages.seqno[0]),
            messages=len(messages),
        )
        return self._attribution.dump_of(stretch)


class _Reader:
    """Takes a batch's messages and acks stretch by stretch."""

    def __init__(self, batch: Batch, first_order: int, messages: Messages, acks: Acks) -> None:
        self.buffer = batch.buffer
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

    def times(self, seen: Messages | Acks) -> Floats:
        """When some messages or acks were captured; not always in their order."""
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
