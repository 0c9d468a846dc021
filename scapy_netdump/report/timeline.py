# SPDX-License-Identifier: GPL-2.0-or-later
"""How one dump went, as one capture shows it: totals, and numbers over time.

Every moment from the HERALD to the last event is counted as one phase: what the client was
doing is told by what came next. All is done with the columns of a batch at once, and comes
out the same however a capture is cut into batches. Memory does not grow with the dump.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from .. import formats
from ..core.observing.batch import Floats, Ints, Mask
from ..core.observing.messages import Acks, Messages
from .bins import TimeBins
from .matching import COPY_NS, Events, Outstanding


class Phase(IntEnum):
    """What a stretch of time between two events was spent on."""

    START = 0  # from the HERALD to the first message behind it
    SENDING = 1  # the client sent on before all was acked
    FIRST_ACK = 2  # it did not: from a message to the ack that came next
    MORE_ACKS = 3  # and from one ack to the next
    BETWEEN = 4  # all was acked, and the client had not sent on
    RESEND = 5  # until a message was sent again, or one came that had been passed over


#: A pause is a stall when it is longer than this, and than some of the shortest round trips: a
#: long way is no stall.
STALL_NS = 100_000_000
_STALL_ROUND_TRIPS = 4

#: The longest stalls, which are kept one by one.
MAX_STALLS = 256

#: The shortest chunk begins at a multiple of this: a dump is written by blocks (PROTOCOL.md),
#: but payloads of 1448 bytes or any usual size come there no sooner than the next chunk.
_BLOCK = 512

#: Delays by their three highest bits: a bin is an eighth of a power of two wide.
DELAY_BINS = 64 * 8

#: Times are believed up to this: 36 years, in nanoseconds.
_LONGEST = 1 << 60
_NEVER = 1 << 61

#: Acks that wait for what the client sends next, to tell whether it had waited for them; beyond
#: these it is taken that it had. More than can be in flight, which is not believed beyond it.
_MAX_WAITING = 1 << 16

SUMS = ("new_bytes", "again_bytes", "messages", "again", "overtaken", "answers", "flight_time")
HIGHS = ("in_flight", "offset_high", "again_high")
LOWS = ("offset_low", "again_low")


class Stall(NamedTuple):
    """A long pause: from when to when, in nanoseconds, and what ended it."""

    begin: int
    end: int
    phase: Phase


@dataclass(slots=True)
class Totals:
    """Sums over all of a timeline; times in nanoseconds, sizes in bytes of vmcore as sent.

    ``copies`` counts messages that came twice at once, which count nowhere else; ``again`` those
    that were sent before, ``after_ack`` those of them whose ack had
    been seen, ``overtaken`` those that are new but came behind later ones. ``answers`` counts
    messages acked, ``late`` those acked only after they were sent again, ``vain`` the acks for
    further copies of these. ``chunks`` counts the times that a chunk began with nothing unacked.
    """

    messages: int = 0
    copies: int = 0
    again: int = 0
    after_ack: int = 0
    overtaken: int = 0
    answers: int = 0
    late: int = 0
    vain: int = 0
    new_bytes: int = 0
    again_bytes: int = 0
    chunks: int = 0
    payload: int = 0
    in_flight: int = 0
    shortest_delay: int = _NEVER
    phases: list[int] = field(default_factory=lambda: [0] * len(Phase))
    stalls: list[int] = field(default_factory=lambda: [0] * len(Phase))
    stalled: list[int] = field(default_factory=lambda: [0] * len(Phase))


class Timeline:
    """Takes messages and acks of one dump. Times are in nanoseconds since ``origin``, which is in
    seconds since 1970; ``end`` is that of the latest event. ``heralded``: the origin is when the
    HERALD was seen.

    ``again_high`` and ``again_low`` among the bins are about messages that were sent again, and
    those behind later ones that came after a pause. ``flight_time`` adds up the time that each
    message was in flight: the mean is that, divided by the bin's width.
    """

    def __init__(self, origin: float, heralded: bool = False) -> None:
        self.origin = origin
        self.heralded = heralded
        self.end = 0
        self.totals = Totals()
        self.bins = TimeBins((*SUMS, *(phase.name for phase in Phase)), HIGHS, LOWS)
        self.delays = np.zeros(DELAY_BINS, np.int64)
        self.late_delays = np.zeros(DELAY_BINS, np.int64)
        self.stalls: list[Stall] = []
        self._outstanding = Outstanding()
        self._waiting: _Step | None = None
        self._latest = 0
        self._begun = False
        self._after_ack = False
        self._in_flight = 0
        self._sent_up_to = self._data_up_to = self._acked_up_to = -1

    def take(self, messages: Messages, sent: Floats, acks: Acks, acked: Floats) -> None:
        """Take the messages and acks of a batch, with their times in seconds since 1970. Acks
        that answer nothing, and copies, are left out."""
        if not len(messages) + len(acks):
            return
        order = np.argsort(np.concatenate((messages.order, acks.order)), kind="stable")
        columns = _Columns(messages, len(acks), order)
        time = self._nanoseconds(np.concatenate((sent, acked))[order])
        events = Events(
            time=time,
            is_ack=order >= len(messages),
            seqno=np.concatenate((messages.seqno, acks.seqno))[order],
            what=columns.start * 8 + columns.type,
        )
        matched = self._outstanding.match(events)
        self.totals.copies += int(matched.copy.sum())
        kept = np.flatnonzero(~events.is_ack & ~matched.copy | matched.answer | matched.echo)
        step = _Step(
            time=time,
            seqno=events.seqno,
            type=columns.type,
            start=columns.start,
            size=columns.size,
            message=~events.is_ack,
            again=matched.again,
            acked_before=matched.acked_before,
            answer=matched.answer,
            late=matched.late,
            delay=matched.delay,
            vain=matched.vain,
        )[kept]
        if self._waiting is not None:
            step = self._waiting.before(step)
        told = int(np.flatnonzero(step.message).max(initial=-1)) + 1
        if len(step) - told > _MAX_WAITING:
            told = len(step)
        self._waiting = step[told:]
        self._count(step[:told])

    def finish(self) -> None:
        """No more comes."""
        if self._waiting is not None:
            self._count(self._waiting)
            self._waiting = None

    def _nanoseconds(self, times: Floats) -> Ints:
        """Times since the origin, none before the one that precedes it."""
        since = np.clip(np.nan_to_num(times - self.origin), 0, _LONGEST / 1e9)
        whole = np.maximum(np.rint(since * 1e9).astype(np.int64), self._latest)
        whole = np.maximum.accumulate(whole)
        self._latest = int(whole.max(initial=self._latest))
        return whole

    def _count(self, step: _Step) -> None:
        if not len(step):
            return
        totals = self.totals
        data = step.type == formats.VMCORE
        new = step.message & ~step.again
        if not self._begun:  # what came before is taken for acked
            self._acked_up_to = int(step.seqno[0]) - 1
        data_up_to = _highest(step.seqno, data, self._data_up_to)
        overtaken = new & data & (step.seqno < np.append(self._data_up_to, data_up_to[:-1]))
        sent_up_to = _highest(step.seqno, new, self._sent_up_to)
        acked_up_to = _highest(step.seqno, ~step.message, self._acked_up_to)
        in_flight = np.maximum(sent_up_to - acked_up_to, 0)
        before = np.append(self._in_flight, in_flight[:-1])
        phase = self._phases(step, overtaken, before)
        pause = self._pauses(step, phase, before)
        marked = step.again | (overtaken & (pause >= COPY_NS))
        totals.chunks += int((new & data & (before == 0) & (step.start % _BLOCK == 0)).sum())
        totals.messages += int(step.message.sum())
        totals.again += int(step.again.sum())
        totals.after_ack += int(step.acked_before.sum())
        totals.overtaken += int(overtaken.sum())
        totals.answers += int(step.answer.sum())
        totals.late += int(step.late.sum())
        totals.vain += int(step.vain.sum())
        totals.new_bytes += int(step.size[new & data].sum())
        totals.again_bytes += int(step.size[step.again & data].sum())
        totals.payload = max(totals.payload, int(step.size[data].max(initial=0)))
        totals.in_flight = max(totals.in_flight, int(in_flight.max()))
        self._count_delays(step)
        self._fill(step, overtaken, marked & data, in_flight)
        self._begun = True
        self.end = int(step.time[-1])
        self._after_ack = not step.message[-1]
        self._in_flight = int(in_flight[-1])
        self._data_up_to, self._sent_up_to = int(data_up_to[-1]), int(sent_up_to[-1])
        self._acked_up_to = int(acked_up_to[-1])

    def _phases(self, step: _Step, overtaken: Mask, before: Ints) -> Ints:
        """What the time before each event was spent on; ``before``: messages in flight then."""
        after_ack = np.append(self._after_ack, ~step.message[:-1])
        to_ack = np.where(after_ack, Phase.MORE_ACKS, Phase.FIRST_ACK)
        to_message = np.where(before == 0, Phase.BETWEEN, Phase.SENDING)
        phase = np.where(step.message, to_message, to_ack)
        phase[step.again | overtaken] = Phase.RESEND
        sends_on = phase == Phase.SENDING
        row = np.arange(len(step))
        last = len(step) - 1
        then = np.where(step.message, row, last)[::-1]
        then = np.minimum.accumulate(then)[::-1]  # the message that comes next
        phase[sends_on[then]] = Phase.SENDING
        if not self._begun:
            phase[0] = Phase.START
        return phase

    def _pauses(self, step: _Step, phase: Ints, before: Ints) -> Ints:
        """Count the time up to each event, which is returned, and what of it was a stall."""
        begin = np.append(self.end, step.time[:-1])
        pause: Ints = step.time - begin
        shortest = np.where(step.answer & ~step.late, step.delay, _NEVER)
        shortest = np.minimum.accumulate(np.append(self.totals.shortest_delay, shortest))
        self.totals.shortest_delay = int(shortest[-1])
        way = np.where(shortest[:-1] < _NEVER, shortest[:-1] * _STALL_ROUND_TRIPS, 0)
        stalled = pause > np.maximum(way, STALL_NS)
        self.bins.reach(int(step.time[-1]))
        for kind in Phase:
            of_kind = phase == kind
            self.totals.phases[kind] += int(pause[of_kind].sum())
            self.totals.stalls[kind] += int((stalled & of_kind).sum())
            self.totals.stalled[kind] += int(pause[stalled & of_kind].sum())
            once = np.ones_like(pause[of_kind])
            self.bins.spread(kind.name, begin[of_kind], step.time[of_kind], once)
        self.bins.spread("flight_time", begin, step.time, np.minimum(before, _MAX_WAITING))
        rows = np.flatnonzero(stalled)
        rows = rows[np.argsort(-pause[rows], kind="stable")[:MAX_STALLS]]
        self.stalls += [
            Stall(int(begin[row]), int(step.time[row]), Phase(int(phase[row]))) for row in rows
        ]
        self.stalls.sort(key=lambda stall: (stall.begin - stall.end, stall.begin))
        del self.stalls[MAX_STALLS:]
        return pause

    def _count_delays(self, step: _Step) -> None:
        for counts, which in (
            (self.delays, step.answer & ~step.late),
            (self.late_delays, step.late),
        ):
            counts += np.bincount(delay_bin(step.delay[which]), minlength=DELAY_BINS)

    def _fill(self, step: _Step, overtaken: Mask, marked: Mask, in_flight: Ints) -> None:
        data = step.type == formats.VMCORE
        new, again = data & ~step.again, data & step.again
        ends = step.start + step.size
        for name, which, values in (
            ("new_bytes", new, step.size),
            ("again_bytes", again, step.size),
            ("messages", step.message, step.message),
            ("again", step.again, step.again),
            ("overtaken", overtaken, overtaken),
            ("answers", step.answer, step.answer),
            ("in_flight", np.ones_like(data), in_flight),
            ("offset_high", new, ends),
            ("offset_low", new, step.start),
            ("again_high", marked, ends),
            ("again_low", marked, step.start),
        ):
            self.bins.add(name, step.time[which], values[which].astype(np.int64))


class _Columns:
    """What acks have none of, for messages and acks in one order: -1 for an ack."""

    def __init__(self, messages: Messages, acks: int, order: Ints) -> None:
        none = np.full(acks, -1, np.int64)
        self.type, self.start, self.size = (
            np.concatenate((column, none))[order]
            for column in (messages.type, messages.start, messages.sent_end - messages.start)
        )


@dataclass(frozen=True, slots=True)
class _Step:
    """Events that count, in the order of the capture; the columns are those of Events, Messages
    and Matched."""

    time: Ints
    seqno: Ints
    type: Ints
    start: Ints
    size: Ints
    message: Mask
    again: Mask
    acked_before: Mask
    answer: Mask
    late: Mask
    delay: Ints
    vain: Mask

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, rows: Ints | slice) -> _Step:
        return _Step(*(getattr(self, column.name)[rows] for column in fields(self)))

    def before(self, other: _Step) -> _Step:
        """These events, and others behind them."""
        names = [column.name for column in fields(self)]
        return _Step(*(np.append(getattr(self, name), getattr(other, name)) for name in names))


def delay_bin(delays: Ints) -> Ints:
    """Where delays in nanoseconds are counted."""
    fraction, exponent = np.frexp(np.maximum(delays, 0).astype(np.float64))
    return np.where(delays > 0, exponent * 8 + ((fraction - 0.5) * 16).astype(np.int64), 0)


def delay_edges() -> Floats:
    """The bounds of the delays' bins, in seconds."""
    places = np.arange(DELAY_BINS + 1)
    return np.ldexp((places % 8 / 16) + 0.5, places // 8) / 1e9


def _highest(values: Ints, where: Mask, before: int) -> Ints:
    """For each row the highest value up to there, of those marked, and of ``before``."""
    return np.maximum(np.maximum.accumulate(np.where(where, values, before)), before)
