# SPDX-License-Identifier: GPL-2.0-or-later
"""FreeBSD's way to send a dump: debugnet_send() in sys/net/debugnet.c.

A chunk of at most 64 KiB goes out at once and must be acked whole before the next one. What
is not acked after `polls` polls goes out again under the same sequence numbers. (The kernel
also sleeps one poll behind each chunk, because it polls its driver; this does not.)
"""

from __future__ import annotations

from collections.abc import Sequence

from ...formats import FINISHED, HERALD, HERALD_PORT, VMCORE
from ...wire import ACK_SIZE, Buffer, acks
from .cut import Dump, Frame, Frames
from .sender import Burst, Counters, GaveUp, Patience

#: MAXDUMPPGS, the kernel's buffer for contiguous data (PROTOCOL.md: up to 64 KiB).
CHUNK = 1 << 16

#: The ack bitmap is made with `1 << n`, an int: n counts modulo its 32 bits.
_BITS_OF_INT = 32


class KernelSender:
    """Sends like the kernel client.

    With `ack_bug` also its fault: an ack for message n of a chunk stands for n+32 and n-32 as
    well, so that on a lossy network a dump is finished with holes in it (PROTOCOL.md).
    """

    def __init__(
        self,
        dump: Dump,
        path: bytes,
        payload: int,
        patience: Patience,
        *,
        herald_port: int = HERALD_PORT,
        ack_bug: bool = False,
    ) -> None:
        self.counters = Counters(payload=payload)
        self._patience = patience
        self._ack_bug = ack_bug
        self._source = Frames(dump, path, payload)
        self._herald_port = herald_port
        self._port = herald_port  # then the one from which the server has answered
        self._chunk: Frame | None = None
        self._unacked: set[int] = set()
        self._transmissions = 0
        self._timeout = 0.0
        self._done = False

    @property
    def done(self) -> bool:
        return self._done

    def deadline(self) -> float:
        return self._timeout

    def next_burst(self, now: float) -> Burst | None:
        if self._done:
            return None
        if not self._unacked:
            return self._next_chunk(now)
        if now < self._timeout:
            return None
        return self._again(now)

    def receive(self, payload: Buffer, port: int, now: float) -> None:
        """Acks. Until the HERALD's own has come, any sets the server's port (PROTOCOL.md)."""
        chunk = self._chunk
        if chunk is None or not len(payload) or len(payload) % ACK_SIZE:
            return
        if chunk.kind == HERALD:
            self._port = port
        elif port != self._port:
            return
        before = len(self._unacked)
        for seqno in acks(payload):
            self._unacked.difference_update(self._acked_by(seqno, chunk))
        self.counters.acks += before - len(self._unacked)
        if not self._unacked:
            self._finish(chunk)

    def _acked_by(self, seqno: int, chunk: Frame) -> Sequence[int]:
        """The messages of the chunk that an ack stands for."""
        if not chunk.first <= seqno < chunk.after:
            return ()
        if not self._ack_bug:
            return (seqno,)
        lowest = chunk.first + (seqno - chunk.first) % _BITS_OF_INT
        return range(lowest, chunk.after, _BITS_OF_INT)

    def _finish(self, chunk: Frame) -> None:
        if chunk.kind == VMCORE:
            self.counters.acknowledged += chunk.payload
        self._done = chunk.kind == FINISHED
        self._chunk = None

    def _next_chunk(self, now: float) -> Burst | None:
        chunk = self._source.next(CHUNK)
        if chunk is None:
            return None
        self._chunk = chunk
        self._unacked = set(range(chunk.first, chunk.after))
        self._transmissions = 1
        self._timeout = now + self._patience.interval
        self.counters.messages += len(chunk)
        return Burst(chunk.data, chunk.size, self._to(chunk))

    def _again(self, now: float) -> Burst:
        """What is not acked of the chunk, all of it, under the same numbers."""
        chunk = self._chunk
        assert chunk is not None
        rest = sorted(self._unacked)
        if self._transmissions == self._patience.transmissions:
            raise GaveUp(chunk.kind, chunk.offset_of(rest[0]))
        self._transmissions += 1
        self._timeout = now + self._patience.interval
        self.counters.retransmissions += len(rest)
        data = b"".join(map(chunk.message, rest))
        return Burst(memoryview(data), chunk.size, self._to(chunk))

    def _to(self, chunk: Frame) -> int:
        return self._herald_port if chunk.kind == HERALD else self._port
