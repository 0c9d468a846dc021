# SPDX-License-Identifier: GPL-2.0-or-later
"""What a dump server takes from whom: bounds on hostile or broken clients."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from ..extents import Extents
from ..identity import LONGEST_PAUSE

Network: TypeAlias = IPv4Network | IPv6Network

_GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Sizes in bytes, times in seconds.

    ``dump_size``: the end of the last byte of a vmcore. ``jump``: how far beyond the highest
    byte that is here one may be written; dumps come more or less in order. ``ranges``: how
    many separate ranges of a vmcore may be here; one message costs as many looks at most.
    ``other``: how many bytes are kept of second versions of bytes that are here. ``in_flight``:
    how much a client sends before it waits for acks (the kernel: 64 KiB); behind that it does
    not send its first message again. ``clients``: how many may dump at once; as many finished
    dumps linger at most, and as many wait to be filed. ``heralds``: how many new dumps may begin
    in a second, a quarter of them from one address. ``allow``: the networks that clients may be
    in; none for anywhere. ``expiry``: a
    client that is silent for this long has died (netdumpd: 600). ``linger``: for how long
    repeated messages of a finished dump are acked again.
    """

    dump_size: int = 1024 * _GIB
    jump: int = 64 * _GIB
    ranges: int = 1 << 11
    other: int = 16 << 20
    in_flight: int = 1 << 16
    clients: int = 128
    heralds: float = 64.0
    allow: tuple[Network, ...] = ()
    expiry: float = LONGEST_PAUSE
    linger: float = 30.0

    def allows(self, address: str) -> bool:
        """Whether a client at this address may dump."""
        if not self.allow:
            return True
        client = ip_address(address.partition("%")[0])
        return any(client in network for network in self.allow)

    def forbids(self, start: int, end: int, here: Extents, queued: int) -> str:
        """Why ``[start, end)`` of a vmcore may not be written, nothing if it may: ``here`` is what
        is here of it, and what is about to be written goes up to ``queued``."""
        if end > self.dump_size:
            return f"the dump is larger than {self.dump_size} bytes"
        if start - max(here.end, queued) > self.jump:
            return f"an offset leaps by more than {self.jump} bytes"
        if len(here) >= self.ranges and not here.overlaps(start - 1, end + 1):
            return f"what came is in more than {self.ranges} ranges"
        return ""


def networks(texts: list[str]) -> tuple[Network, ...]:
    """Networks (``192.0.2.0/24``) or single addresses from text; ValueError if one is none."""
    return tuple(ip_network(text) for text in texts)


class Rate:
    """At most ``limit`` things a second, and as many at once after a pause."""

    __slots__ = ("_last", "_left", "_limit")

    def __init__(self, limit: float) -> None:
        self._limit = self._left = max(1.0, limit)
        self._last = 0.0

    def take(self, now: float) -> bool:
        """Count one; False if it is one too many."""
        self._left = min(self._limit, self._left + max(0.0, now - self._last) * self._limit)
        self._last = now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


class Rates:
    """At most ``limit`` things a second, of which no address has more than its part."""

    #: Its part, and the addresses that are kept apart.
    PART = 0.25
    MOST = 1024

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._all = Rate(limit)
        self._each: dict[str, Rate] = {}

    def take(self, address: str, now: float) -> bool:
        """Count one; False if it is one too many."""
        rate = self._each.pop(address, None) or Rate(self._limit * self.PART)
        self._each[address] = rate  # the last of all
        if len(self._each) > self.MOST:
            del self._each[next(iter(self._each))]
        return rate.take(now) and self._all.take(now)
