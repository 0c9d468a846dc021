# SPDX-License-Identifier: GPL-2.0-or-later
"""Which flows are netdump, which way they go, and which of them are wanted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

import numpy as np

from ... import formats
from .batch import Batch, Flow, Ints
from .messages import Direction, heralds

#: Clients with a port of their own that are remembered; a hostile capture can hold
#: HERALDs from any number of addresses.
MAX_CLIENTS = 4096


@dataclass(frozen=True, slots=True)
class Selection:
    """The dumps that are wanted: packed addresses and a port, None for any: one of either side, or
    the one that its HERALD goes to.

    Where nothing else tells, the port is taken for the client's: so a dump is found whose
    HERALD was not captured and whose client does not use the usual port.
    """

    client: bytes | None = None
    server: bytes | None = None
    port: int | None = None

    def wants(self, flow: Flow, direction: Direction, heralded: int | None = None) -> bool:
        """Whether a flow that carries ``direction`` belongs to a wanted dump; ``heralded`` is the
        port that its client sent a HERALD to."""
        if self.port not in (None, flow.sport, flow.dport, heralded):
            return False
        ends = [(flow.source, flow.destination), (flow.destination, flow.source)]
        possible = {Direction.MESSAGES: ends[:1], Direction.ACKS: ends[1:], Direction.BOTH: ends}
        return any(
            self.client in (None, client) and self.server in (None, server)
            for client, server in possible.get(direction, [])
        )


class Directions:
    """Tells which way flows go, and learns clients' ports from their HERALDs."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._clients: OrderedDict[tuple[bytes, int], int] = OrderedDict()

    def of(self, flows: Sequence[Flow], heralds: Iterable[Flow] = ()) -> Ints:
        """A Direction for each flow of a batch; ``heralds`` are those that have HERALDs to another
        port than the usual one.

        A HERALD speaks for its sender's port in the whole batch: even datagrams that stand
        before it are from a netdump client.
        """
        self._learn((flow for flow in flows if flow.sport != formats.ACK_PORT), set(heralds))
        directions = (self._by_ports(flow) for flow in flows)
        return np.array(
            [
                way if self._selection.wants(flow, way, self._heralded(flow)) else Direction.NEITHER
                for flow, way in zip(flows, directions, strict=True)
            ],
            np.int64,
        )

    def _learn(self, flows: Iterable[Flow], heralds: Set[Flow]) -> None:
        working = []
        for flow in flows:
            client = flow.source, flow.sport
            if flow.dport == formats.HERALD_PORT or flow in heralds:
                self._clients.setdefault(client, flow.dport)
            elif client in self._clients:
                working.append(client)
        for client in working:  # a flood of HERALDs must not make these forgotten
            self._clients.move_to_end(client)
        while len(self._clients) > MAX_CLIENTS:
            self._clients.popitem(last=False)

    def _heralded(self, flow: Flow) -> int | None:
        """The port that the client of a flow sent its first HERALD to, if that is known."""
        return self._clients.get((flow.source, flow.sport)) or self._clients.get(
            (flow.destination, flow.dport)
        )

    def _by_ports(self, flow: Flow) -> Direction:
        if flow.dport == formats.HERALD_PORT:
            return Direction.MESSAGES
        if flow.sport == formats.HERALD_PORT:
            return Direction.ACKS
        from_client = self._is_client(flow.source, flow.sport)
        to_client = self._is_client(flow.destination, flow.dport)
        if not (from_client or to_client):
            from_client = flow.sport == self._selection.port
            to_client = flow.dport == self._selection.port
        if from_client and to_client:
            return Direction.BOTH
        if from_client:
            return Direction.MESSAGES
        return Direction.ACKS if to_client else Direction.NEITHER

    def _is_client(self, address: bytes, port: int) -> bool:
        return port == formats.ACK_PORT or (address, port) in self._clients


def odd_heralds(batch: Batch) -> list[Flow]:
    """The flows of a batch with HERALDs to another port than the usual one, from another."""
    odd = [
        number
        for number, flow in enumerate(batch.flows)
        if flow.sport != formats.ACK_PORT
        and flow.dport not in (formats.ACK_PORT, formats.HERALD_PORT)
    ]
    if not odd:
        return []
    rows = np.flatnonzero(np.isin(batch.flow, odd))
    found = heralds(batch.buffer, batch.start[rows], batch.captured[rows], batch.length[rows])
    return [batch.flows[number] for number in np.unique(batch.flow[rows[found]]).tolist()]
