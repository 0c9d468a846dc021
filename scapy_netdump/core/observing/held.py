# SPDX-License-Identifier: GPL-2.0-or-later
"""What came since a client may have begun another dump, and what it tells of that.

First pages of one machine are alike, so that it does not show at once. Until it does, data and key
are held back, and go to neither dump.
"""

from __future__ import annotations

from ... import formats
from ..identity import LONG_SILENCE, RESEND_WINDOW, Evidence, Way, judge
from ..seqnos import ahead
from .heralds import Herald
from .observed_dump import USUAL_FALL, ObservedDump
from .stretch import Stretch

#: What is called the first messages of a client that was silent before: of them some may be late,
#: or not in the capture.
FIRST_MESSAGES = 64

#: Messages that change places on their way are not further apart than this.
USUAL_DISORDER = 8


class Held:
    """Messages that are of ``dump``, which takes none meanwhile, or of another one. ``parts`` are
    their types and themselves, ``count`` their number, and ``size`` that of their bytes.

    ``apart`` is how long the client was silent before. ``goes_on``: they begin with the dump's
    next number and byte.
    """

    def __init__(self, dump: ObservedDump, apart: float, *, goes_on: bool = False) -> None:
        self.parts: list[tuple[int, Stretch]] = []
        self.apart = apart
        self.count = self.size = 0
        self.first: int | None = None
        self._dump = dump
        self._goes_on = goes_on
        self._latest: int | None = None
        self._lowest = 0  # number, counted from the dump's first
        self._begun = dump.begun
        self._agreeing = self._differing = 0
        self._alike = self._otherwise = self._misplaced = self._odd = 0
        self._overlapping = self._new = self._unknown = 0
        self._other_key = False

    def comes_again(self, seqno: int) -> bool:
        """Whether with a number the client may have begun once more, behind what is held."""
        first = ahead(seqno, self._dump.first_seqno) <= 1
        return first and self._latest is not None and ahead(self._latest, seqno) > USUAL_DISORDER

    def goes_beyond(self, seqno: int) -> bool:
        """Whether the dump had not come to a number yet."""
        return self.count > 0 and ahead(seqno, self._dump.furthest) > 0

    def continues(self, seqno: int) -> bool:
        """Whether a number follows what is held, rather than what came before: fewer numbers
        are passed over than are held."""
        return self._latest is not None and 0 < ahead(seqno, self._latest) <= self.count

    def passes_over(self, seqno: int) -> bool:
        """Whether with a number the dump goes on as if nothing of what is held had been sent: it
        was late copies."""
        another_key = self._other_key and self.apart > LONG_SILENCE
        went_on = self.goes_beyond(seqno) and not self.continues(seqno)
        return went_on and not (self._dump.account.finished or another_key)

    def add(self, kind: int, stretch: Stretch, row: int) -> None:
        """Take note of a message, and of what the dump has in its place."""
        dump, messages = self._dump, stretch.messages
        start, end = int(messages.start[row]), int(messages.end[row])
        seqno = int(messages.seqno[row])
        here = dump.extents(kind)
        self._compare(kind, dump.compare(kind, start, stretch.payload(row)))
        self._overlapping += here.overlaps(start, end)
        self._new += not here.covers(start, end)
        self._misplaced += dump.sent_elsewhere(kind, seqno, start)
        from_first = ahead(seqno, dump.first_seqno)
        self._lowest = min(self._lowest, from_first) if self.count else from_first
        key_of_start = kind == formats.EKCD_KEY and ahead(seqno, dump.furthest) <= 0
        self._begun |= not start or key_of_start
        self.first = seqno if self.first is None else self.first
        self.count += 1
        self.size += end - start
        if self._latest is None or ahead(seqno, self._latest) > 0:
            self._latest = seqno

    def _compare(self, kind: int, compared: tuple[int, int] | None) -> None:
        """Take note of how many bytes of a message agree with the dump's, and how many differ."""
        if compared is None:
            self._unknown += 1
            return
        agreeing, differing = compared
        self._agreeing += agreeing
        self._differing += differing
        self._alike += agreeing > differing
        if differing > agreeing:
            self._otherwise += 1
            self._odd = differing
            self._other_key |= kind == formats.EKCD_KEY

    def begins(self, heralded: bool) -> bool:
        """Whether a dump that has been seen may begin again with it."""
        silent = self.apart > LONG_SILENCE
        if heralded and silent:
            return self._lowest <= FIRST_MESSAGES
        if not self._begun:  # what is sent again may lie before all that was seen
            return self._lowest < -USUAL_FALL
        return self._lowest < 0 or (self._lowest <= 1 and (self._overlapping > 0 or silent))

    def is_one_with_dump(self, herald: Herald | None, going_on: bool) -> bool:
        """Whether it is of the dump. ``herald`` came before it, ``going_on``: more follows it."""
        dump, account = self._dump, self._dump.account
        heralded, words = herald is not None, herald.words if herald is not None else None
        copies = not (self._differing or self._new or self._unknown or going_on)
        if copies and self.size <= RESEND_WINDOW and not dump.is_over(words, self.apart):
            return True
        forged = self._odd if self._is_forged() else 0
        not_a_copy = self._new > 0 and self.apart > LONG_SILENCE
        begins = self.begins(heralded) and (self.count > 1 or going_on or not_a_copy)
        evidence = Evidence(
            agreeing=self._agreeing,
            differing=self._differing - forged,
            otherwise=self._otherwise,
            misplaced=self._misplaced,
            apart=self.apart,
            finished=account.finished,
            beyond=self._goes_behind_finished(),
            heralded=heralded,
            announced=(dump.words, words),
            begins_again=begins or (account.finished and not_a_copy),
            goes_on=self._goes_on,
            sent=account.vmcore.total,
            way=Way.SAME,
        )
        return judge(evidence).one is not False

    def _is_forged(self) -> bool:
        """Whether the only message with other bytes is damaged or forged, as one is no dump; after
        a silence others have to speak for this dump."""
        others_agree = self._alike > 0 or self.apart <= LONG_SILENCE
        return self._otherwise == 1 < self.count and others_agree

    def _goes_behind_finished(self) -> bool:
        end = self._dump.finished_as
        return end is not None and self._latest is not None and ahead(self._latest, end) > 0
