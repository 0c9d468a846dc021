# SPDX-License-Identifier: GPL-2.0-or-later
"""Which dump a message belongs to, in one capture.

A dump is known by its client, its server and the port that the server took for it; a
HERALD announces one, but a dump whose HERALD was not captured is taken up all the same.
Which of what several captures show is one dump is told when all has been read (sightings.py).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from ... import formats
from .batch import Flow
from .conversation import Conversation
from .heralds import Herald, Heralds, Peer
from .messages import Acks
from .observed_dump import ObservedDump
from .stretch import Stretch
from .watcher import Watcher

#: Bounds on what a hostile capture can make us keep.
MAX_DUMPS = 4096
MAX_EARLY = 64


class Attribution:
    """Finds the dump of each message of a capture. ``stray`` counts messages that no server
    would take, ``refused`` those of dumps that there was no place for."""

    def __init__(
        self,
        capture: int,
        began: Callable[[ObservedDump], bool],
        watcher: Watcher | None,
    ) -> None:
        """``capture`` is its number. ``began`` is told of each dump; False if there are too many
        already."""
        self.stray = 0
        self._capture = capture
        self._began = began
        self._watcher = watcher
        self._heralds = Heralds()
        self._conversations: dict[tuple[Peer, int], Conversation] = {}
        self._latest: dict[Peer, Conversation] = {}
        self._acked_by: dict[tuple[bytes, int, bytes], Conversation] = {}
        self._early: OrderedDict[tuple[bytes, int, bytes], Stretch] = OrderedDict()
        self._refused = 0

    @property
    def refused(self) -> int:
        """Messages of dumps that there was no place for."""
        return self._refused + sum(
            conversation.refused for conversation in self._conversations.values()
        )

    def announce(self, flow: Flow, seqno: int, path: bytes, time: float, place: int) -> None:
        """A HERALD: what it announces begins with the next message that does not belong to
        a dump which is known."""
        peer = peer_of(flow)
        latest = self._latest.get(peer)
        waiting = self._heralds.get(peer)
        if waiting is None and latest is not None:
            waiting = latest.herald_copied_at(time)
        if waiting is not None:
            waiting.copies += 1
            return
        if latest is not None:
            latest.decide()
        dump = latest.dump if latest is not None and not latest.finished else None
        repeated = dump is not None and dump.announced_as((seqno, path))
        self._heralds.add(peer, Herald(seqno, path, time, place, repeated))

    def acked(self, flow: Flow, acks: Acks) -> None:
        """Acks: those to HERALDs tell where dumps go."""
        self._heralds.acked(flow, acks)

    def acked_by(self, flow: Flow) -> Conversation | None:
        """Where what is acked was sent."""
        peer = Peer(flow.destination, flow.dport, flow.source)
        found = self._conversations.get((peer, flow.sport))
        return found or self._acked_by.get((flow.source, flow.sport, flow.destination))

    def acked_early(self, flow: Flow, stretch: Stretch) -> None:
        """Acks of messages that were sent before the capture began: of them the latest are kept
        until the client sends more."""
        self._early[flow.source, flow.sport, flow.destination] = stretch.kept()
        while len(self._early) > MAX_EARLY:
            self._early.popitem(last=False)

    def conversation(self, flow: Flow, kind: int, stretch: Stretch) -> Conversation | None:
        """Where messages of a type belong, None if they are stray. A HERALD that waited may have
        announced what they begin."""
        peer, port = peer_of(flow), flow.dport
        found = self._conversations.get((peer, port))
        herald = self._heralds.get(peer)
        first = int(stretch.messages.order[0])
        if (found is None or found.dump is None) and self._is_stray(flow, herald, first):
            self.stray += len(stretch)
            return None
        if found is None:
            if len(self._conversations) >= MAX_DUMPS:
                self._refused += len(stretch)
                return None
            found = Conversation(peer, port, self._begin, self._watcher)
            self._conversations[peer, port] = found
            self._acked_by[peer.server, port, peer.client] = found
            early = self._early.pop((peer.server, port, peer.client), None)
            if early is not None:
                found.take(early)
        over = found.finished and kind == formats.FINISHED
        if herald is not None and not over and not herald.led_elsewhere(port, first):
            self._heralds.remove(peer)
            found.herald = herald
            self._latest[peer] = found
        return found

    def finish(self) -> None:
        """The capture ends. A HERALD that nothing followed announced a dump of which nothing is
        here, or one that another capture shows, or it is a copy."""
        for conversation in list(self._conversations.values()):
            conversation.finish()
        for peer, herald in self._heralds:
            dump = ObservedDump(
                peer, formats.HERALD_PORT, herald.time,
                seqno=herald.seqno, capture=self._capture, place=herald.place,
            )  # fmt: skip
            latest = self._latest.get(peer)
            if herald.repeated and latest is not None and latest.dump is not None:
                dump.may_be(latest.dump, 0)
            if self._began(dump):
                dump.herald(herald)

    def _is_stray(self, flow: Flow, herald: Herald | None, first: int) -> bool:
        """Whether messages went to the HERALD port although the client's dump goes elsewhere:
        there a server takes nothing but HERALDs."""
        if flow.dport != formats.HERALD_PORT:
            return False
        if herald is not None and herald.answers:
            return herald.led_elsewhere(formats.HERALD_PORT, first)
        return peer_of(flow) in self._latest

    def _begin(
        self, conversation: Conversation, time: float, seqno: int, place: int
    ) -> ObservedDump | None:
        peer, port = conversation.peer, conversation.port
        dump = ObservedDump(peer, port, time, seqno=seqno, capture=self._capture, place=place)
        if not self._began(dump):
            return None
        self._latest[peer] = conversation
        self._acked_by[peer.server, port, peer.client] = conversation
        return dump


def peer_of(flow: Flow) -> Peer:
    """The client and server of a flow of messages."""
    return Peer(flow.source, flow.sport, flow.destination)
