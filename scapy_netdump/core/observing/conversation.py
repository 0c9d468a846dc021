# SPDX-License-Identifier: GPL-2.0-or-later
"""What one client sends to one port of a server, in one capture: one dump after the other.

A client numbers its messages. Where the numbers go back to the beginning, or far, it sends again
what it sent before, or the messages are late copies, or it begins another dump. First pages of one
machine are alike, so that this shows only later: until then what came since that place is held
back, and goes to neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from ... import formats
from ..identity import (
    LONG_SILENCE,
    LONGEST_PAUSE,
    REBOOT_TIME,
    RESEND_WINDOW,
    Evidence,
    Way,
    judge,
)
from .batch import Bytes, Floats, Ints
from .heralds import Herald, Peer
from .messages import Acks, Messages, ahead, payload
from .observed_dump import ObservedDump
from .watcher import Watcher

#: A client that sends again what is in flight goes back no further, most of the time. Messages.
USUAL_FALL = 128

#: What is called the first messages of a client that was silent before: of them some may be late,
#: or not in the capture.
FIRST_MESSAGES = 64

#: Messages that change places on their way are not further apart than this.
USUAL_DISORDER = 8

#: Stretches of acks that are kept while no message came.
MAX_EARLY = 8

Values = TypeVar("Values", Ints, Floats)

#: Further ahead than any number is of another.
_NEVER = 1 << 31


@dataclass(frozen=True, slots=True)
class Stretch:
    """Messages of one type from one client to one port, and the acks to it: in the order of the
    capture, with their times in seconds since 1970. ``turn`` numbers the batch whose ``buffer``
    holds the payloads."""

    turn: int
    buffer: Bytes
    messages: Messages
    times: Floats
    acks: Acks
    ack_times: Floats

    def __len__(self) -> int:
        return len(self.messages)

    def split(self, row: int) -> tuple[Stretch, Stretch]:
        """What comes before a message, and what begins with it."""
        ack = len(self.acks)
        if row < len(self):
            ack = int(np.searchsorted(self.acks.order, self.messages.order[row]))
        return self._part(slice(row), slice(ack)), self._part(slice(row, None), slice(ack, None))

    def kept(self) -> Stretch:
        """The same with a buffer of its own, which stays valid."""
        lengths = self.messages.end - self.messages.start
        data = b"".join(payload(self.buffer, self.messages, row) for row in range(len(self)))
        positions = np.cumsum(lengths) - lengths
        messages = replace(self.messages, position=positions)
        return replace(self, buffer=np.frombuffer(data, np.uint8), messages=messages)

    def _part(self, rows: slice, acks: slice) -> Stretch:
        return replace(
            self,
            messages=self.messages[rows],
            times=self.times[rows],
            acks=self.acks[acks],
            ack_times=self.ack_times[acks],
        )


class _Held:
    """What came since a client may have begun again, and what it tells."""

    def __init__(self, apart: float, first: int, furthest: int) -> None:
        """``apart``: how long it was silent before; ``first`` and ``furthest``: the number that
        its dump began with, and that it had come to."""
        self.stretches: list[Stretch] = []
        self.apart = apart
        self.count = self.bytes = 0
        self._first = first
        self._furthest = furthest
        self.begun_with: int | None = None
        self._latest: int | None = None
        self._begun = _NEVER
        self._agreeing = self._differing = 0
        self._otherwise = self._misplaced = self._odd = 0
        self._overlapping = self._new = self._unknown = 0

    def begins(self, heralded: bool) -> bool:
        """Whether a dump that has been seen may begin again with it."""
        if heralded and self.apart > LONG_SILENCE:
            return self._begun <= FIRST_MESSAGES
        had = self._overlapping > 0 or self.apart > LONG_SILENCE
        return self._begun < 0 or (self._begun <= 1 and had)

    def comes_again(self, seqno: int) -> bool:
        """Whether with a number the client may have begun once more, behind what is held."""
        first = ahead(seqno, self._first) <= 1
        return first and self._latest is not None and ahead(self._latest, seqno) > USUAL_DISORDER

    def goes_beyond(self, seqno: int) -> bool:
        """Whether the dump had not come to a number yet."""
        return self.count > 0 and ahead(seqno, self._furthest) > 0

    def continues(self, seqno: int) -> bool:
        """Whether a number follows what is held, rather than what came before: fewer numbers
        are passed over than are held."""
        return self._latest is not None and 0 < ahead(seqno, self._latest) <= self.count

    def add(self, dump: ObservedDump, stretch: Stretch, row: int) -> None:
        """Take note of a message, and of what the dump has in its place."""
        start, end = int(stretch.messages.start[row]), int(stretch.messages.end[row])
        seqno = int(stretch.messages.seqno[row])
        self._compare(dump.compare(start, payload(stretch.buffer, stretch.messages, row)))
        self._overlapping += dump.account.vmcore.overlaps(start, end)
        self._new += not dump.account.vmcore.covers(start, end)
        self._misplaced += dump.sent_elsewhere(seqno, start)
        self._begun = min(self._begun, ahead(seqno, self._first))
        self.begun_with = seqno if self.begun_with is None else self.begun_with
        self.count += 1
        self.bytes += end - start
        if self._latest is None or ahead(seqno, self._latest) > 0:
            self._latest = seqno

    def _compare(self, compared: tuple[int, int] | None) -> None:
        """Take note of how many bytes of a message agree with the dump's, and how many differ."""
        if compared is None:
            self._unknown += 1
            return
        agreeing, differing = compared
        self._agreeing += agreeing
        self._differing += differing
        if differing > agreeing:
            self._otherwise += 1
            self._odd = differing

    def is_one_with(self, dump: ObservedDump, herald: Herald | None, going_on: bool) -> bool:
        """Whether it is of the dump. ``herald`` came before it, ``going_on``: more follows it."""
        heralded, words = herald is not None, herald.words if herald is not None else None
        copies = not (self._differing or self._new or self._unknown or going_on)
        if copies and self.bytes <= RESEND_WINDOW and not dump.is_over(words, self.apart):
            return True
        forged = self._odd if self._otherwise == 1 < self.count else 0  # one message is no dump
        not_a_copy = self._new > 0 and self.apart > LONG_SILENCE
        begins = self.begins(heralded) and (self.count > 1 or going_on or not_a_copy)
        begins |= dump.account.finished and not_a_copy
        evidence = Evidence(
            agreeing=self._agreeing,
            differing=self._differing - forged,
            otherwise=self._otherwise,
            misplaced=self._misplaced,
            apart=self.apart,
            finished=dump.account.finished,
            heralded=heralded,
            announced=(dump.words, words),
            begins_again=begins,
            sent=dump.account.vmcore.end,
            way=Way.SAME,
        )
        return judge(evidence).one is not False


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
        self._first = self._last = 0
        self._heard = 0.0
        self._held: _Held | None = None

    @property
    def finished(self) -> bool:
        """Whether the dump that goes on had its FINISHED."""
        return self.dump is not None and self.dump.account.finished

    @property
    def _furthest(self) -> int:
        """The number that the dump has come to."""
        return self.dump.furthest if self.dump is not None else self._last

    def take(self, stretch: Stretch) -> None:
        """Take VMCORE messages, and acks."""
        rest: Stretch | None = stretch
        while rest is not None:
            if self._held is not None:
                rest = self._hold(self._held, rest)
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
        seqno, time = int(stretch.messages.seqno[0]), float(stretch.times[0])
        start, data = int(stretch.messages.start[0]), payload(stretch.buffer, stretch.messages, 0)
        if self._held is not None and self.dump is not None:
            follows = self._held.continues(seqno)
            differs = follows and self.dump.contradicts(kind, start, data)
            went_on = self._held.goes_beyond(seqno) and not (follows or self.finished)
            self._decide(self._held, None if not (differs or went_on) else went_on, follows)
        if self.dump is None or self._begins_with(kind, seqno, time, start, data):
            self._start(time, seqno, int(stretch.messages.order[0]))
        elif self.herald is not None:
            self.dump.herald(self.herald)
            self.herald = None
        self._pass_on(kind, stretch)

    def decide(self) -> None:
        """What is held is to go to a dump now: another HERALD came."""
        if self._held is not None:
            self._decide(self._held, None, False)

    def finish(self) -> None:
        """The capture ends. What is held, and may be the beginning of another dump that goes on in
        another capture, becomes one that may be one with this."""
        held, dump = self._held, self.dump
        if held is None or dump is None:
            return
        if held.begins(self.herald is not None) and held.is_one_with(dump, self.herald, False):
            resent = dump.count_repeats(part.messages for part in held.stretches)
            self._release_to_another(held)
            if self.dump is not None:
                self.dump.may_be(dump, resent)
        else:
            self._decide(held, None, False)

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
        begun = ahead(seqnos, self._first)
        places = late | (back & ((begun <= 1) | (steps < -USUAL_FALL)))
        return int(places.argmax()) if places.any() else len(messages)

    def _may_begin_again(self, stretch: Stretch) -> None:
        """The client may have begun again with the first message of a stretch."""
        seqno, time = int(stretch.messages.seqno[0]), float(stretch.times[0])
        silence, near = self._silence(time), ahead(seqno, self._first) <= FIRST_MESSAGES
        again = self.herald is not None or ahead(seqno, self._furthest) <= 0 or near
        if self.dump is None or silence > LONGEST_PAUSE or (silence > REBOOT_TIME and again):
            self._start(time, seqno, int(stretch.messages.order[0]))
        elif self.finished or ahead(seqno, self._furthest) <= 0 or silence > LONG_SILENCE:
            self._held = _Held(silence, self._first, self._furthest)
            return
        elif self.herald is not None:  # a late copy of it
            self.dump.herald(self.herald)
            self.herald = None
        self._settle_first(stretch)

    def _hold(self, held: _Held, stretch: Stretch) -> Stretch | None:
        """Hold messages back until they tell to which dump they belong: the rest then."""
        assert self.dump is not None
        seqnos, times = stretch.messages.seqno.tolist(), stretch.times.tolist()
        for row, (seqno, time) in enumerate(zip(seqnos, times, strict=True)):
            late = held.count > 0 and time - self._heard > LONG_SILENCE
            again = held.comes_again(seqno)
            beyond = held.goes_beyond(seqno)
            if late or again or beyond or held.bytes > RESEND_WINDOW:
                before, rest = stretch.split(row)
                held.stretches.append(before.kept())
                follows = held.continues(seqno)
                went_on = beyond and not (follows or self.finished)
                self._decide(held, True if went_on else None, follows, keep_herald=again)
                return rest
            held.add(self.dump, stretch, row)
            self._heard = time
        held.stretches.append(stretch.kept())
        return None

    def _decide(
        self, held: _Held, one: bool | None, going_on: bool, *, keep_herald: bool = False
    ) -> None:
        """Give what is held to the dump, or to another one; ``one`` says which, if that is known.
        ``keep_herald``: what the HERALD announced comes only now."""
        assert self.dump is not None
        if one is None:
            one = held.is_one_with(self.dump, self.herald, going_on)
        if not one:
            self._release_to_another(held)
            return
        self._held = None
        if self.herald is not None and not keep_herald:
            self.dump.herald(self.herald)
            self.herald = None
        if held.begun_with is not None:
            self.dump.goes_on_with(held.begun_with, self._furthest, held.apart)
        for part in held.stretches:
            self._pass_on(formats.VMCORE, part)
        self._last = self._furthest

    def _release_to_another(self, held: _Held) -> None:
        """Begin another dump with what was held."""
        self._held = None
        first = next(part for part in held.stretches if len(part))
        messages = first.messages
        self._start(float(first.times[0]), int(messages.seqno[0]), int(messages.order[0]))
        for part in held.stretches:
            self._pass_on(formats.VMCORE, part)

    def _begins_with(self, kind: int, seqno: int, time: float, start: int, data: bytes) -> bool:
        """Whether a message that is no data begins another dump."""
        assert self.dump is not None
        if kind == formats.FINISHED:
            return False
        silence, first = self._silence(time), ahead(seqno, self._first) <= 1
        back = first and ahead(seqno, self._furthest) < 0
        differs = self.dump.contradicts(kind, start, data)
        if silence > LONGEST_PAUSE or (back and (differs or silence > REBOOT_TIME)):
            return True
        if self.herald is not None:
            return self.finished or silence > REBOOT_TIME or (back and silence > LONG_SILENCE)
        return self.finished and differs

    def _silence(self, time: float) -> float:
        """How long the client was silent before a time, or before the HERALD that it sent."""
        if self.dump is None:
            return 0.0
        return max(0.0, (time if self.herald is None else self.herald.time) - self.dump.last_time)

    def _start(self, time: float, seqno: int, place: int) -> None:
        """Begin another dump."""
        first = seqno if self.herald is None else self.herald.seqno
        self.dump = self._begin(self, time, first, place)
        self._first, self._last = first, seqno
        if self.herald is not None and self.dump is not None:
            self.dump.herald(self.herald)
        self.herald = None
        early, self._early = self._early, []
        for part in early:
            self._give_acks(part)

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
