# SPDX-License-Identifier: GPL-2.0-or-later
"""Which sightings are of one dump: of all captures, whatever the order in which they were given.

A capture that was cut into files shows parts of a dump one after the other, two taps show the same
part. Sightings are taken in the order of their time; each goes to the dump that its evidence
fits, or is another one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from ..extents import total, union
from ..identity import (
    LONG_SILENCE,
    LONGEST_PAUSE,
    MIN_AGREEING,
    REBOOT_TIME,
    Evidence,
    Judgement,
    Way,
    Words,
    judge,
)
from ..seqnos import ahead
from .disputes import Prefer
from .observed_dump import IN_FLIGHT, ObservedDump, both, tally

#: Bytes of two sightings that are compared at most to tell whether they are of one dump.
MOST_COMPARED = 1 << 26

#: What is compared is taken by pages: those of which more bytes differ than agree are counted.
_PAGE = 1 << 12

Group = list[ObservedDump]


def join(sightings: Sequence[ObservedDump], prefer: Prefer) -> list[ObservedDump]:
    """The dumps that sightings are of, in the order of their time: each one put together from its
    sightings. Of different bytes those stay that ``prefer`` tells: of the capture that was given
    first or last, or of the sighting whose time is first."""
    ordered = sorted(sightings, key=_in_time)
    dumps = []
    by_peer = sorted(ordered, key=lambda sighting: sighting.peer)
    for _, of_peer in groupby(by_peer, key=lambda sighting: sighting.peer):
        for group in _group(list(of_peer)):
            _doubt_silences(group)
            group.sort(key=_by_preference(prefer))
            dump, *others = group
            for other in others:
                dump.absorb(other)
            dump.conclude()
            dumps.append(dump)
    return sorted(dumps, key=_in_time)


def _doubt_silences(group: Group) -> None:
    """Between the sightings of one dump its client may have been silent."""
    furthest: ObservedDump | None = None
    for part in sorted((one for one in group if one.data_came), key=_in_time):
        again = furthest is not None and furthest.account.finished and not part.has_numbers
        if furthest is not None and not again:
            silence = part.first_time - furthest.last_time
            part.goes_on_with(part.first_seqno, furthest.furthest, silence)
        if furthest is None or part.last_time > furthest.last_time:
            furthest = part


def _in_time(sighting: ObservedDump) -> tuple[Any, ...]:
    account = sighting.account
    content = tuple(account.vmcore), account.kdh, sighting.messages
    return sighting.first_time, sighting.place, sighting.peer, sighting.server_port, content


def _by_preference(prefer: Prefer) -> Callable[[ObservedDump], tuple[Any, ...]]:
    """The key to sort sightings by of which the first one's bytes stay."""
    if prefer is Prefer.FIRST:
        return lambda sighting: (sighting.capture, *_in_time(sighting))
    if prefer is Prefer.LAST:
        return lambda sighting: (-sighting.capture, *_in_time(sighting))
    return lambda sighting: (sighting.first_time, not sighting.acked_here, *_in_time(sighting))


def _group(sightings: Sequence[ObservedDump]) -> list[Group]:
    """The sightings of each dump of one client and server."""
    groups: list[Group] = []
    lone = [sighting for sighting in sightings if not sighting.data_came]
    for sighting in sightings:
        if sighting.data_came:
            found = None if sighting.possibly is not None else _group_of(sighting, groups)
            if found is None:
                groups.append([sighting])
            else:
                found.append(sighting)
    groups = _put_together(_with_undecided(groups))
    for herald in lone:
        announced = _announced(herald, groups)
        if announced is None:
            groups.append([herald])
        else:
            announced.append(herald)
    return groups


def _group_of(sighting: ObservedDump, groups: Sequence[Group]) -> Group | None:
    """The dump that a sighting is of; of several for which the evidence speaks that for which most
    of it does, or the latest."""
    found, best = None, tuple[bool, ...]()
    for group in reversed(groups):
        if _in_one_capture(group, [sighting]) or not _one_way(group, [sighting]):
            continue
        evidence = _evidence(group, [sighting])
        judgement = _judged(group, [sighting], evidence)
        weight = judgement.sure, *_weight(evidence)
        if judgement.one and weight > best:
            found, best = group, weight
        if judgement.sure:
            break
    return found


def _weight(evidence: Evidence) -> tuple[bool, ...]:
    """What speaks for one dump rather than another that it may be, too: bytes in common count
    before time where clocks may differ so much, and behind it where they may not."""
    apart, agreeing = evidence.apart or 0.0, evidence.agreeing >= MIN_AGREEING
    at_once = apart <= LONG_SILENCE
    return at_once and evidence.goes_on, agreeing and apart <= REBOOT_TIME, at_once, agreeing


def _in_one_capture(group: Group, others: Group) -> bool:
    return bool({part.capture for part in group} & {part.capture for part in others})


def _with_undecided(groups: list[Group]) -> list[Group]:
    """Sightings of which their capture did not tell whether they are a part of the dump before:
    what has been added to them tells, or nothing does."""
    result: list[Group] = []
    for group in groups:
        possibly = group[0].possibly
        before = next((other for other in result if possibly in other), None)
        if before is not None and _judged(before, group).one:
            before += group
        else:
            result.append(group)
    return result


def _put_together(groups: list[Group]) -> list[Group]:
    """The dumps of which only all parts together tell that they are one, as where two captures
    that were cut into files have clocks that differ."""
    result: list[Group] = []
    for group in groups:
        for before in reversed(result):
            if not _in_one_capture(before, group) and _judged(before, group).sure:
                before += group
                break
        else:
            result.append(group)
    return result


def _one_way(group: Group, others: Group) -> bool:
    return group[0].server_port == others[0].server_port


def _judged(group: Group, others: Group, evidence: Evidence | None = None) -> Judgement:
    """Whether an earlier dump and a later one are one, by what is known of them."""
    if not _one_way(group, others):
        return Judgement(False, "another port")
    evidence = evidence or _evidence(group, others)
    if len(others) == 1 and _brings_nothing(group, others[0], evidence):
        return Judgement(True, "it brings nothing that is not here")
    return judge(evidence)


def _evidence(group: Group, others: Group) -> Evidence:
    """What is known of an earlier dump and a later one."""
    first, last = _lowest(group), max(group, key=lambda part: part.last_time)
    later = others[0]
    apart = max(0.0, min(part.first_time for part in others) - last.last_time)
    agreeing, differing, otherwise = _compare(group, others)
    one_clock = later.possibly is not None
    comes_later = apart > 0 and not (not one_clock and _comes_before(later, first, apart))
    pairs = [(part, other) for part in group for other in others]
    return Evidence(
        misplaced=sum(part.misplaced(other) for part, other in pairs),
        headers=(_header(group), _header(others)),
        keys=(_key(group), _key(others)),
        agreeing=agreeing,
        differing=differing,
        otherwise=otherwise,
        shared=0.0 if one_clock else _shared(group, others),
        apart=apart,
        finished=comes_later and any(part.account.finished for part in group),
        beyond=_goes_beyond(group, others) or _goes_beyond(others, group),
        heralded=comes_later and later.account.heralded,
        announced=(_words(group), _words(others)),
        begins_again=comes_later and first.begins_again(later.first_seqno, later.begun),
        goes_on=_goes_on(last, later),
        sent=sum(part.account.vmcore.total for part in group),
        one_clock=one_clock,
        way=Way.SAME,
    )


def _brings_nothing(group: Group, later: ObservedDump, evidence: Evidence) -> bool:
    """Whether a sighting of which its capture did not tell whether it is of the dump before has
    nothing that this does not have."""
    inside = sum(total(both(part, later)) for part in group)
    over = any(part.is_over(later.words, evidence.apart or 0.0) for part in group)
    known = later.possibly is not None and not (evidence.differing or over)
    return known and inside >= later.account.vmcore.total


def _lowest(group: Group) -> ObservedDump:
    """The part of a dump that has its lowest number."""
    origin = group[0].first_seqno
    return min(group, key=lambda part: ahead(part.first_seqno, origin))


def _comes_before(later: ObservedDump, first: ObservedDump, apart: float) -> bool:
    """Whether what was seen later ends right where the other begins: then a clock was set back
    between two files of a capture."""
    near = 0 < ahead(first.first_seqno, later.furthest) <= IN_FLIGHT
    return near and not first.begun and apart <= REBOOT_TIME


def _goes_on(last: ObservedDump, later: ObservedDump) -> bool:
    """Whether a sighting begins with the next message of another one."""
    start = next(iter(later.account.vmcore), (None, None))[0]
    return ahead(later.first_seqno, last.furthest) == 1 and start == last.account.end


def _goes_beyond(group: Group, others: Group) -> bool:
    """Whether the one has messages with higher numbers than the FINISHED of the other, which has
    more than that."""
    ends = (part.finished_as for part in group if part.has_numbers)
    reached = [part.furthest for part in others if part.has_numbers]
    return any(ahead(come, end) > 0 for end in ends if end is not None for come in reached)


def _shared(group: Group, others: Group) -> float:
    """How much of the dump of which more is here, and of the other one, both have."""
    here = [union(*(part.account.vmcore for part in parts)) for parts in (group, others)]
    inside = sum(total(here[0].present(start, end)) for start, end in here[1])
    return inside / max(here[0].total, here[1].total, 1)


def _header(group: Group) -> bytes | None:
    sound = (part.account.sound_kdh for part in group)
    return next((kdh for kdh in sound if kdh is not None), None)


def _key(group: Group) -> bytes:
    return max((bytes(part.account.key) for part in group), key=len)


def _words(group: Group) -> Words | None:
    return next((part.words for part in group if part.words is not None), None)


def _compare(group: Group, others: Group) -> tuple[int, int, int]:
    """How many bytes of both agree, how many differ, and how many pages mostly differ. Of very
    many bytes some are compared, from all over the dump."""
    pairs = [
        (part, other, piece) for part in group for other in others for piece in both(part, other)
    ]
    size = total(piece for _, _, piece in pairs)
    agreeing = differing = otherwise = 0
    for part, other, (start, end) in pairs[:: max(1, -(-size // MOST_COMPARED))]:
        some, copy = part.storage.read(start, end), other.storage.read(start, end)
        if some is None or copy is None:
            continue
        for at in range(0, len(some), _PAGE):
            same, unlike = tally(some[at : at + _PAGE], copy[at : at + _PAGE])
            agreeing, differing = agreeing + same, differing + unlike
            otherwise += unlike > same
    return agreeing, differing, otherwise


def _announced(herald: ObservedDump, groups: Sequence[Group]) -> Group | None:
    """The dump that a HERALD announced which nothing followed in its capture: the one that begins
    next, or one of which it is a copy."""
    nearest = None
    for group in groups:
        words = _words(group)
        begins, ends = group[0].first_time, max(part.last_time for part in group)
        ports = {part.server_port for part in group if part.data_came}
        if words is None:
            near = -REBOOT_TIME <= begins - herald.first_time <= LONGEST_PAUSE
            fits = near and (not herald.answers or bool(ports & set(herald.answers)))
        else:
            fits = words == herald.words and _is_copy(herald, group, begins, ends)
        distance = abs(begins - herald.first_time)
        if fits and (nearest is None or (words is not None, distance) < nearest[:2]):
            nearest = words is not None, distance, group
    return nearest[2] if nearest is not None else None


def _is_copy(herald: ObservedDump, group: Group, begins: float, ends: float) -> bool:
    """Whether a HERALD in the words of a dump's may be a copy of that."""
    if any(part.capture == herald.capture for part in group):
        return herald.possibly in group
    return begins - REBOOT_TIME <= herald.first_time <= ends + REBOOT_TIME
