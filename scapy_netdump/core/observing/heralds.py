# SPDX-License-Identifier: GPL-2.0-or-later
"""HERALDs whose dumps have not begun yet."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from ..identity import Words
from .batch import Flow
from .messages import Acks

#: Bounds on what a hostile capture can make us keep.
MAX_HERALDS = 4096
MAX_ANSWERS = 8


class Peer(NamedTuple):
    """A client on its way to a server, addresses packed. The server's port is not part of
    it: the server picks one anew for each dump."""

    client: bytes
    client_port: int
    server: bytes


@dataclass(slots=True)
class Herald:
    """One HERALD, and its copies.

    ``path`` is undecoded and without its NUL, ``time`` in seconds since 1970, ``place`` the
    number of its datagram in the capture. ``repeated``: an unfinished dump of this client had
    been announced in the same words. ``answers``: the ports that it was acked from, each with
    the place of the first ack.
    """

    seqno: int
    path: bytes
    time: float
    place: int
    repeated: bool
    copies: int = 1
    answers: dict[int, int] = field(default_factory=dict)

    @property
    def words(self) -> Words:
        """What it says."""
        return self.seqno, self.path

    def led_elsewhere(self, port: int, before: int) -> bool:
        """Whether acks before a place say that the dump goes to other ports than this."""
        ports = [answered for answered, order in self.answers.items() if order < before]
        return bool(ports) and port not in ports


class Heralds:
    """The HERALDs that wait for their dumps, one a peer; the oldest go when there are too
    many, which costs their dumps no more than the path."""

    def __init__(self) -> None:
        self._count = 0
        self._waiting: OrderedDict[tuple[bytes, bytes], dict[int, Herald]] = OrderedDict()

    def __iter__(self) -> Iterator[tuple[Peer, Herald]]:
        for (client, server), by_port in self._waiting.items():
            for port, herald in by_port.items():
                yield Peer(client, port, server), herald

    def get(self, peer: Peer) -> Herald | None:
        """The one of a peer."""
        return self._waiting.get((peer.client, peer.server), {}).get(peer.client_port)

    def add(self, peer: Peer, herald: Herald) -> None:
        """Have one wait; there is none of this peer."""
        self._waiting.setdefault((peer.client, peer.server), {})[peer.client_port] = herald
        self._count += 1
        while self._count > MAX_HERALDS:
            _, oldest = self._waiting.popitem(last=False)
            self._count -= len(oldest)

    def remove(self, peer: Peer) -> None:
        """The one of a peer waits no more."""
        ends = peer.client, peer.server
        del self._waiting[ends][peer.client_port]
        self._count -= 1
        if not self._waiting[ends]:
            del self._waiting[ends]

    def acked(self, flow: Flow, acks: Acks) -> None:
        """Acks to a client, at whatever port: a server may send all of them to 20024."""
        for herald in self._waiting.get((flow.destination, flow.source), {}).values():
            if flow.sport not in herald.answers and len(herald.answers) < MAX_ANSWERS:
                places = acks.order[acks.seqno == herald.seqno]
                if len(places):
                    herald.answers[flow.sport] = int(places[0])
