# SPDX-License-Identifier: GPL-2.0-or-later
"""How many messages may be on their way at once.

A dump server has a receive buffer, and what does not fit is lost: a stock netdumpd has
128 KiB, and falls to 1 MB/s when it overflows (PROTOCOL.md). A network may lose messages
for reasons of its own, which sending less does not mend. So a few losses only stop the growth,
unless messages were waiting at the server; many in one round let it send less in any case.
"""

from __future__ import annotations

from .round_trips import RoundTrips

#: 64 messages of the usual 1448 bytes: what a stock netdumpd's buffer has room for.
_START_BYTES = 64 * 1472
#: As little as this is sent at once, whatever happens; less would only wait for time-outs.
_MIN_BYTES = 32 * 1472
_MIN = 8
_MAX = 4096
#: Messages in a round at least: fewer tell nothing of how many get lost.
_ROUND = 64
#: The share of messages lost in a round that is too much, unless that many always are; and one
#: that is too little for a buffer that overflows.
_MUCH = 1 / 8
_LITTLE = 1 / 16
#: Rounds without loss before the window grows again, at most: twice as many each time that it had
#: to shrink.
_MOST_ROUNDS = 64


class WindowSize:
    """`messages` is the window. It changes once a round, which is a window's worth of messages
    that were acked or lost."""

    def __init__(self, datagram: int, round_trips: RoundTrips) -> None:
        self._least = max(1, min(_MIN, _MIN_BYTES // datagram))
        self.messages = self._start = max(self._least, _START_BYTES // datagram)
        self._round_trips = round_trips
        self._acked = 0
        self._lost = 0
        self._wait = 1  # rounds without loss before the next growth
        self._clean = 0
        self._usual = 0.0  # share of messages that gets lost however few are sent
        self._before = (0, 0.0)  # the window before it shrank, and the share lost then
        self._settling = False  # the round still tells of a larger window

    def acked(self, count: int) -> None:
        """So many messages arrived."""
        self._acked += count
        if self._acked + self._lost >= max(self.messages, _ROUND):
            self._end_round()

    def lost(self, count: int) -> None:
        """So many did not."""
        self._lost += count

    def timed_out(self) -> None:
        """Nothing arrived for a time-out: all may have been lost."""
        self._shrink(self.messages // 2)

    def _end_round(self) -> None:
        share = self._lost / (self._acked + self._lost)
        self._acked = self._lost = 0
        if self._settling:
            self._settling = False
            return
        much = share > max(_MUCH, 1.5 * self._usual)
        window, before = self._before
        self._before = (0, 0.0)
        self._usual *= 0.98
        if much and window and share > before / 2:  # it did not help to send less
            self._usual = min(0.5, max(share, before))
            self.messages = window
        elif much:
            self._before = (self.messages, share)
            self._shrink(int(self.messages * (1 - share)))
        elif self.messages < self._start:
            self.messages = min(self._start, self.messages + 1 + self.messages // 16)
        elif share:
            if share > _LITTLE and not self._worth_growing:
                self._shrink(max(self._start, self.messages * 7 // 8))
        else:
            self._grow()

    def _grow(self) -> None:
        self._clean += 1
        if self._clean >= self._wait and self._worth_growing:
            self._clean = 0
            self._wait = max(1, self._wait // 2)
            self.messages = min(_MAX, self.messages + max(1, self.messages // 4))

    def _shrink(self, messages: int) -> None:
        if messages >= self.messages:
            return
        self.messages = max(self._least, messages)
        self._clean = 0
        self._settling = True
        self._wait = min(2 * self._wait, _MOST_ROUNDS)

    @property
    def _worth_growing(self) -> bool:
        """Whether more on the way would not just wait at the server: a round trip that takes
        twice as long as the shortest is half waiting."""
        return self._round_trips.smoothed < 2 * self._round_trips.shortest
