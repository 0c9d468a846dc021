# SPDX-License-Identifier: GPL-2.0-or-later
"""Why a dump took as long as it did, in a sentence.

The largest share of the time tells. Nothing is said that the capture does not show: where it
was taken is not known, so that a slow server and a slow way to it are one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ..text import counted
from .numbers import median_of, rate_text, share_text, size_text, time_text
from .timeline import Phase, Timeline, Totals


class Cause(Enum):
    """What took most of the time."""

    UNKNOWN = "not known"
    STOP_AND_WAIT = "stop and wait"
    LOSS = "loss"
    SERVER = "slow server"
    CLIENT = "slow client"
    FLOW = "steady flow"
    HERALD = "slow start"


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The cause, and the sentence that says it with its numbers."""

    cause: Cause
    text: str


#: The second share is told if it is this part of the whole, or more.
_WORTH_TELLING = 6

#: With no more in flight than this, messages go one by one.
_ONE_BY_ONE = 1


def diagnose(timeline: Timeline) -> Diagnosis:
    """What a timeline says about the time that its dump took."""
    totals, whole = timeline.totals, timeline.end
    if not totals.messages or not whole:
        return Diagnosis(Cause.UNKNOWN, "The capture shows too little to tell how the time went.")
    if not totals.answers:
        return Diagnosis(
            Cause.UNKNOWN,
            "The capture shows no acks, so that it cannot be told what the client waited for: it "
            f"sent {size_text(totals.new_bytes)} in {time_text(whole / 1e9)}.",
        )
    acks = totals.phases[Phase.FIRST_ACK] + totals.phases[Phase.MORE_ACKS]
    shares = {
        _waiting: acks,
        _losing: totals.phases[Phase.RESEND],
        _pausing: totals.phases[Phase.BETWEEN],
        _sending: totals.phases[Phase.SENDING],
        _starting: totals.phases[Phase.START],
    }
    first, second = sorted(shares, key=lambda key: -shares[key])[:2]
    found = first(timeline, share_text(shares[first], whole))
    if shares[second] * _WORTH_TELLING < whole:
        return found
    also = f" Another {share_text(shares[second], whole)} went by while {_ALSO[second]}."
    return Diagnosis(found.cause, found.text + also)


def _waiting(timeline: Timeline, share: str) -> Diagnosis:
    totals = timeline.totals
    phases = Phase.FIRST_ACK, Phase.MORE_ACKS
    first, more = (totals.phases[phase] for phase in phases)
    stalls = sum(totals.stalls[phase] for phase in phases)
    stalled = sum(totals.stalled[phase] for phase in phases)
    longest = max((s.end - s.begin for s in timeline.stalls if s.phase in phases), default=0)
    if stalled * 2 > first + more:
        return Diagnosis(
            Cause.SERVER,
            f"{share} of the time the client waited for acks, and most of that in "
            f"{counted(stalls, 'pause')} of up to {time_text(longest / 1e9)} without any: the "
            "server, or the way to it, stood still.",
        )
    delay = time_text(median_of(timeline.delays) or 0.0)
    if more * 2 > timeline.end:
        rate = rate_text(totals.new_bytes, (first + more) / 1e9)
        return Diagnosis(
            Cause.SERVER,
            f"{share} of the time the client waited for acks, which came in one after the other: "
            f"the server, or the link to it, took messages at {rate}; an ack came {delay} after "
            "its message (median).",
        )
    return Diagnosis(
        Cause.STOP_AND_WAIT,
        f"{share} of the time the client waited for acks of {_portion(totals)} before it went "
        f"on: round trip {delay} (median), {_pace(timeline)}.",
    )


def _losing(timeline: Timeline, share: str) -> Diagnosis:
    totals = timeline.totals
    pauses, stalled = totals.stalls[Phase.RESEND], totals.stalled[Phase.RESEND]
    waits = f"in {counted(pauses, 'pause')} of {time_text(stalled / pauses / 1e9)} on average, "
    lead = f"{share} of the time the client waited, {waits if pauses else ''}"
    if totals.vain * 2 > totals.again:
        return Diagnosis(
            Cause.SERVER,
            f"{lead}and then sent again what had arrived: {counted(totals.again, 'message')} "
            "again, most of them acked twice. The server, or the way to it, was slower than the "
            "client's patience.",
        )
    again = share_text(totals.again, totals.messages)
    what = f"{counted(totals.again, 'message')} came again ({again})"
    if totals.overtaken:
        what += f" and {totals.overtaken} behind later ones"
    return Diagnosis(
        Cause.LOSS,
        f"{lead}before it sent again what was not acked: {what}. The network lost {_lost(totals)}.",
    )


def _lost(totals: Totals) -> str:
    """What was lost, as far as the place of the capture tells."""
    if totals.after_ack * 2 > totals.again:
        missed = "messages on the way to where this was captured, and " if totals.overtaken else ""
        return f"{missed}acks on the way from there to the client"
    return "messages or acks" if totals.again else "messages before they were captured"


def _pausing(timeline: Timeline, share: str) -> Diagnosis:
    totals = timeline.totals
    pause = totals.phases[Phase.BETWEEN] / max(totals.chunks, 1) / 1e9
    return Diagnosis(
        Cause.CLIENT,
        f"{share} of the time everything was acked and the client had not sent on: "
        f"{time_text(pause)} for each of {counted(totals.chunks, 'chunk')}, {_pace(timeline)}. It "
        "was busy or polling for acks; in a capture from the server's side also the way there "
        "and back.",
    )


def _sending(timeline: Timeline, share: str) -> Diagnosis:
    delay = time_text(median_of(timeline.delays) or 0.0)
    flight = counted(timeline.totals.in_flight, "message")
    return Diagnosis(
        Cause.FLOW,
        f"{share} of the time the client was sending and did not wait for all acks: "
        f"{_pace(timeline)}, with up to {flight} in flight and a round trip of {delay} (median).",
    )


def _starting(timeline: Timeline, share: str) -> Diagnosis:
    start = time_text(timeline.totals.phases[Phase.START] / 1e9)
    return Diagnosis(
        Cause.HERALD,
        f"{share} of the time, {start}, went by between the HERALD and the first message behind "
        "it: the server was slow to answer, or its answer was lost.",
    )


def _portion(totals: Totals) -> str:
    """What was sent before it waited."""
    if totals.in_flight <= _ONE_BY_ONE or not totals.chunks:
        return f"one message of {size_text(totals.payload)}"
    if totals.chunks == 1:
        return f"up to {counted(totals.in_flight, 'message')} in flight"
    return f"a chunk ({size_text(totals.new_bytes / totals.chunks)} on average)"


def _pace(timeline: Timeline) -> str:
    totals = timeline.totals
    return f"{rate_text(totals.new_bytes, timeline.end / 1e9)} in all"


_ALSO = {
    _waiting: "the client waited for acks",
    _losing: "it waited before it sent something again",
    _pausing: "everything was acked and it had not sent on",
    _sending: "it was sending",
    _starting: "the HERALD was not answered",
}
