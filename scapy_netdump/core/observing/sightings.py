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

from ..extents import total
from ..identity import LONGEST_PAUSE, REBOOT_TIME, Evidence, Way, Words, judge
from .disputes import Prefer
from .messages import ahead
from .observed_dump import ObservedDump, both, tally

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
            dumps.append(dump)
    return sorted(dumps, key=_in_time)


def _doubt_silences(group: Group) -> None:
    """Between the sightings of one dump its client may have been silent."""
    furthest: ObservedDump | None = None
    for part in sorted((one for one in group if one.data_came), key=_in_time):
        if furthest is not None:
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
    groups = _with_undecided(groups)
    for herald in lone:
        announced = _announced(herald, groups)
        if announced is None:
            groups.append([herald])
        else:
            announced.append(herald)
    return groups


def _group_of(sighting: ObservedDump, groups: Sequence[Group]) -> Group | None:
    """The latest dump that a sighting is of."""
    for group in reversed(groups):
        shown = any(part.capture == sighting.capture for part in group)
        if not shown and _are_one(group, [sighting]):
            return group
    return None


def _with_undecided(groups: list[Group]) -> list[Group]:
    """Sightings of which their capture did not tell whether they are a part of the dump before:
    what has been added to them tells, or nothing does."""
    result: list[Group] = []
    for group in groups:
        possibly = group[0].possibly
        before = next((other for other in result if possibly in other), None)
        if before is not None and _are_one(before, group):
            before += group
        else:
            result.append(group)
    return result


def _are_one(group: Group, others: Group) -> bool:
    if group[0].server_port != others[0].server_port:
        return False
    evidence, nothing_new = _evidence(group, others)
    return nothing_new or judge(evidence).one is True


def _evidence(group: Group, others: Group) -> tuple[Evidence, bool]:
    """What is known of an earlier dump and a later one, and whether the later one brings nothing
    that the earlier one, in the same capture, does not have."""
    first, last = group[0], max(group, key=lambda part: part.last_time)
    later = others[0]
    apart = max(0.0, min(part.first_time for part in others) - last.last_time)
    agreeing, differing, otherwise = _compare(group, others)
    inside = sum(total(both(part, other)) for part in group for other in others)
    undecided = len(others) == 1 and later.possibly is not None
    over = any(part.is_over(later.words, apart) for part in group)
    copies = undecided and not (differing or over) and inside >= later.account.vmcore.total
    begins = ahead(later.first_seqno, first.first_seqno) <= 1
    pairs = [(part, other) for part in group for other in others]
    evidence = Evidence(
        misplaced=sum(part.misplaced(other) for part, other in pairs),
        headers=(_header(group), _header(others)),
        keys=(_key(group), _key(others)),
        agreeing=agreeing,
        differing=differing,
        otherwise=otherwise,
        apart=apart,
        finished=apart > 0 and any(part.account.finished for part in group),
        heralded=apart > 0 and later.account.heralded,
        announced=(_words(group), _words(others)),
        begins_again=apart > 0 and begins,
        sent=max(part.account.vmcore.end for part in group),
        one_clock=later.possibly is not None,
        way=Way.SAME,
    )
    return evidence, copies


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
