# SPDX-License-Identifier: GPL-2.0-or-later
"""The numbers of a dump's messages, and what they tell of it.

FINISHED is numbered after the data, and so is the kernel's header. A client that began again counts
anew, and late acks for the dump before make it skip what it should send, but nothing beyond their
numbers. (netdumpd's own test client numbers HERALD and FINISHED 0, PROTOCOL.md.)
"""

from __future__ import annotations

from ...formats import FINISHED, KDH
from ..account import Account
from ..seqnos import ahead, cannot_be_finished, unseen_before
from .restart import DOUBT


class Order:
    """``heralded`` is the number of the HERALD; ``unseen`` how many messages the number of FINISHED
    tells of that came before it and were not seen, None if it tells nothing."""

    def __init__(self, heralded: int) -> None:
        self.unseen: int | None = None
        self._heralded = heralded
        self._latest: int | None = None
        self._latest_of_data: int | None = None

    def took(self, seqno: int) -> None:
        """A message that brought data was taken."""
        if self._latest_of_data is None or ahead(seqno, self._latest_of_data) > 0:
            self._latest_of_data = seqno
            self._came(seqno)

    def check(self, kind: int, seqno: int, account: Account, after_herald: bool) -> None:
        """A header or FINISHED came. Doubt the dump if it is numbered before the data: a header
        only if it is the first one ``after_herald``, a HERALD that was heard again."""
        if kind not in (KDH, FINISHED):
            return
        latest = self._latest_of_data
        if kind == FINISHED:
            self.unseen = unseen_before({seqno}, self._latest)
            doubtful = latest is not None and cannot_be_finished({seqno}, latest, self._heralded)
        else:
            first = after_herald and not account.headers.whole
            doubtful = first and latest is not None and ahead(seqno, latest) <= 0
            self._came(seqno)
        if doubtful:
            account.add_doubt(DOUBT)

    def _came(self, seqno: int) -> None:
        if self._latest is None or ahead(seqno, self._latest) > 0:
            self._latest = seqno
