# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages on their way: which were acked, which are lost.

A message is lost when one that was sent later has been acked, and enough later: RFC 8985
(RACK), with messages for segments. Each transmission has a serial number of its own, so
that a message lost twice is found as one lost once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from .round_trips import RoundTrips

#: Messages sent later that must have been acked, as long as nothing came out of order.
_LATER = 3
#: Reordering is given quarters of the shortest round trip, at most so many.
_MAX_QUARTERS = 16
_REMEMBERED = 1024  # bursts, and messages that were sent again


class Flight:
    """Sequence numbers that wait for an ack, in the order of their latest transmission.

    `lost` are those among them that must be sent again. `needless` counts messages that were
    sent again, or were about to be, and then proved not to have been lost.
    """

    def __init__(self, round_trips: RoundTrips) -> None:
        self.lost: dict[int, int] = {}  # with the serial numbers they were sent under
        self.needless = 0
        self._round_trips = round_trips
        self._serials: dict[int, int] = {}  # of the latest transmission; rising in this order
        self._before: dict[int, int] = {}  # of the transmission before it, where there is one
        self._next = 1
        self._newest = 0  # the latest transmission that is known to have arrived
        self._quarters = 0  # of the shortest round trip that reordering is given; 0: none seen
        self._starts: list[int] = []  # the first serial number of each burst
        self._times: list[float] = []  # and when it was sent
        self._repeated: set[int] = set()  # sent again and acked; may be acked once more

    def __len__(self) -> int:
        """How many are on their way, those not counted that are known to be lost."""
        return len(self._serials)

    def sent(self, first: int, after: int, now: float) -> None:
        """Messages [first, after) were sent for the first time."""
        self._note_time(now)
        serials = range(self._next, self._next + after - first)
        self._serials.update(zip(range(first, after), serials, strict=True))
        self._next = serials.stop

    def sent_again(self, seqnos: Iterable[int], now: float) -> None:
        """These of the lost ones were sent again."""
        self._note_time(now)
        for seqno in seqnos:
            self._before[seqno] = self.lost.pop(seqno)
            self._serials[seqno] = self._next
            self._next += 1

    def acked(self, seqnos: Iterable[int], now: float) -> list[int]:
        """Acks came, in this order; returns those that are the first for their message."""
        news = []
        newest = self._newest
        measured = 0
        take = self._serials.pop
        for seqno in seqnos:
            serial = take(seqno, 0)
            if not serial:
                if self._late(seqno):
                    news.append(seqno)
                continue
            news.append(seqno)
            if seqno in self._before:
                newest = max(newest, self._arrived(seqno, serial, now))
            elif serial > newest:
                newest = measured = serial
            else:
                self._quarters = self._quarters or 1  # overtaken, but not lost
        if measured:
            self._round_trips.measured(max(now - self._time_of(measured), 1e-9))
        self._newest = newest
        return news

    def find_lost(self, now: float) -> float:
        """Look for messages that will not arrive any more; returns when to look again
        (infinity: not before something comes)."""
        found: dict[int, int] = {}
        again = float("inf")
        for seqno, serial in self._serials.items():
            if serial >= self._newest:
                break
            if self._quarters or self._newest - serial < _LATER:
                due = self._time_of(serial) + self._round_trips.latest + self._allowance
                if now < due:
                    again = due
                    break
            found[seqno] = serial
        for seqno in found:
            del self._serials[seqno]
        self.lost.update(found)
        return again

    def give_up_last(self) -> None:
        """Take the message that was sent last as the first of the lost, to probe whether
        anything arrives.

        Its ack, whichever of its transmissions it answers, tells of all others that they
        should have arrived before; an ack of the oldest would not.
        """
        self.lost = dict([self._serials.popitem()]) | self.lost

    def forget(self) -> None:
        """Wait for none of them any more."""
        for of_number in (self._serials, self.lost, self._before):
            of_number.clear()

    @property
    def waiting(self) -> list[int]:
        """The sequence numbers that wait for an ack, in their order."""
        return sorted([*self._serials, *self.lost])

    @property
    def _allowance(self) -> float:
        """Seconds by which a message may be late without being lost."""
        trips = self._round_trips
        return min(max(1, self._quarters) * trips.shortest / 4, trips.smoothed)

    def _arrived(self, seqno: int, serial: int, now: float) -> int:
        """The serial number of the transmission that this ack answers, of one sent again.

        If it comes too soon for the latest, it is for the one before (RFC 8985, 6.2 step 2).
        """
        before = self._before.pop(seqno)
        if len(self._repeated) >= _REMEMBERED:
            self._repeated.clear()
        self._repeated.add(seqno)
        trips = self._round_trips
        soonest = max(trips.shortest, trips.smoothed / 2)
        return serial if now - self._time_of(serial) >= soonest else before

    def _late(self, seqno: int) -> bool:
        """Whether an ack of what is not on its way is the first for a message."""
        first = self.lost.pop(seqno, 0) > 0
        if first:
            self._before.pop(seqno, None)
        elif seqno in self._repeated:
            self._repeated.discard(seqno)
        else:
            return False
        self.needless += 1
        self._quarters = min(self._quarters + 1, _MAX_QUARTERS)
        return first

    def _note_time(self, now: float) -> None:
        if len(self._starts) >= 2 * _REMEMBERED:
            del self._starts[:_REMEMBERED]
            del self._times[:_REMEMBERED]
        self._starts.append(self._next)
        self._times.append(now)

    def _time_of(self, serial: int) -> float:
        """When it was sent; of one long ago, no later than that."""
        return self._times[max(bisect_right(self._starts, serial) - 1, 0)]
