# SPDX-License-Identifier: GPL-2.0-or-later
"""What a report counts: against a slow model, and at sizes where memory must not grow."""

from __future__ import annotations

import sys
from itertools import pairwise

import numpy as np
import pytest
from helpers.report_model import Event, model
from helpers.reporting import collected, timeline_of
from helpers.slow_dumps import Way, seen
from helpers.traffic import Dump, header
from hypothesis import given, settings
from hypothesis import strategies as st

from scapy_netdump import formats
from scapy_netdump.core.observing.messages import Acks, Messages
from scapy_netdump.report.bins import BINS, NOTHING_HIGH, NOTHING_LOW
from scapy_netdump.report.matching import SLOTS
from scapy_netdump.report.timeline import (
    DELAY_BINS,
    MAX_STALLS,
    Phase,
    Timeline,
    delay_bin,
    delay_edges,
)

MS = 1_000_000


def columns(events, first=0):
    """Events as a timeline takes them; times as seconds that come out as the same nanoseconds."""
    order = np.arange(first, first + len(events))
    sent = [row for row, event in enumerate(events) if event.type]
    acked = [row for row, event in enumerate(events) if not event.type]
    table = np.array(events, np.int64).reshape(-1, 5)
    of_sent, of_acked = table[sent], table[acked]
    none = np.zeros(len(sent), np.int64)
    start, end = of_sent[:, 3], of_sent[:, 3] + of_sent[:, 4]
    messages = Messages(order[sent], none, of_sent[:, 2], of_sent[:, 1], start, end, end, none)
    acks = Acks(order[acked], np.zeros(len(acked), np.int64), of_acked[:, 1])
    return messages, of_sent[:, 0] / 1e9, acks, of_acked[:, 0] / 1e9


def timeline(events, cuts=()):
    found = Timeline(0.0)
    edges = [0, *sorted(cut for cut in set(cuts) if 0 < cut < len(events)), len(events)]
    for begin, end in pairwise(edges):
        found.take(*columns(events[begin:end], begin))
    found.finish()
    return found


@st.composite
def some_events(draw):
    """Messages and acks of few numbers, some of which share a slot, with pauses of all sizes."""
    pauses = st.sampled_from([0, 1, 1000, MS, 4 * MS, 6 * MS, 150 * MS, 900 * MS, -3 * MS])
    numbers = st.sampled_from([0, 1, 2, 3, 4, 5, 6, SLOTS + 1, SLOTS + 2])
    time, events = 0, []
    for _ in range(draw(st.integers(0, 40))):
        time = max(0, time + draw(pauses))
        seqno = draw(numbers)
        if draw(st.booleans()):
            kind = draw(st.sampled_from([formats.VMCORE] * 4 + [formats.KDH, formats.FINISHED]))
            start = draw(st.sampled_from([seqno * 512, seqno * 1000, 7]))
            events.append(Event(time, seqno, kind, start, draw(st.integers(0, 2000))))
        else:
            events.append(Event(time, seqno))
    return events


@given(some_events(), st.lists(st.integers(0, 40), max_size=5))
def test_all_numbers_are_those_of_the_slow_model_however_the_capture_is_cut(events, cuts):
    found, slow = timeline(events, cuts), model(events)
    assert found.totals == slow.totals
    assert found.end == (slow.events[-1].event.time if slow.events else 0)
    assert sum(found.totals.phases) == found.end
    assert sorted(map(tuple, found.stalls)) == sorted(slow.stalls)
    assert_delays(found, slow)
    assert_bins(found, slow)


def assert_delays(found, slow):
    for counts, late in ((found.delays, False), (found.late_delays, True)):
        delays = [one.delay for one in slow.events if one.delay is not None and one.late is late]
        assert counts.sum() == len(delays)
        edges = delay_edges()
        for delay in delays:
            place = int(delay_bin(np.array([delay]))[0])
            assert counts[place]
            assert edges[place] * 1e9 <= max(delay, 0.6) < edges[place + 1] * 1e9 or delay == 0


def assert_bins(found, slow):
    """Each bin has what fell into it."""
    width = found.bins.width
    expected: dict[str, dict[int, int]] = {}

    def add(name, time, value):
        row = expected.setdefault(name, {})
        row[time // width] = row.get(time // width, 0) + int(value)

    for one in slow.events:
        event, data = one.event, one.event.type == formats.VMCORE
        add("messages", event.time, event.type > 0)
        add("again", event.time, one.again)
        add("overtaken", event.time, one.overtaken)
        add("answers", event.time, one.delay is not None)
        add("new_bytes", event.time, event.size * (data and not one.again))
        add("again_bytes", event.time, event.size * (data and one.again))
        begin = event.time - one.pause
        while begin < event.time:
            upto = min(event.time, (begin // width + 1) * width)
            add(one.phase.name, begin, upto - begin)
            add("flight_time", begin, (upto - begin) * min(one.before, 1 << 16))
            begin = upto
    for name, row in expected.items():
        held = found.bins[name]
        assert {at: held[at] for at in np.flatnonzero(held).tolist()} == {
            at: value for at, value in row.items() if value
        }, name
    assert_extremes(found, slow, width)


def assert_extremes(found, slow, width):
    new = [one.event for one in slow.events if one.event.type == formats.VMCORE and not one.again]
    for at in range(BINS):
        here = [event for event in new if event.time // width == at]
        high = max((event.start + event.size for event in here), default=NOTHING_HIGH)
        low = min((event.start for event in here), default=NOTHING_LOW)
        assert (found.bins["offset_high"][at], found.bins["offset_low"][at]) == (high, low)
        if not new or at > new[-1].time // width:
            break
    for at in {one.event.time // width for one in slow.events}:
        flights = [one.in_flight for one in slow.events if one.event.time // width == at]
        assert found.bins["in_flight"][at] == max(flights)


def test_delays_are_counted_between_their_edges():
    delays = np.unique(np.geomspace(1, 1 << 60, 5000).astype(np.int64))
    place = delay_bin(delays)
    edges = np.rint(delay_edges() * 1e9 * 16) / 16  # sixteenths of a nanosecond are exact here
    assert place.max() < DELAY_BINS
    small = delays < 1 << 40
    assert (edges[place[small]] <= delays[small]).all()
    assert (delays[small] < edges[place[small] + 1]).all()


def chunks(count, first_chunk, payload=1448, messages=46, chunk=1 << 16):
    """Columns of some chunks of the kernel's, all numpy: a chunk a millisecond, its messages in
    the first half and its acks in the second."""
    place = np.arange(count * messages)
    number, within = place // messages + first_chunk, place % messages
    seqno = number * messages + within + 2
    start = number * chunk + within * payload
    end = np.minimum(start + payload, (number + 1) * chunk)
    none = np.zeros_like(place)
    row = (number * 2) * messages + within
    time = number * 1e-3 + within * 1e-5
    kind = np.full_like(place, formats.VMCORE)
    messages_ = Messages(row, none, kind, seqno & 0xFFFFFFFF, start, end, end, none)
    acks = Acks(row + messages, none, seqno & 0xFFFFFFFF)
    return messages_, time, acks, time + 5e-4


def test_totals_of_64_gigabytes_are_exact_in_constant_memory():
    """A million chunks would take a while: of each 2048 only the first two are shown; the offsets
    and the time go on as if the rest had come."""
    found = Timeline(0.0)
    sizes = set()
    batches, skipped, count = 512, 2048, 2
    for turn in range(batches):
        found.take(*chunks(count, turn * skipped))
        if turn % 64 == 63:
            sizes.add(held_bytes(found))
    found.finish()
    totals = found.totals
    assert totals.new_bytes == batches * count << 16
    assert totals.messages == totals.answers == batches * count * 46
    assert totals.again == totals.overtaken == totals.copies == 0
    assert totals.chunks == batches * count
    assert found.end == pytest.approx((511 * 2048 + 1) * MS + 950_000, abs=1000)
    assert sum(totals.phases) == found.end
    for name in ("new_bytes", "messages", "answers"):
        assert found.bins[name].sum() == getattr(totals, name)
    for phase in Phase:
        assert found.bins[phase.name].sum() == totals.phases[phase]
    assert found.bins["offset_high"].max() == (511 * 2048 + 2) << 16
    assert totals.stalls[Phase.BETWEEN] == 511
    assert len(found.stalls) == MAX_STALLS
    assert BINS // 2 <= found.end // found.bins.width < BINS
    assert max(sizes) < 2_000_000


def held_bytes(found):
    """What a timeline holds in arrays and lists."""
    seen, left, size = set(), [found], 0
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, np.ndarray):
            size += one.nbytes
        elif isinstance(one, dict):
            left += one.values()
        elif isinstance(one, list | tuple):
            size += sys.getsizeof(one)
            left += one
        elif hasattr(one, "__dict__"):
            left += vars(one).values()
        elif hasattr(one, "__slots__"):
            left += (getattr(one, name) for name in one.__slots__ if hasattr(one, name))
    return size


def test_acks_without_end_are_not_kept():
    found = Timeline(0.0)
    found.take(*columns([Event(0, 1, formats.VMCORE, 0, 100)]))
    for turn in range(20):
        acks = [Event(turn * MS, 1) for _ in range(10_000)]
        found.take(*columns(acks, 1 + turn * 10_000))
    assert held_bytes(found) < 12_000_000
    found.finish()
    assert found.totals.answers == 1
    assert found.end == 19 * MS


def test_the_wildest_times_do_no_harm():
    found = Timeline(0.0)
    messages, _, acks, _ = columns([Event(0, n, formats.VMCORE, 0, 9) for n in range(4)])
    wild = np.array([1e300, float("nan"), float("-inf"), 3.0])
    found.take(messages, wild, acks, np.empty(0))
    found.finish()
    assert found.totals.messages == 4
    assert sum(found.totals.phases) == found.end == 1 << 60


def test_time_begins_with_the_herald():
    dump = Dump(vmcore=bytes(10_000), kdh=header(10_000))
    found = timeline_of(seen(dump, Way(start=0.25)))
    assert found.heralded
    assert found.totals.phases[Phase.START] == pytest.approx(250 * MS, rel=0.01)
    headless = [one for one in seen(dump, Way()) if one.dport != formats.HERALD_PORT]
    assert not timeline_of(headless).heralded


def test_captures_that_follow_each_other_are_one_view_and_two_sides_are_two():
    dump = Dump(vmcore=bytes(200_000), kdh=header(200_000))
    client, server = (seen(dump, Way(at=at)) for at in ("client", "server"))
    half = len(client) // 2
    (split,) = collected(client[:half], client[half:])
    (view,) = split.views
    whole = timeline_of(client)
    assert view.captures == ["capture 0", "capture 1"]
    assert view.timeline.totals == whole.totals
    (both,) = collected(client, server)
    assert [view.captures for view in both.views] == [["capture 0"], ["capture 1"]]
    assert both.views[0].timeline.totals == whole.totals
    assert both.views[1].timeline.totals.messages == whole.totals.messages


@settings(max_examples=20)
@given(st.lists(st.integers(1, 400), max_size=6))
def test_the_collector_gives_the_same_however_the_capture_is_cut(cuts):
    traffic = seen(Dump(vmcore=bytes(150_000), kdh=header(150_000)), Way(lost=0.05, seed=3))
    assert timeline_of(traffic, cuts).totals == timeline_of(traffic).totals
