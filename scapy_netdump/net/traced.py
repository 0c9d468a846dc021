# SPDX-License-Identifier: GPL-2.0-or-later
"""A transport that tells what passes: wraps another one. Imports its neighbours."""

from __future__ import annotations

from collections.abc import Callable

from ..formats import MESSAGE_TYPES
from ..text import counted
from ..wire import HEADER_SIZE, Buffer, acks, messages
from .transport import Transport


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
