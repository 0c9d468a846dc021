# SPDX-License-Identifier: GPL-2.0-or-later
"""The numbers of a timeline as rows of a table."""

from __future__ import annotations

from .numbers import median_of, rate_text, share_text, size_text, time_text
from .timeline import Timeline


def facts(timeline: Timeline) -> list[tuple[str, str]]:
    """What there is to know of how a dump went: names and values."""
    totals, seconds = timeline.totals, timeline.end / 1e9
    rows = [
        ("time", time_text(seconds)),
        ("data", f"{size_text(totals.new_bytes)}, {rate_text(totals.new_bytes, seconds)}"),
        ("messages", f"{totals.messages}, payloads of up to {size_text(totals.payload)}"),
        ("sent again", _of(totals.again, totals.messages)),
        ("behind later ones", _of(totals.overtaken, totals.messages)),
        ("came twice at once", str(totals.copies)),
        ("acked", _of(totals.answers, totals.messages)),
        ("round trip", _round_trip(timeline)),
        ("most in flight", f"{totals.in_flight} messages"),
        ("stalls", _stalls(timeline)),
    ]
    if totals.chunks > 1:
        size = size_text(totals.new_bytes / totals.chunks)
        rows.append(("chunks", f"{totals.chunks}, of {size} on average"))
    return rows


def _of(count: int, whole: int) -> str:
    return f"{count} ({share_text(count, whole)})" if count else "none"


def _round_trip(timeline: Timeline) -> str:
    median = median_of(timeline.delays)
    if median is None:
        return "not seen"
    shortest = timeline.totals.shortest_delay / 1e9
    return f"{time_text(median)} (median), {time_text(shortest)} at best"


def _stalls(timeline: Timeline) -> str:
    count = sum(timeline.totals.stalls)
    if not count:
        return "none"
    stalled = sum(timeline.totals.stalled)
    share = share_text(stalled, timeline.end)
    return f"{count}, {time_text(stalled / 1e9)} together ({share} of the time)"
