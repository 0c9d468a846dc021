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
        self._key_before = account.key.extents.copy()
        self._came = Extents()
        self._key_came = Extents()
        self._since = now

    def over(self, now: float) -> bool:
        """Whether a client that said HERALD would have begun long ago."""
        return now - self._since > REBOOT_TIME

    def note(self, start: int, end: int, here: Extents) -> None:
        """Bytes of the vmcore came, of which some are ``here`` already."""
        for first, last in here.present(start, end):
            self.again.add(first, last)
        self._came.add(start, end)

    def note_key(self, start: int, end: int) -> None:
        """Bytes of the key came."""
        self._key_came.add(start, end)

    def means_another_dump(self, differing: int) -> bool:
        """Whether ``differing`` bytes that came for places where others are mean that the client
        sends another dump."""
        evidence = Evidence(
            heralded=True, begins_again=True, agreeing=self.again.total, differing=differing
        )
        return judge(evidence).one is False

    def doubt(self, account: Account, in_flight: int) -> None:
        """Nothing differed. But a client that sent again what lies further back than what it has
        ``in_flight``, or a part of its key, and not all that was here before, may have begun
        another dump."""
        far_back = next(self.again.present(0, max(0, self._before.end - in_flight)), None)
        if far_back is not None and _lacking(self._before, self._came):
            account.add_doubt(DOUBT)
        if self._key_came.total and _lacking(self._key_before, self._key_came):
            account.add_doubt(DOUBT)


def _lacking(before: Extents, came: Extents) -> bool:
    """Whether anything that was here did not come again."""
    return any(not came.covers(*part) for part in before)
