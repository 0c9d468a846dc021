# SPDX-License-Identifier: GPL-2.0-or-later
"""The passive side: tells from datagrams seen on their way which dumps took place.

Sees both directions of any number of clients, servers and dumps, interleaved. A dump
is known by its client, its server and the port that the server took for it; a HERALD
announces one, but a dump whose HERALD was not captured is taken up all the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator

import numpy as np

from .. import formats
from .batch import Batch, Flow
from .messages import Acks, Columns, Messages, decode, payload
from .observed_dump import Herald, ObservedDump, Peer
from .observed_file import Storage
from .selection import Directions, Selection

#: Bounds on what a hostile capture can make us keep.
MAX_DUMPS = 4096
MAX_HERALDS = 4096
MAX_PATH = 1024  # PATH_MAX of FreeBSD's sys/syslimits.h

#: A client resends from the stretch that it has in flight. One that goes back to its
#: first message after more bytes than this has begun another dump (the kernel: 64 KiB).
RESEND_WINDOW = 1 << 20

#: Two dumps of one client to a server with a fixed port are at least a reboot apart,
#: and the clocks of two capturing hosts are expected to agree better. Seconds.
REBOOT_TIME = 60.0


class Observer:
    """Feeds dumps from batches of datagrams; ``dumps`` lists them as they appeared.

    ``storage_for`` is asked once a dump where its vmcore goes. ``malformed`` counts
    messages that netdumpd would not have answered, ``snapped`` those that a snap length
    shortened, ``refused`` those of dumps beyond MAX_DUMPS.
    """

    def __init__(
        self, storage_for: Callable[[ObservedDump], Storage], selection: Selection | None = None
    ) -> None:
        self.dumps: list[ObservedDump] = []
        self.malformed = 0
        self.snapped = 0
        self.refused = 0
        self._storage_for = storage_for
        self._directions = Directions(selection or Selection())
        self._datagrams = 0
        self._capture = 0
        self._heralds: OrderedDict[Peer, Herald] = OrderedDict()
        self._running: dict[tuple[Peer, int], ObservedDump] = {}
        self._latest: dict[Peer, ObservedDump] = {}
        self._by_server: dict[tuple[bytes, int, bytes], ObservedDump] = {}

    def new_capture(self) -> None:
        """The batches that follow are from another capture, of the same dumps or others."""
        self._capture += 1
        for dump in self.dumps:
            dump.new_capture()

    def observe(self, batch: Batch) -> None:
        """Take one batch."""
        directions = self._directions.of(batch.flows)
        messages, acks, malformed, snapped = decode(batch, self._datagrams, directions)
        self.malformed += malformed
        self.snapped += snapped
        stretch = _Stretches(batch, self._datagrams, messages, acks)
        self._datagrams += len(batch)
        for marker in np.flatnonzero(messages.type != formats.VMCORE).tolist():
            self._observe_data(stretch, *stretch.up_to(marker))
            self._observe_marker(stretch, messages[marker : marker + 1])
        self._observe_data(stretch, *stretch.up_to(len(messages)))

    def finish(self) -> None:
        """No more comes: a HERALD that nothing followed is a dump of which nothing is here."""
        for peer, herald in self._heralds.items():
            if herald.late:
                self._latest[peer].herald(herald)
            elif (dump := self._begin(peer, formats.HERALD_PORT, herald.time)) is not None:
                dump.herald(herald)
        self._heralds.clear()

    def _observe_data(self, stretch: _Stretches, messages: Messages, acks: Acks) -> None:
        """VMCORE messages and acks without anything else between them."""
        taken = []
        for flow, rows in _by_flow(messages):
            dump = self._dump_of(stretch, rows, stretch.flows[flow])
            if dump is not None:
                taken.append((dump, rows))
        for flow, answers in _by_flow(acks):
            self._observe_acks(stretch.flows[flow], answers)
        for dump, rows in taken:
            dump.data(formats.VMCORE, stretch.buffer, rows)

    def _observe_marker(self, stretch: _Stretches, message: Messages) -> None:
        """A message of another type: rare, and in its place among the others."""
        kind = int(message.type[0])
        flow = stretch.flows[int(message.flow[0])]
        if kind == formats.HERALD:
            path = payload(stretch.buffer, message, 0)[:MAX_PATH].split(b"\0")[0]
            self._announce(_peer(flow), int(message.seqno[0]), path, stretch.time(message))
            return
        dump = self._dump_of(stretch, message, flow)
        if dump is None:
            return
        if kind == formats.FINISHED:
            dump.finish()
        else:
            dump.data(kind, stretch.buffer, message)

    def _observe_acks(self, flow: Flow, acks: Acks) -> None:
        peer = Peer(flow.destination, flow.dport, flow.source)
        dump = self._running.get((peer, flow.sport)) or self._by_server.get(
            (flow.source, flow.sport, flow.destination)
        )
        if dump is not None:
            dump.acked(acks)
        for announced, herald in self._heralds.items():
            ends = announced.client, announced.server
            if ends == (flow.destination, flow.source) and herald.seqno in acks.seqno:
                herald.ports.add(flow.sport)

    # Which dump a message belongs to

    def _announce(self, peer: Peer, seqno: int, path: bytes, time: float) -> None:
        known = self._heralds.get(peer)
        if known is not None:
            known.copies += 1
            return
        latest = self._latest.get(peer)
        late = (
            latest is not None
            and latest.capture == self._capture
            and not latest.finished_here
            and latest.transfer.heralded
            and (latest.first_seqno, latest.transfer.path) == (seqno, path)
        )
        self._heralds[peer] = Herald(seqno, path, time, late)
        if len(self._heralds) > MAX_HERALDS:
            self._heralds.popitem(last=False)

    def _dump_of(self, stretch: _Stretches, messages: Messages, flow: Flow) -> ObservedDump | None:
        """The dump that some messages of one flow belong to; begun now if they are its first."""
        peer = _peer(flow)
        dump = self._running.get((peer, flow.dport))
        herald = self._heralds.get(peer)
        if dump is None or (herald and self._restarts(dump, herald, messages)):
            dump = self._begin(peer, flow.dport, stretch.time(messages))
            if dump is None:
                self.refused += len(messages)
                return None
        elif herald and herald.ports and flow.dport not in herald.ports:
            herald = None
        if herald:
            dump.herald(self._heralds.pop(peer))
        dump.capture = self._capture
        dump.last_time = max(dump.last_time, stretch.time(messages, last=True))
        return dump

    def _restarts(self, dump: ObservedDump, herald: Herald, messages: Messages) -> bool:
        """Whether messages to a known port that follow another HERALD begin another dump."""
        if herald.ports and dump.server_port not in herald.ports:
            return False  # stragglers: the new dump goes elsewhere
        if dump.capture != self._capture:
            fixed_port = dump.server_port == formats.HERALD_PORT
            return fixed_port and herald.time > dump.last_time + REBOOT_TIME
        if int(messages.type[0]) == formats.FINISHED:
            return False
        back_at_start = dump.first_seqno is None or messages.seqno[0] <= dump.first_seqno + 1
        return dump.finished_here or (back_at_start and dump.bytes_here > RESEND_WINDOW)

    def _begin(self, peer: Peer, server_port: int, time: float) -> ObservedDump | None:
        if len(self.dumps) >= MAX_DUMPS:
            return None
        dump = ObservedDump(peer, server_port, self._capture, time)
        dump.store_in(self._storage_for(dump))
        self.dumps.append(dump)
        self._running[peer, server_port] = self._latest[peer] = dump
        self._by_server[peer.server, server_port, peer.client] = dump
        return dump


class _Stretches:
    """A batch's messages and acks, to be taken stretch by stretch."""

    def __init__(self, batch: Batch, first_order: int, messages: Messages, acks: Acks) -> None:
        self.buffer = batch.buffer
        self.flows = batch.flows
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

    def time(self, messages: Messages, last: bool = False) -> float:
        """When the first (or last) of some messages was captured."""
        return float(self._times[messages.order[-1 if last else 0] - self._first_order])


def _peer(flow: Flow) -> Peer:
    return Peer(flow.source, flow.sport, flow.destination)


def _by_flow(columns: Columns) -> Iterator[tuple[int, Columns]]:
    """The rows of each flow, in their order."""
    if not len(columns):
        return
    flow = columns.flow
    if (flow == flow[0]).all():
        yield int(flow[0]), columns
        return
    order = np.argsort(flow, kind="stable")
    edges = np.flatnonzero(np.diff(flow[order])) + 1
    for rows in np.split(order, edges):
        yield int(flow[rows[0]]), columns[rows]
