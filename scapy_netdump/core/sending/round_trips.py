# SPDX-License-Identifier: GPL-2.0-or-later
"""How long an ack takes, and how long to wait for one: RFC 6298."""

from __future__ import annotations

#: The least time-out. A server may sleep in a disk write for longer than any round trip took.
MIN_TIMEOUT = 0.2
#: The same for the last messages of a dump, and once only: on a network that loses messages, this
#: is what most dumps would wait for in vain at their end.
MIN_LAST = 0.02


class RoundTrips:
    """The smoothed round trip, its variation, and the retransmission time-out from both.

    Feed it only messages that were sent once: the ack of one sent twice may answer either
    (Karn's rule). `longest` bounds the time-out, and is it before anything was measured.
    """

    __slots__ = ("_backoff", "_longest", "latest", "shortest", "smoothed", "variation")

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._backoff = 1
        self.latest = 0.0
        self.shortest = 0.0
        self.smoothed = 0.0
        self.variation = 0.0

    def measured(self, seconds: float) -> None:
        """One message and its ack took so long."""
        if not self.shortest:
            self.shortest = self.smoothed = seconds
            self.variation = seconds / 2
        else:
            self.shortest = min(self.shortest, seconds)
            self.variation += (abs(self.smoothed - seconds) - self.variation) / 4
            self.smoothed += (seconds - self.smoothed) / 8
        self.latest = seconds

    def answered(self) -> None:
        """Something new was acked: no more backing off."""
        self._backoff = 1

    def timed_out(self) -> None:
        """Nothing came in time: wait twice as long for the next."""
        if self.timeout < self._longest:
            self._backoff *= 2

    @property
    def timeout(self) -> float:
        """Seconds to wait for an ack before something is sent again."""
        if not self.shortest:
            return self._longest
        wait = max(MIN_TIMEOUT, self.smoothed + 4 * self.variation)
        return min(wait * self._backoff, self._longest)

    @property
    def last_timeout(self) -> float:
        """The same where no later message will tell of a loss (RFC 8985, 7.2): a probe that
        was not needed costs one message, so it is sent early, but not again and again."""
        if not self.shortest or self._backoff > 1:
            return self.timeout
        return min(self.timeout, max(MIN_LAST, 2 * self.smoothed + 4 * self.variation))
