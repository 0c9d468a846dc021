# SPDX-License-Identifier: GPL-2.0-or-later
"""What a report counts, counted slowly: one event after the other, in plain Python, with every
event kept. To compare scapy_netdump/report/timeline.py with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from scapy_netdump import formats
from scapy_netdump.report.matching import COPY_NS, SLOTS
from scapy_netdump.report.timeline import STALL_NS, Phase, Totals


class Event(NamedTuple):
    """A message, or an ack if it has no type; ``time`` in nanoseconds since the origin."""

    time: int
    seqno: int
    type: int = 0
    start: int = 0
    size: int = 0


@dataclass
class Sent:
    """A message that is known."""

    event: Event
    latest: int
    copies: int = 1
    acks: int = 0
    late: bool = False


@dataclass
class Counted:
    """An event that counts, and what it is."""

    event: Event
    again: bool = False
    acked_before: bool = False
    late: bool = False
    vain: bool = False
    delay: int | None = None
    overtaken: bool = False
    before: int = 0
    in_flight: int = 0
    pause: int = 0
    phase: Phase = Phase.START


@dataclass
class Model:
    """All that there is to count of some events."""

    events: list[Counted] = field(default_factory=list)
    totals: Totals = field(default_factory=Totals)
    stalls: list[tuple[int, int, Phase]] = field(default_factory=list)


def model(events: list[Event]) -> Model:
    found = Model()
    latest = 0
    known: dict[int, Sent] = {}
    for event in events:
        latest = max(latest, event.time)
        counted = _matched(event._replace(time=latest), known, found.totals)
        if counted is not None:
            found.events.append(counted)
    _flights(found.events)
    _phases(found.events)
    _sum(found)
    return found


def _matched(event: Event, known: dict[int, Sent], totals: Totals) -> Counted | None:
    slot = event.seqno % SLOTS
    sent = known.get(slot)
    if sent is not None and sent.event.seqno != event.seqno:
        sent = None
    if not event.type:
        if sent is None:
            return None
        sent.acks += 1
        if sent.acks > 1:
            return Counted(event, vain=sent.late)
        sent.late = sent.copies > 1
        return Counted(event, late=sent.late, delay=event.time - sent.event.time)
    if sent is None or (sent.event.start, sent.event.type) != (event.start, event.type):
        known[slot] = Sent(event, event.time)
        return Counted(event)
    gap, sent.latest = event.time - sent.latest, event.time
    if gap < COPY_NS:
        totals.copies += 1
        return None
    sent.copies += 1
    return Counted(event, again=True, acked_before=sent.acks > 0)


def _flights(events: list[Counted]) -> None:
    in_flight = 0
    sent = data = -1
    acked = events[0].event.seqno - 1 if events else 0
    for one in events:
        one.before = in_flight
        seqno = one.event.seqno
        if not one.event.type:
            acked = max(acked, seqno)
        elif not one.again:
            sent = max(sent, seqno)
            one.overtaken = one.event.type == formats.VMCORE and seqno < data
        if one.event.type == formats.VMCORE:
            data = max(data, seqno)
        in_flight = one.in_flight = max(sent - acked, 0)


def _phases(events: list[Counted]) -> None:
    then = None  # the message that comes next
    for place in reversed(range(len(events))):
        one = events[place]
        after_ack = place > 0 and not events[place - 1].event.type
        one.pause = one.event.time - (events[place - 1].event.time if place else 0)
        if one.event.type:
            then = one
            one.phase = Phase.SENDING if one.before else Phase.BETWEEN
            if one.again or one.overtaken:
                one.phase = Phase.RESEND
        elif then is not None and then.phase is Phase.SENDING:
            one.phase = Phase.SENDING
        else:
            one.phase = Phase.MORE_ACKS if after_ack else Phase.FIRST_ACK
    if events:
        events[0].phase = Phase.START


def _sum(found: Model) -> None:
    totals = found.totals
    for one in found.events:
        event = one.event
        data = event.type == formats.VMCORE
        totals.phases[one.phase] += one.pause
        way = totals.shortest_delay * 4 if totals.answers - totals.late else 0
        if one.pause > max(STALL_NS, way):
            totals.stalls[one.phase] += 1
            totals.stalled[one.phase] += one.pause
            found.stalls.append((event.time - one.pause, event.time, one.phase))
        totals.messages += event.type > 0
        totals.again += one.again
        totals.after_ack += one.acked_before
        totals.overtaken += one.overtaken
        totals.answers += one.delay is not None
        totals.late += one.late
        totals.vain += one.vain
        totals.in_flight = max(totals.in_flight, one.in_flight)
        if one.delay is not None and not one.late:
            totals.shortest_delay = min(totals.shortest_delay, one.delay)
        if data:
            totals.payload = max(totals.payload, event.size)
            totals.again_bytes += event.size * one.again
            totals.new_bytes += event.size * (not one.again)
            totals.chunks += not one.again and one.before == 0 and event.start % 512 == 0
