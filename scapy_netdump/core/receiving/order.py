# SPDX-License-Identifier: GPL-2.0-or-later
"""The numbers of a dump's messages, and what they tell of it.

FINISHED is numbered after the data, and so is the kernel's header. A client that began again counts
anew, and late acks for the dump before make it skip what it should send, but nothing beyond their
numbers. (netdumpd's own test client numbers HERALD and FINISHED 0, PROTOCOL.md.)
"""

from __future__ import annotations

from ...formats import FINISHED, KDH
from ..account import Account
from ..claims import unseen_before
from .restart import DOUBT


class Order:
    """``heralded`` is the number of the HERALD; ``unseen`` how many messages the number of FINISHED
    tells of that came before it and were not seen, None if it tells nothing."""

    def __init__(self, heralded: int) -> None:
        self.unseen: int | None = None
        self._heralded = heralded
        self._highest = self._highest_of_data = -1

    def took(self, seqno: int) -> None:
        """A message that brought data was taken."""
        if seqno > self._highest:
            self._highest = seqno
        if seqno > self._highest_of_data:
            self._highest_of_data = seqno

    def check(self, kind: int, seqno: int, account: Account, after_herald: bool) -> None:
        """A header or FINISHED came. Doubt the dump if it is numbered before the data: a header
        only if it is the first one ``after_herald``, a HERALD that was heard again."""
        if kind not in (KDH, FINISHED):
            return
        first_header = kind == KDH and after_herald and not account.headers.whole
        numbered = kind == FINISHED and bool(seqno or self._heralded)
        if (first_header or numbered) and seqno <= self._highest_of_data:
            account.add_doubt(DOUBT)
        if kind == FINISHED:
            self.unseen = unseen_before(seqno - self._highest)
        self._highest = max(self._highest, seqno)
