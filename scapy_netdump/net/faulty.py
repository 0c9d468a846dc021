# SPDX-License-Identifier: GPL-2.0-or-later
"""A transport over a bad network that is made up: wraps another one. Imports its neighbours."""

from __future__ import annotations

from collections.abc import Callable

from ..core.sending.faults import Faults, Rates, Run
from ..wire import ACK_SIZE, Buffer
from .transport import Transport

#: Seconds that a datagram is held back if nothing comes that could overtake it.
_MOST_HELD = 0.005


class FaultyTransport:
    """Messages on their way out and acks on their way in suffer faults, each at those rates."""

    def __init__(self, inner: Transport, rates: Rates, chance: Callable[[], float]) -> None:
        self.out = Faults(rates, chance)
        self.back = Faults(rates, chance)
        self.mtu_payload = inner.mtu_payload
        self.server = inner.server
        self._inner = inner
        self._to = self._from = 0  # the ports of the latest message and of the latest ack

    @property
    def trouble(self) -> str:
        return self._inner.trouble

    def send(self, datagrams: Buffer, size: int, port: int) -> None:
        self._to = port
        self._pass_on(self.out.through(datagrams, size))

    def receive(self, timeout: float) -> list[tuple[bytes, int]]:
        held = self.out.held or self.back.held
        received = self._inner.receive(min(timeout, _MOST_HELD) if held else timeout)
        found: list[tuple[bytes, int]] = []
        for payload, self._from in received:
            runs = self.back.through(payload, ACK_SIZE)
            found += [(bytes(run.datagrams), self._from) for run in runs]
        if not received:
            self._pass_on(self.out.release())
            found += [(bytes(run.datagrams), self._from) for run in self.back.release()]
        return found

    def close(self) -> None:
        self._inner.close()

    def _pass_on(self, runs: list[Run]) -> None:
        """Send them in as few calls as their sizes allow."""
        joined: list[Buffer] = []
        size = 0
        for run in runs:
            if joined and (run.size != size or len(joined[-1]) % size):
                self._inner.send(b"".join(joined), size, self._to)
                joined = []
            size = run.size
            joined.append(run.datagrams)
        if joined:
            self._inner.send(b"".join(joined), size, self._to)
