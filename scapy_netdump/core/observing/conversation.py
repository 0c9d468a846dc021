# SPDX-License-Identifier: GPL-2.0-or-later
"""What one client sends to one port of a server, in one capture: one dump after the other.

A client numbers its messages. Where the numbers go back to the beginning, or far, it sends again
what it sent before, or the messages are late copies, or it begins another dump. What came since
such a place is held back until it tells (held.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from ... import formats
from ..identity import LONG_SILENCE, LONGEST_PAUSE, REBOOT_TIME, RESEND_WINDOW
from ..seqnos import ahead
from .batch import Floats, Ints
from .held import FIRST_MESSAGES, Held
from .heralds import Herald, Peer
from .observed_dump import USUAL_FALL, ObservedDump
from .stretch import Stretch
from .watcher import Watcher

#: Stretches of acks that are kept while no message came.
MAX_EARLY = 8

Values = TypeVar("Values", Ints, Floats)


class Conversation:
    """One client, one port of a server. ``dump`` is the one that goes on, None if there are too
    many already."""

    def __init__(
        self,
        peer: Peer,
        port: int,
        begin: Callable[[Conversation, float, int, int], ObservedDump | None],
        watcher: Watcher | None,
    ) -> None:
        """``begin`` begins a dump: with its first time, number and place in the capture."""
        self.peer = peer
        self.port = port
        self.dump: ObservedDump | None = None
        self.refused = 0
        self.herald: Herald | None = None  # and it is open which dump it announced
        self._early: list[Stretch] = []  # acks that came before the first message
        self._begin = begin
        self._watcher = watcher
        self._last = 0  # the latest number, in the order of the capture
        self._heard = 0.0
        self._held: Held | None = None

    @property
    def finished(self) -> bool:
        """Whether the dump that goes on had its FINISHED."""
        return self.dump is not None and self.dump.account.finished

    def take(self, stretch: Stretch) -> None:
        """Take VMCORE messages, and acks."""
        rest: Stretch | None = stretch
        while rest is not None:
            if self._held is not None:
                rest = self._hold(self._held, formats.VMCORE, rest)
                continue
            before, after = rest.split(self._place(rest))
            self._pass_on(formats.VMCORE, before)
            if not len(after):
                return
            self._may_begin_again(after)
            if self.dump is None:
                self._pass_on(formats.VMCORE, after)
                return
            rest = after

    def take_marker(self, kind: int, stretch: Stretch) -> None:
        """Take a message of another type."""
        if self._held is not None and kind == formats.EKCD_KEY:
            if self._hold(self._held, kind, stretch) is None:
                return
        elif self._held is not None:
            self._decide_before(self._held, kind, stretch)
        if self.dump is None or self._begins_with(self.dump, kind, stretch):
            self._start(stretch)
        elif kind == formats.EKCD_KEY and self._is_out_of_place(self.dump, stretch):
            self._held = Held(self.dump, self._silence(float(stretch.times[0])))
            self._hold(self._held, kind, stretch)
            return
        else:
            seqno, silence = int(stretch.messages.seqno[0]), self._silence(float(stretch.times[0]))
            self._take_herald(self.dump)
            if not self.finished:
                self.dump.goes_on_with(seqno, self.dump.furthest, silence)
        self._pass_on(kind, stretch)

    def decide(self) -> None:
        """What is held is to go to a dump now: another HERALD came."""
        if self._held is not None:
            self._decide(self._held, self._held.is_one_with_dump(self.herald, False))

    def finish(self) -> None:
        """The capture ends. What is held, and may be the beginning of another dump that goes on in
        another capture, becomes one that may be one with this."""
        held, dump = self._held, self.dump
        if held is None or dump is None:
            return
        one = held.is_one_with_dump(self.herald, False)
        undecided = one and held.begins(self.herald is not None)
        resent = dump.count_repeats(held.parts) if undecided else 0
        self._decide(held, one and not undecided)
        if undecided and self.dump is not None:
            self.dump.may_be(dump, resent)

    def _place(self, stretch: Stretch) -> int:
        """The first message with which the client may have begun again; behind the last if there
        is none."""
        messages = stretch.messages
        if not len(messages):
            return 0
        if self.dump is None or self.dump.account.finished or self.herald is not None:
            return 0
        seqnos, times = messages.seqno, stretch.times
        steps = ahead(seqnos, _shifted(self._last, seqnos))
        pauses = times - _shifted(self._heard, times)
        back, late = steps < 0, pauses > LONG_SILENCE
        if not (back.any() or late.any()):
            return len(messages)
        begun = ahead(seqnos, self.dump.first_seqno)
        places = late | (back & ((begun <= 1) | (steps < -USUAL_FALL)))
        return int(places.argmax()) if places.any() else len(messages)

    def _may_begin_again(self, stretch: Stretch) -> None:
        """The client may have begun again with the first message of a stretch."""
        dump, seqno = self.dump, int(stretch.messages.seqno[0])
        silence = self._silence(float(stretch.times[0]))
        if dump is None or self._cannot_be_of(dump, stretch, silence):
            self._start(stretch)
        elif self.finished or ahead(seqno, dump.furthest) <= 0 or silence > LONG_SILENCE:
            self._held = Held(dump, silence, goes_on=self._goes_on(dump, stretch))
            return
        else:  # the HERALD was a late copy
            self._take_herald(dump)
        self._settle_first(stretch)

    def _cannot_be_of(self, dump: ObservedDump, stretch: Stretch, silence: float) -> bool:
        """Whether data came too late for the dump, by itself or as what a client begins with."""
        if silence <= REBOOT_TIME or self._goes_on(dump, stretch):
            return False
        seqno = int(stretch.messages.seqno[0])
        near = ahead(seqno, dump.first_seqno) <= FIRST_MESSAGES
        again = self.herald is not None or ahead(seqno, dump.furthest) <= 0 or near
        return again or silence > LONGEST_PAUSE

    def _goes_on(self, dump: ObservedDump, stretch: Stretch) -> bool:
        """Whether a message is the dump's next one: after a long silence that hardly happens, but
        where the clock was set."""
        messages = stretch.messages
        is_next = ahead(int(messages.seqno[0]), dump.furthest) == 1
        of_data = int(messages.type[0]) == formats.VMCORE
        place = not of_data or int(messages.start[0]) == dump.account.end
        return is_next and place and self.herald is None and not self.finished

    def _hold(self, held: Held, kind: int, stretch: Stretch) -> Stretch | None:
        """Hold messages back until they tell to which dump they belong: the rest then."""
        seqnos, times = stretch.messages.seqno.tolist(), stretch.times.tolist()
        for row, (seqno, time) in enumerate(zip(seqnos, times, strict=True)):
            late = held.count > 0 and time - self._heard > LONG_SILENCE
            again = held.comes_again(seqno)
            beyond = held.goes_beyond(seqno)
            if late or again or beyond or held.size > RESEND_WINDOW:
                before, rest = stretch.split(row)
                held.parts.append((kind, before.kept()))
                going_on = held.continues(seqno)
                one = held.passes_over(seqno) or held.is_one_with_dump(self.herald, going_on)
                self._decide(held, one, keep_herald=again)
                return rest
            held.add(kind, stretch, row)
            self._heard = time
        held.parts.append((kind, stretch.kept()))
        return None

    def _decide_before(self, held: Held, kind: int, stretch: Stretch) -> None:
        """Decide about what is held, as a message of another type came."""
        assert self.dump is not None
        seqno = int(stretch.messages.seqno[0])
        going_on = held.continues(seqno)
        if going_on and self._differs(self.dump, kind, stretch):
            self._decide(held, False)
        else:
            one = held.passes_over(seqno) or held.is_one_with_dump(self.herald, going_on)
            self._decide(held, one)

    def _decide(self, held: Held, one: bool, *, keep_herald: bool = False) -> None:
        """Give what is held to the dump, or to another one. ``keep_herald``: what the HERALD
        announced comes only now."""
        dump, self._held = self.dump, None
        assert dump is not None
        if not one:
            self._start(next(part for _, part in held.parts if len(part)))
        else:
            if not keep_herald:
                self._take_herald(dump)
            if held.first is not None:
                dump.goes_on_with(held.first, dump.furthest, held.apart)
        for kind, part in held.parts:
            self._pass_on(kind, part)
        if one:
            self._last = dump.furthest

    def _begins_with(self, dump: ObservedDump, kind: int, stretch: Stretch) -> bool:
        """Whether a message that is no data begins another dump."""
        seqno, silence = int(stretch.messages.seqno[0]), self._silence(float(stretch.times[0]))
        if silence > LONGEST_PAUSE and not self._goes_on(dump, stretch):
            return not (kind == formats.FINISHED and dump.was_finished_as(seqno))
        if kind == formats.FINISHED:
            return False
        first = ahead(seqno, dump.first_seqno) <= 1
        back = first and ahead(seqno, dump.furthest) < 0
        differs = self._differs(dump, kind, stretch)
        if back and (silence > REBOOT_TIME or (differs and kind == formats.KDH)):
            return True
        if self.herald is not None:
            return self.finished or silence > REBOOT_TIME or (back and silence > LONG_SILENCE)
        return self.finished and differs

    def _is_out_of_place(self, dump: ObservedDump, stretch: Stretch) -> bool:
        """Whether a piece of a key came where this client sends none: it is acked before data is
        sent, or numbered behind all of it. One that comes soon, and is not another, is late."""
        late = self._silence(float(stretch.times[0])) > LONG_SILENCE
        back = ahead(int(stretch.messages.seqno[0]), dump.furthest) <= 0
        behind = back or dump.account.vmcore.total > 0 or self.finished
        odd = late or self._differs(dump, formats.EKCD_KEY, stretch)
        return dump.data_came and behind and odd

    def _differs(self, dump: ObservedDump, kind: int, stretch: Stretch) -> bool:
        """Whether a piece of the header or the key is not what is here."""
        return dump.contradicts(kind, int(stretch.messages.start[0]), stretch.payload(0))

    def herald_copied_at(self, time: float) -> Herald | None:
        """The HERALD before the messages that are held back, if another one may be a copy of it:
        a client that was silent since says that it begins again."""
        return self.herald if time - self._heard <= LONG_SILENCE else None

    def _silence(self, time: float) -> float:
        """How long the client was silent before a time, or before the HERALD that it sent."""
        if self.dump is None:
            return 0.0
        return max(0.0, (time if self.herald is None else self.herald.time) - self.dump.last_time)

    def _start(self, stretch: Stretch) -> None:
        """Begin another dump with the first message of a stretch."""
        herald, self.herald = self.herald, None
        seqno, place = int(stretch.messages.seqno[0]), int(stretch.messages.order[0])
        first = seqno if herald is None else herald.seqno
        self.dump = self._begin(self, float(stretch.times[0]), first, place)
        self._last = seqno
        if herald is not None and self.dump is not None:
            self.dump.herald(herald)
        early, self._early = self._early, []
        for part in early:
            self._give_acks(part)

    def _take_herald(self, dump: ObservedDump) -> None:
        """The HERALD that waits, if there is one, was that of the dump."""
        if self.herald is not None:
            dump.herald(self.herald)
            self.herald = None

    def _settle_first(self, stretch: Stretch) -> None:
        """It is decided to which dump the first message of a stretch belongs."""
        self._last = int(stretch.messages.seqno[0])
        self._heard = float(stretch.times[0])

    def _pass_on(self, kind: int, stretch: Stretch) -> None:
        """Give the dump what is its."""
        dump, messages = self.dump, stretch.messages
        if len(messages):
            self._note(kind, messages.seqno, stretch.times)
        if dump is None:
            self.refused += len(messages)
            self._early = [*self._early, stretch.kept()][-MAX_EARLY:] if not len(stretch) else []
            return
        self._give_acks(stretch)
        if len(messages):
            dump.seen(float(stretch.times.min()), float(stretch.times.max()))
            if kind == formats.FINISHED:
                dump.finish(int(messages.seqno[0]))
            else:
                dump.data(kind, stretch.turn, stretch.buffer, messages)
            if self._watcher is not None:
                self._watcher.sent(dump, messages, stretch.times)
        dump.settle()

    def _give_acks(self, stretch: Stretch) -> None:
        if self.dump is not None and len(stretch.acks):
            self.dump.acked(stretch.acks)
            if self._watcher is not None:
                self._watcher.acked(self.dump, stretch.acks, stretch.ack_times)

    def _note(self, kind: int, seqnos: Ints, times: Floats) -> None:
        """Remember the latest number; that of a FINISHED may be any."""
        self._heard = float(times[-1])
        if kind != formats.FINISHED:
            self._last = int(seqnos[-1])


def _shifted(first: float, values: Values) -> Values:
    """The value before each one."""
    before = np.empty_like(values)
    before[:1], before[1:] = first, values[:-1]
    return before
