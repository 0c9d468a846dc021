# SPDX-License-Identifier: GPL-2.0-or-later
"""What sending a dump is, whatever the discipline.

window.py and kernel.py send; cut.py cuts a dump into messages for both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ...errors import NetdumpError, UsageError
from ...wire import Buffer

#: One poll of the kernel client, in seconds (netdump(4), net.netdump.polls).
POLL = 0.0005


class Burst(NamedTuple):
    """Datagrams to send: end to end in `data`, each of `size` bytes, the last may be shorter."""

    data: memoryview
    size: int
    port: int


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for the server, in the kernel's terms.

    The kernel sends what is not acked again after `polls` polls. It counts `retries` so that
    there are two transmissions more (PROTOCOL.md: 12 were seen for 10).
    """

    polls: int = 2000
    retries: int = 10

    def __post_init__(self) -> None:
        if self.polls < 1 or self.retries < 0:
            raise UsageError(f"no patience: {self.polls} polls and {self.retries} retries")

    @property
    def interval(self) -> float:
        """Seconds from one transmission to the next."""
        return self.polls * POLL

    @property
    def transmissions(self) -> int:
        """Transmissions of a message before the dump is given up."""
        return self.retries + 2

    @property
    def total(self) -> float:
        """Seconds without any answer after which the dump is given up."""
        return self.interval * self.transmissions


@dataclass(slots=True)
class Counters:
    """What a sender has done. `acknowledged`: bytes of the vmcore that the server has taken, by
    whole frames of messages; `acks`: messages of all kinds that it has, each counted once.
    `payload` is the most that a message carries now."""

    messages: int = 0
    retransmissions: int = 0
    acknowledged: int = 0
    round_trip: float = 0.0
    acks: int = 0
    payload: int = 0


class GaveUp(NetdumpError):
    """The server no longer answers; the first message without an ack tells how far it got.

    `kind` is that message's type, `offset` where its payload stands in the file.
    """

    def __init__(self, kind: int, offset: int) -> None:
        super().__init__(f"no ack for the message of type {kind} at byte {offset}: sent in vain")
        self.kind = kind
        self.offset = offset


class Sender(Protocol):
    """One dump on its way out. Bytes and the time go in, bursts come out.

    Times are seconds on any clock that never goes back.
    """

    counters: Counters

    @property
    def done(self) -> bool:
        """Whether FINISHED has been acked: all of the dump has."""

    def next_burst(self, now: float) -> Burst | None:
        """What to send at this moment, to be sent before the next call; None if nothing.

        GaveUp when the server's time is up.
        """

    def receive(self, payload: Buffer, port: int, now: float) -> None:
        """A datagram came from this port of the server."""

    def deadline(self) -> float:
        """When `next_burst` must be called again though nothing came."""
