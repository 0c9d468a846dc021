# SPDX-License-Identifier: GPL-2.0-or-later
"""How much one message carries: less where large messages do not arrive.

A stock netdumpd answers no payload above 4096 bytes (PROTOCOL.md, "Faults of the reference
server"), and a way that is narrower than the frames sent, or loses fragments, lets a HERALD pass
and no data. Neither says so. So when nothing new is acked for a fifth of the patience, what
waits is to be cut into smaller messages, under new numbers. A server that only slept acks the
large ones when it wakes up, and one of them goes out again now and then, to ask: when any is
acked, messages are large again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ...wire import HEADER_SIZE

#: What netdumpd takes; what fits the usual MTU of 1500; what fits 1280 and 576, which all of IPv6
#: and of IPv4 take (RFC 8200, section 5; RFC 791).
SIZES = (4096, 1448, 1208, 524)

_FIRST_QUESTION = 1.0  # seconds
_MOST_BETWEEN = 64.0


class _Larger(NamedTuple):
    """Messages that were cut into smaller ones: their size, their numbers, one of them."""

    payload: int
    numbers: frozenset[int]
    message: memoryview


class MessageSize:
    """`payload` is the most that one message carries at this time."""

    def __init__(self, payload: int, patience: float) -> None:
        """`patience` is that with a silent server, in seconds."""
        self.payload = payload
        self._wait = patience / (len(SIZES) + 1)
        self._shrink_at = float("inf")
        self._larger: list[_Larger] = []  # the largest first
        self._ask_at = float("inf")
        self._between = _FIRST_QUESTION

    @property
    def deadline(self) -> float:
        """When to look again though nothing came."""
        return min(self._shrink_at, self._ask_at)

    def progress(self, now: float) -> None:
        """Something new was acked."""
        self._shrink_at = now + self._wait

    def due(self, now: float) -> bool:
        """Whether nothing new was acked for long enough to try with smaller messages."""
        if now < self._shrink_at:
            return False
        self._shrink_at = now + self._wait
        return True

    def shrink(self, waiting: dict[int, memoryview], now: float) -> bool:
        """These messages wait for their acks, by their numbers; whether they are to be cut
        again, and smaller. Otherwise they are small enough."""
        carried = {seqno: len(message) - HEADER_SIZE for seqno, message in waiting.items()}
        most = max(carried.values(), default=0)
        payload = next((size for size in SIZES if size < most), None)
        if payload is None:
            return False
        large = [seqno for seqno, size in carried.items() if size > payload]
        self._larger.append(_Larger(self.payload, frozenset(large), waiting[large[0]]))
        self.payload = payload
        self._ask_soon(now)
        return True

    def question(self, now: float) -> memoryview | None:
        """A large message that is to be sent again, to see whether it arrives now."""
        if now < self._ask_at:
            return None
        self._between = min(2 * self._between, _MOST_BETWEEN)
        self._ask_at = now + self._between
        return self._larger[-1].message

    def grows(self, seqnos: Sequence[int], now: float) -> bool:
        """Whether these acks, in which large messages may be, let messages be large again."""
        for place, larger in enumerate(self._larger):
            if not larger.numbers.isdisjoint(seqnos):
                self.payload = larger.payload
                del self._larger[place:]
                self._ask_soon(now)
                return True
        return False

    def _ask_soon(self, now: float) -> None:
        self._between = _FIRST_QUESTION
        self._ask_at = now + self._between if self._larger else float("inf")
