# SPDX-License-Identifier: GPL-2.0-or-later
"""A bad network, on purpose.

The same numbers from `chance` make the same faults. What an Ethernet or UDP checksum would
catch is not imitated by changed payloads, which would arrive: a damaged datagram is one that
no server and no client can take for a message or an ack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ...errors import UsageError
from ...wire import HEADER_SIZE, Buffer

#: A datagram that is held back is overtaken by one to so many others.
_MOST_OVERTAKING = 8


class Run(NamedTuple):
    """Datagrams end to end, each of `size` bytes but the last, which may be shorter."""

    datagrams: Buffer
    size: int


@dataclass(frozen=True, slots=True)
class Rates:
    """How many datagrams of all, from 0 to 1, suffer each fault; one has one fault at most."""

    loss: float = 0.0
    reorder: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0

    def __post_init__(self) -> None:
        each = (self.loss, self.reorder, self.duplicate, self.corrupt)
        if not all(0 <= rate <= 1 for rate in each):
            raise UsageError(f"a rate of faults is from 0 to 1, not {each}")
        if self.total > 1:
            raise UsageError(
                "a datagram suffers one fault at most: the rates add up to more than 1"
            )

    def __bool__(self) -> bool:
        return self.total > 0

    @property
    def total(self) -> float:
        """How many have any fault."""
        return self.loss + self.reorder + self.duplicate + self.corrupt


class Faults:
    """One direction of a link. `chance` gives numbers from 0 up to 1, such as random.random.

    The counters say how many datagrams were dropped and so on.
    """

    def __init__(self, rates: Rates, chance: Callable[[], float]) -> None:
        self.rates = rates
        self.dropped = self.reordered = self.duplicated = self.corrupted = 0
        self._chance = chance
        self._passed = 0  # datagrams that came so far
        self._held: list[tuple[int, bytes]] = []  # until so many have come

    def through(self, datagrams: Buffer, size: int) -> list[Run]:
        """What comes out at the other end, in this order, of datagrams end to end, each of
        `size` bytes but the last, which may be shorter."""
        view = memoryview(datagrams)
        total, chance = self.rates.total, self._chance
        fates = [chance() for _ in range(0, len(view), size)]
        out: list[Run] = []
        start = 0  # of those that are not yet out
        before = self._passed
        places: Iterable[int] = range(len(fates))
        if not self._held and not self.rates.reorder:  # then nothing happens between the faulty
            places = [place for place, fate in enumerate(fates) if fate < total]
        for place in places:
            self._passed = before + place
            at, fate = place * size, fates[place]
            faulty = fate < total
            due = self._due() if self._held else []
            if faulty or due:
                out += [Run(view[start:at], size)] if start < at else []
                out += due
                out += self._faulty(view[at : at + size], fate) if faulty else []
                start = at + size if faulty else at
        self._passed = before + len(fates)
        return [*out, Run(view[start:], size)] if start < len(view) else out

    @property
    def held(self) -> int:
        """How many datagrams are held back."""
        return len(self._held)

    def release(self) -> list[Run]:
        """What is held back, when nothing comes that could overtake it."""
        held = [Run(datagram, len(datagram)) for _, datagram in self._held]
        self._held.clear()
        return held

    def _due(self) -> list[Run]:
        """What has been held back for long enough."""
        due = [Run(datagram, len(datagram)) for at, datagram in self._held if at <= self._passed]
        if due:
            self._held = [held for held in self._held if held[0] > self._passed]
        return due

    def _faulty(self, datagram: memoryview, fate: float) -> list[Run]:
        rates = self.rates
        if fate < rates.loss:
            self.dropped += 1
            return []
        if fate < rates.loss + rates.reorder:
            self.reordered += 1
            others = 2 + int(self._chance() * _MOST_OVERTAKING)
            self._held.append((self._passed + others, bytes(datagram)))
            return []
        if fate < rates.total - rates.corrupt:
            self.duplicated += 1
            return [Run(datagram, len(datagram))] * 2
        self.corrupted += 1
        damaged = self._damaged(bytes(datagram))
        return [Run(damaged, len(damaged))]

    def _damaged(self, datagram: bytes) -> bytes:
        """Cut short, or with a type or a length that cannot be."""
        how = self._chance()
        if how < 1 / 3 or len(datagram) < HEADER_SIZE:
            return datagram[: int(self._chance() * len(datagram)) // 4 * 4 + 1]
        if how < 2 / 3:
            return bytes([1 + int(self._chance() * 255)]) + datagram[1:]  # the type's first byte
        return datagram[:16] + bytes([1 + int(self._chance() * 255)]) + datagram[17:]  # len's
