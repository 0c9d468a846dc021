# SPDX-License-Identifier: GPL-2.0-or-later
"""Which ack answers which message, and which messages were sent again.

One slot for each of the last sequence numbers, so that the memory is bounded. A batch is
sorted by slot; within a slot the latest message says what the events behind it are about.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from ..core.observing.batch import Ints, Mask

#: A message is known until one comes whose number is a multiple of this ahead. The kernel has
#: at most 64 KiB in flight, 126 messages at the smallest MTU that is common (576).
SLOTS = 1 << 13

#: A message that comes again so soon is a copy that the network or the capture made: clients
#: wait longer before they send again (the kernel a second, PROTOCOL.md). Nanoseconds.
COPY_NS = 5_000_000

#: How a message was acked first: after it was sent once, or after it was sent again.
_UNACKED, _ACKED_ONCE, _ACKED_LATE = range(3)


@dataclass(frozen=True, slots=True)
class Events:
    """Messages and acks of a dump, in the order of the capture. ``time`` is in nanoseconds;
    ``what`` tells messages of the same number apart, and has no meaning for acks."""

    time: Ints
    is_ack: Mask
    seqno: Ints
    what: Ints


@dataclass(frozen=True, slots=True)
class Matched:
    """What each event is.

    Messages: a ``copy`` of the one before, sent ``again``, or new; ``acked_before`` if again
    though the ack had been seen. Acks: ``answer`` is the first ack of a message, ``delay`` ns
    after the message was sent first, ``late`` if it was sent again before; ``echo`` is another
    ack, ``vain`` if the answer was late: then the message was sent again though it had arrived.
    An ack that is neither has no message.
    """

    copy: Mask
    again: Mask
    acked_before: Mask
    answer: Mask
    late: Mask
    delay: Ints
    echo: Mask
    vain: Mask

    def __getitem__(self, rows: Ints) -> Matched:
        return Matched(*(getattr(self, column.name)[rows] for column in fields(self)))


class Outstanding:
    """The last messages by number: when each was sent first, how often, and whether acked."""

    def __init__(self) -> None:
        self._seqno = np.full(SLOTS, -1, np.int64)
        self._what, self._time, self._latest = np.zeros((3, SLOTS), np.int64)
        self._sent, self._state = np.zeros((2, SLOTS), np.int64)

    def match(self, events: Events) -> Matched:
        """What some events are; afterwards they are known."""
        known = np.unique(events.seqno & SLOTS - 1)
        known = known[self._seqno[known] >= 0]
        held = len(known)
        none = np.zeros_like(events.seqno)
        seqno = np.concatenate((self._seqno[known], events.seqno))
        by_slot = np.argsort((seqno & SLOTS - 1).astype(np.uint16), kind="stable")
        is_ack = np.concatenate((np.zeros(held, np.bool_), events.is_ack))
        columns = (
            (self._what, events.what),
            (self._time, events.time),
            (self._latest, events.time),
            (self._sent, (~events.is_ack).astype(np.int64)),
            (self._state, none),
        )
        rest = [np.concatenate((before[known], column))[by_slot] for before, column in columns]
        group = _Group(seqno[by_slot], is_ack[by_slot], *rest)
        self._keep(group)
        back = np.empty_like(by_slot)
        back[by_slot] = np.arange(len(by_slot))
        return group.matched[back[held:]]

    def _keep(self, group: _Group) -> None:
        last = group.last[group.message[group.last] >= group.begin[group.last]]
        message = group.message[last]
        slot = group.seqno[message] & SLOTS - 1
        self._seqno[slot] = group.seqno[message]
        self._what[slot] = group.what[message]
        self._time[slot] = group.time[message]
        self._latest[slot] = group.latest[group.sending[last]]
        self._sent[slot] = np.minimum(group.sent[last], 2)
        self._state[slot] = group.acked[last]


class _Group:
    """Events in the order of their slots, what is held of each slot before its events.

    For each row: ``begin`` is the first row of its slot, ``message`` the row where the message
    that it is about was sent first, ``sending`` where last, ``sent`` how often up to here,
    ``acked`` how it stands. ``latest`` is the time of the last copy where ``time`` is the first's.
    """

    def __init__(
        self,
        seqno: Ints,
        is_ack: Mask,
        what: Ints,
        time: Ints,
        latest: Ints,
        sent: Ints,
        state: Ints,
    ) -> None:
        row = np.arange(len(seqno))
        slot = seqno & SLOTS - 1
        first = np.diff(slot, prepend=-1) != 0
        self.seqno, self.what, self.time, self.latest = seqno, what, time, latest
        self.begin = _latest(row, first)
        self.last = np.append(np.flatnonzero(first)[1:] - 1, len(row) - 1)
        self.sending = _latest(row, ~is_ack)
        before = np.append(-1, self.sending[:-1])
        repeated = ~is_ack & (before >= self.begin)
        repeated &= (seqno == seqno[before]) & (what == what[before])
        copy = repeated & (time - latest[before] < COPY_NS)
        again = repeated & ~copy
        self.message = about = _latest(row, ~is_ack & ~repeated)
        matched = is_ack & (about >= self.begin) & (seqno == seqno[about])
        sent = np.where(copy, 0, sent)
        self.sent = np.cumsum(sent)
        self.sent += sent[about] - self.sent[about]
        acks = np.cumsum(matched)
        acks -= acks[about]  # of this message, up to here
        answer = matched & (acks == 1) & (state[about] == _UNACKED)
        answered = _latest(row, answer)
        late = np.where(self.sent > 1, _ACKED_LATE, _ACKED_ONCE)[answered]
        self.acked = np.where(answered > about, late, state[about])
        echo = matched & ~answer
        self.matched = Matched(
            copy=copy,
            again=again,
            acked_before=again & (self.acked != _UNACKED),
            answer=answer,
            late=answer & (self.sent > 1),
            delay=np.where(answer, time - time[about], 0),
            echo=echo,
            vain=echo & (self.acked == _ACKED_LATE),
        )


def _latest(row: Ints, where: Mask) -> Ints:
    """For each row the latest one, itself included, that is marked; -1 before there is one."""
    return np.maximum.accumulate(np.where(where, row, -1))
