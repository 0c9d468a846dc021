# SPDX-License-Identifier: GPL-2.0-or-later
"""What is worth a word while a dump is sent: a server that is slow, messages that do not arrive."""

from __future__ import annotations

from collections.abc import Callable

from ..core.sending.sender import Counters

#: Told what a person should know before the end, in a line.
Notice = Callable[[str], None]

#: Bytes a second that nobody would wait for without a word: a gigabyte takes three hours.
SLOW = 100_000

#: Seconds until a slow server is told of, and at most from one such notice to the next.
FIRST_LOOK = 10.0
_MOST_BETWEEN = 640.0


class Watch:
    """Looks at a transfer now and then, by its counters."""

    def __init__(self, server: str, size: int, counters: Counters, now: float) -> None:
        self._server, self._size = server, size
        self._payload = counters.payload
        self._first = self._payload
        self._between = FIRST_LOOK
        self._since, self._acks = now, 0
        self._had_acked = False  # when it was looked at last

    def look(self, counters: Counters, now: float, notice: Notice) -> None:
        """Give notice of what has changed, of slowness again and again, but ever less often."""
        if counters.payload != self._payload:
            self._payload = counters.payload
            notice(self._of_size(counters))
        self._had_acked = counters.acknowledged > 0
        if now < self._since + self._between:
            return
        rate = (counters.acks - self._acks) * counters.payload / (now - self._since)
        rest = self._size - counters.acknowledged
        if rate < SLOW and rest:
            notice(self._of_speed(counters, rate, rest, now - self._since))
            self._between = min(2 * self._between, _MOST_BETWEEN)
        else:
            self._between = FIRST_LOOK
        self._since, self._acks = now, counters.acks

    def _of_size(self, counters: Counters) -> str:
        payload = counters.payload
        if payload == self._first:
            return f"{self._server} takes messages of {payload} bytes now"
        if self._had_acked:  # so that it may as well be busy
            return (
                f"{self._server} acks nothing any more: messages are cut to {payload} bytes, in "
                "case larger ones do not arrive"
            )
        return (
            f"{self._server} acks no messages of {self._first} bytes: they are cut to {payload} (a "
            "smaller --mtu does so from the start)"
        )

    def _of_speed(self, counters: Counters, rate: float, rest: int, seconds: float) -> str:
        where = f"{counters.acknowledged} of {self._size} bytes are there"
        if not rate:
            return f"{self._server} has acked nothing new for {seconds:.0f} s; {where}"
        return (
            f"{self._server} is slow: {rate:.0f} bytes/s in the last {seconds:.0f} s; {where}, the "
            f"rest takes {duration(rest / rate)} at that speed (--timeout ends it sooner)"
        )


def duration(seconds: float) -> str:
    """As a clock shows it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
