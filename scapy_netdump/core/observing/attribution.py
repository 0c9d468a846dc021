# SPDX-License-Identifier: GPL-2.0-or-later
"""Which dump a message belongs to: in one capture, and from one capture to the next.

A dump is known by its client, its server and the port that the server took for it; a
HERALD announces one, but a dump whose HERALD was not captured is taken up all the same.
Imports only its neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ... import formats
from .batch import Flow, Storage
from .disputes import Prefer
from .heralds import Herald, Heralds, Peer
from .messages import Acks
from .observed_dump import ObservedDump

#: Bound on what a hostile capture can make us keep.
MAX_DUMPS = 4096

#: A client resends from the stretch that it has in flight. One that goes back to its
#: first message after more bytes than this has begun another dump (the kernel: 64 KiB).
RESEND_WINDOW = 1 << 20

#: Two dumps of one client are at least a reboot apart where nothing else tells them
#: apart, and the clocks of two capturing hosts are expected to agree better. Seconds.
REBOOT_TIME = 60.0


class Stretch(NamedTuple):
    """Messages of one flow, without a HERALD among them: when they came, in seconds since
    1970, the place, type and sequence number of the first, and how many ``messages`` they are."""

    flow: Flow
    first_time: float
    last_time: float
    order: int
    type: int
    seqno: int
    messages: int


class Attribution:
    """Finds each message's dump. ``dumps`` lists them as they appeared; ``refused`` counts
    messages of dumps beyond MAX_DUMPS, ``stray`` those that no server would take."""

    def __init__(self, storage_for: Callable[[ObservedDump], Storage], prefer: Prefer) -> None:
        self.dumps: list[ObservedDump] = []
        self.refused = 0
        self.stray = 0
        self._storage_for = storage_for
        self._prefer = prefer
        self._capture = 0
        self._heralds = Heralds()
        self._of_peer: dict[Peer, list[ObservedDump]] = {}
        self._running: dict[tuple[Peer, int], ObservedDump] = {}  # in this capture
        self._latest: dict[Peer, ObservedDump] = {}  # in this capture
        self._acked_by: dict[tuple[bytes, int, bytes], ObservedDump] = {}

    def new_capture(self) -> None:
        """What follows was captured elsewhere, or later."""
        for peer, herald in self._heralds:
            if herald.repeated and peer in self._latest:
                self._latest[peer].herald(herald)
                herald.counted()
        self._capture += 1
        self._running.clear()
        self._latest.clear()
        for dump in self.dumps:
            dump.new_capture()

    def announce(self, flow: Flow, seqno: int, path: bytes, time: float) -> None:
        """A HERALD: what it announces begins with the next message that does not belong to
        a dump which is known."""
        peer = peer_of(flow)
        waiting = self._heralds.get(peer)
        if waiting is not None:
            waiting.again(self._capture)
            return
        latest = self._latest.get(peer)
        repeated = (
            latest is not None and not latest.finished_here and latest.announced_as(seqno, path)
        )
        self._heralds.add(peer, Herald(seqno, path, time, self._capture, repeated))

    def acked(self, flow: Flow, acks: Acks) -> None:
        """Acks: those to HERALDs tell where dumps go."""
        self._heralds.acked(flow, acks)

    def dump_acked_by(self, flow: Flow) -> ObservedDump | None:
        """The dump that acks belong to."""
        peer = Peer(flow.destination, flow.dport, flow.source)
        running = self._running.get((peer, flow.sport))
        return running or self._acked_by.get((flow.source, flow.sport, flow.destination))

    def dump_of(self, stretch: Stretch) -> ObservedDump | None:
        """The dump that messages belong to, begun now if they are its first; None if there
        are too many dumps already."""
        peer, port = peer_of(stretch.flow), stretch.flow.dport
        dump = self._running.get((peer, port))
        herald = self._heralds.get(peer)
        if dump is None and self._is_stray(peer, herald, stretch):
            self.stray += stretch.messages
            return None
        if herald is not None and _is_straggler(dump, herald, stretch):
            herald = None
        if dump is None or (herald is not None and _restarts(dump, herald, stretch)):
            dump = self._take_up(peer, port, stretch.first_time, herald)
        if dump is None:
            self.refused += stretch.messages
            return None
        if herald is not None:
            dump.herald(herald)
            self._heralds.remove(peer)
        dump.seen(stretch.first_time, stretch.last_time)
        return dump

    def _is_stray(self, peer: Peer, herald: Herald | None, stretch: Stretch) -> bool:
        """Whether messages went to the HERALD port although the client's dump goes elsewhere:
        there a server takes nothing but HERALDs."""
        if stretch.flow.dport != formats.HERALD_PORT:
            return False
        if herald is not None and herald.answers:
            return herald.led_elsewhere(formats.HERALD_PORT, stretch.order)
        return peer in self._latest

    def finish(self) -> None:
        """No more comes: a HERALD that nothing followed is a copy, or announced a dump of
        which nothing is here."""
        for peer, herald in self._heralds:
            if not herald.copies:
                continue
            dump = self._announced_before(peer, herald) or self._take_up(
                peer, formats.HERALD_PORT, herald.time, herald
            )
            if dump is not None:
                dump.herald(herald)
        self._heralds = Heralds()

    def _take_up(
        self, peer: Peer, port: int, time: float, herald: Herald | None
    ) -> ObservedDump | None:
        """The dump that an earlier capture showed there, else a new one."""
        dump = self._shown_before(peer, port, time, herald)
        if dump is None:
            if len(self.dumps) >= MAX_DUMPS:
                return None
            dump = ObservedDump(peer, port, time)
            dump.store_in(self._storage_for(dump), self._prefer)
            self.dumps.append(dump)
            self._of_peer.setdefault(peer, []).append(dump)
        dump.capture = self._capture
        self._running[peer, port] = self._latest[peer] = dump
        self._acked_by[peer.server, port, peer.client] = dump
        return dump

    def _shown_before(
        self, peer: Peer, port: int, time: float, herald: Herald | None
    ) -> ObservedDump | None:
        """The dump of an earlier capture that was nearest in time. A port taken for one
        dump tells it from any other, but a server may answer all from the HERALD port."""
        dumps = [
            dump
            for dump in self._of_peer.get(peer, [])
            if dump.server_port == port and dump.capture != self._capture
        ]
        if herald is not None and port == formats.HERALD_PORT:
            dumps = [dump for dump in dumps if _may_begin(dump, time)]
        return min(dumps, key=lambda dump: dump.distance(time), default=None)

    def _announced_before(self, peer: Peer, herald: Herald) -> ObservedDump | None:
        """The dump that a HERALD without messages announced: one that is running, or one
        that another capture showed."""
        if herald.repeated and peer in self._latest:
            return self._latest[peer]
        dumps = [
            dump
            for dump in self._of_peer.get(peer, [])
            if dump.capture != herald.capture
            and _may_begin(dump, herald.time)
            and (not dump.account.heralded or dump.announced_as(herald.seqno, herald.path))
        ]
        return min(dumps, key=lambda dump: dump.distance(herald.time), default=None)


def peer_of(flow: Flow) -> Peer:
    """The client and server of a flow of messages."""
    return Peer(flow.source, flow.sport, flow.destination)


def _may_begin(dump: ObservedDump, time: float) -> bool:
    """Whether a HERALD of this time may be a dump's: if its own is not known, it may have
    begun any time before."""
    unknown = not dump.account.heralded and time < dump.first_time
    return unknown or dump.distance(time) <= REBOOT_TIME


def _is_straggler(dump: ObservedDump | None, herald: Herald, stretch: Stretch) -> bool:
    """Whether messages that follow a HERALD are surely not of the dump that it announced."""
    over = dump is not None and dump.finished_here and stretch.type == formats.FINISHED
    return over or herald.led_elsewhere(stretch.flow.dport, stretch.order)


def _restarts(dump: ObservedDump, herald: Herald, stretch: Stretch) -> bool:
    """Whether messages to the port of a running dump that follow another HERALD begin
    another dump, rather than the HERALD being a late copy."""
    if herald.time > dump.last_time + REBOOT_TIME:
        return True
    if stretch.type == formats.FINISHED:  # whatever its number is
        return False
    back_at_start = dump.first_seqno is None or stretch.seqno <= dump.first_seqno + 1
    return dump.finished_here or (back_at_start and dump.bytes_here > RESEND_WINDOW)
