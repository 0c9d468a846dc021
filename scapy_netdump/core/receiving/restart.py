# SPDX-License-Identifier: GPL-2.0-or-later
"""What came of a dump since its client was heard to say HERALD again.

A HERALD that comes late, twice or forged changes nothing. But it may be of the same machine, which
began again; and any ack that is late leads it to the port of the dump before (PROTOCOL.md). As
long as that is possible, what comes is watched: bytes that differ are another dump's then. Which
of the two each byte is of nobody can tell for sure, so that neither is called complete.
"""

from __future__ import annotations

from ..account import Account
from ..extents import Extents
from ..identity import REBOOT_TIME, Evidence, judge

DOUBT = "two dumps of its client came to one port, and some bytes may be of the other"


class Restart:
    """``again`` are the bytes of the vmcore that came, and were here already, and the same."""

    def __init__(self, account: Account, now: float) -> None:
        self.again = Extents()
        self._before = account.vmcore.copy()
        self._came = Extents()
        self._since = now

    def over(self, now: float) -> bool:
        """Whether a client that said HERALD would have begun long ago."""
        return now - self._since > REBOOT_TIME

    def note(self, start: int, end: int, here: Extents) -> None:
        """Bytes of the vmcore came, of which some are ``here`` already."""
        for first, last in here.present(start, end):
            self.again.add(first, last)
        self._came.add(start, end)

    def means_another_dump(self, differing: int) -> bool:
        """Whether ``differing`` bytes that came for places where others are mean that the client
        sends another dump."""
        evidence = Evidence(
            heralded=True, begins_again=True, agreeing=self.again.total, differing=differing
        )
        return judge(evidence).one is False

    def doubt(self, account: Account, in_flight: int) -> None:
        """Nothing differed. But a client that sent its first bytes again after more than it has
        ``in_flight``, and not all that was here before, may have begun another dump."""
        first = next(iter(self._before), (0, 0))[0]
        sent_again = self._before.end > in_flight and self._came.covers(first, first + 1)
        if sent_again and any(list(self._came.missing(*part)) for part in self._before):
            account.doubt = DOUBT
