# SPDX-License-Identifier: GPL-2.0-or-later
"""Transports around another one: over a bad network that is made up, and one that tells what
passes."""

from __future__ import annotations

from collections.abc import Callable

from ..core.sending.faults import Faults, Rates, Run
from ..formats import MESSAGE_TYPES
from ..text import counted
from ..wire import ACK_SIZE, HEADER_SIZE, Buffer, acks, messages
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


class TracedTransport:
    """Calls `tell` with a line for each burst that goes out and each payload that comes in."""

    def __init__(self, inner: Transport, tell: Callable[[str], None]) -> None:
        self.mtu_payload = inner.mtu_payload
        self.server = inner.server
        self._inner = inner
        self._tell = tell
        self._told = ""

    @property
    def trouble(self) -> str:
        return self._inner.trouble

    def send(self, datagrams: Buffer, size: int, port: int) -> None:
        self._tell(f"to port {port}: {_described(memoryview(datagrams), size)}")
        self._inner.send(datagrams, size, port)
        self._tell_trouble()

    def receive(self, timeout: float) -> list[tuple[bytes, int]]:
        received = self._inner.receive(timeout)
        for payload, port in received:
            seqnos = acks(payload)
            what = f"acks {', '.join(map(str, seqnos))}" if seqnos else f"{len(payload)} bytes"
            self._tell(f"from port {port}: {what}")
        self._tell_trouble()
        return received

    def close(self) -> None:
        self._inner.close()

    def _tell_trouble(self) -> None:
        if self.trouble != self._told:
            self._told = self.trouble
            self._tell(f"the network reports: {self._told}")


def _described(view: memoryview, size: int) -> str:
    """The messages of a burst, in a few words."""
    found = [
        message
        for start in range(0, len(view), size)
        for message in messages(view[start : start + size])
    ]
    if not found:
        return f"{len(view)} bytes that are no message"
    first, last = found[0], found[-1]
    offset = f"from byte {first.offset}, " if first.len else ""
    return (
        f"{counted(len(found), MESSAGE_TYPES[first.type] + ' message')}, number {first.seqno} to "
        f"{last.seqno}, {offset}{len(view) - len(found) * HEADER_SIZE} bytes"
    )
