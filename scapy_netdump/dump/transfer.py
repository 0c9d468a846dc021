# SPDX-License-Identifier: GPL-2.0-or-later
"""How a dump came over the network, as captures show it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..core.extents import Range
from ..core.observing.disputes import Prefer
from ..core.observing.observed_dump import ObservedDump
from ..store.hosts import address_text


@dataclass(frozen=True, slots=True)
class Transfer:
    """Who sent a dump to whom, and what became of its messages on the way.

    Times are in seconds since 1970. ``path`` is the HERALD's. ``retransmitted`` counts messages
    that brought nothing new in the capture that showed them, ``conflicting_bytes`` bytes that
    were seen with different values; ``conflicts`` are the ranges of the vmcore file that they
    are in, ``preferred`` tells which values were kept: those acked first, the first or the last.
    ``filled_bytes`` is how many an older, incomplete copy of the dump lacked, None if there was
    none.
    """

    client: str
    client_port: int
    server: str
    server_port: int
    path: str
    heralded: bool
    finished: bool
    messages: int
    retransmitted: int
    conflicting_bytes: int
    conflicts: list[Range]
    preferred: str
    filled_bytes: int | None
    first_time: float
    last_time: float

    @classmethod
    def of(cls, dump: ObservedDump, prefer: Prefer, filled: int | None = None) -> Transfer:
        """What captures show of a dump of which no more comes."""
        account = dump.account
        return cls(
            client=address_text(dump.peer.client),
            client_port=dump.peer.client_port,
            server=address_text(dump.peer.server),
            server_port=dump.server_port,
            path=account.path.decode(errors="backslashreplace"),
            heralded=account.heralded,
            finished=account.finished,
            messages=dump.messages,
            retransmitted=dump.retransmitted,
            conflicting_bytes=account.conflicting_bytes,
            conflicts=account.conflicts.ranges(),
            preferred=prefer.value,
            filled_bytes=filled,
            first_time=dump.first_time,
            last_time=dump.last_time,
        )

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)
