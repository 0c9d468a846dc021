# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether what was seen twice is one dump: the evidence, and one place where it is weighed.

Addresses and ports find candidates, and never decide. The same rule serves a server that hears a
HERALD again, a capture in which a client begins again, captures that are given together, and a
dump that is on the disk already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from ..kerneldump.header import DumpHeader
from ..text import counted

#: A machine needs this long to boot again; nor should the clocks of two capturing hosts differ
#: by more. Seconds.
REBOOT_TIME = 60.0

#: A server gives up a client that is silent for so long (netdumpd), so that no dump has such a
#: pause in it. Seconds.
LONGEST_PAUSE = 600.0

#: A client that waits for acks is not silent for so long: it sends again, the kernel's every
#: second. Seconds.
LONG_SILENCE = 2.0

#: A client sends again from the stretch that it has in flight (the kernel: 64 KiB). One that
#: goes back to its first message after more bytes than this has begun another dump.
RESEND_WINDOW = 1 << 20

#: Bytes that two sightings of which one has no header must have in common, zeros not counted, to
#: be taken for one dump where nothing else tells. The first page of two dumps of one machine is
#: the same, but holds fewer than these.
MIN_AGREEING = 512

#: Bytes in common, and the part of both dumps that they are in, that leave no doubt. The text of a
#: kernel alone, or what two dumps of one machine begin with, is less of them; and so much in common
#: without a byte that differs would have the message buffer in it, in which each boot differs.
MUCH_AGREEING, MOST_OF_BOTH = 1 << 16, 0.75

#: Fields of a header that a person would look at first.
_TELLING = ("hostname", "dumptime", "panicstring", "dumplength")


#: What a HERALD says: its number and its path.
Words = tuple[int, bytes]


class Way(Enum):
    """How two sightings came: whether the way itself speaks for one dump."""

    SAME = "the same client port, server and server port"
    OTHER = "another port, which a server takes for another dump"
    UNKNOWN = "nothing is known of it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of two sightings, an earlier and a later one, that may be of one dump.

    ``headers`` are the 512 bytes of each where they are sound, ``keys`` as much as came of each.
    ``agreeing`` and ``differing`` count bytes that both have; zeros do not agree. ``shared`` is the
    part of the larger one that both have, between 0 and 1. ``apart`` is the time between them in
    seconds, 0 if they overlap, None if not known. ``finished``: the earlier one had its FINISHED.
    ``beyond``: one has messages numbered behind the FINISHED of the other. ``heralded``: a HERALD
    lies between them. ``announced``: what the HERALD of each said, if it is known.
    ``begins_again``: the later one starts with a client's first messages. ``goes_on``: it starts
    with the very next number and byte. ``sent``: bytes of the earlier one that were seen.
    ``otherwise``: messages, or pages, that came again and are mostly other bytes. ``misplaced``:
    messages of one number that are for different places. ``one_clock``: one capture shows both, so
    that their order in time is sure. ``told``: what is known of each from its info file, by that
    file's names. ``ends``: how far the bytes of each go.
    """

    headers: tuple[bytes | None, bytes | None] = (None, None)
    keys: tuple[bytes, bytes] = (b"", b"")
    agreeing: int = 0
    differing: int = 0
    shared: float = 0.0
    apart: float | None = None
    finished: bool = False
    beyond: bool = False
    heralded: bool = False
    announced: tuple[Words | None, Words | None] = (None, None)
    begins_again: bool = False
    goes_on: bool = False
    sent: int = 0
    otherwise: int = 0
    misplaced: int = 0
    one_clock: bool = True
    told: tuple[Mapping[str, str], Mapping[str, str]] = field(default=({}, {}))
    ends: tuple[int, int] = (0, 0)
    way: Way = Way.UNKNOWN


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether two sightings are ``one`` dump (None: the evidence does not tell), and why. That they
    are is ``sure`` where the dump itself says so."""

    one: bool | None
    reason: str
    sure: bool = False


def judge(evidence: Evidence) -> Judgement:
    """Weigh the evidence: what the dump itself says counts before when and how it came."""
    return (
        _by_content(evidence)
        or _by_order(evidence)
        or _by_way(evidence)
        or Judgement(
            None, f"too few bytes in common to tell that it is the same dump: {evidence.agreeing}"
        )
    )


def _another(reason: str) -> Judgement:
    return Judgement(False, f"another dump: {reason}")


def _by_content(evidence: Evidence) -> Judgement | None:
    """What headers, keys and bytes say."""
    mine, other = evidence.keys
    size = min(len(mine), len(other))
    if mine[:size] != other[:size]:
        return _another("its key differs")
    first, second = evidence.headers
    if first is not None and second is not None and first != second:
        return _another(difference(DumpHeader.unpack(first), DumpHeader.unpack(second)))
    for name, mine_told in evidence.told[0].items():
        if evidence.told[1].get(name, mine_told) != mine_told:
            return _another(f"{name} is {mine_told} first, {evidence.told[1][name]} second")
    same_header = first is not None and first == second
    if evidence.differing > evidence.agreeing:
        differing = counted(evidence.differing, "byte")
        but = "its header is the same, but " if same_header else ""
        return _another(f"{but}{differing} of it differ, {evidence.agreeing} agree")
    if same_header:  # and with it the time of the panic
        return Judgement(True, "the same dump header", sure=True)
    return _by_length(evidence)


def _by_length(evidence: Evidence) -> Judgement | None:
    """Whether one goes on where the header of the other has its end."""
    for header, end in zip(evidence.headers, reversed(evidence.ends), strict=True):
        known = DumpHeader.unpack(header) if header is not None else None
        if known is not None and end > known.dumplength + known.padding:
            return _another(f"{end} bytes, where the header tells {known.dumplength}")
    return None


def _by_order(evidence: Evidence) -> Judgement | None:
    """What a client does at the beginning and at the end of a dump says."""
    apart = evidence.apart or 0.0
    if evidence.otherwise > 1 and (evidence.one_clock or evidence.begins_again):
        return _another(f"{evidence.otherwise} messages of it came again with other bytes")
    if evidence.misplaced > 1:
        return _another(f"{evidence.misplaced} of its numbers stand for other places")
    if None not in evidence.announced and evidence.announced[0] != evidence.announced[1]:
        return _another("its HERALD has other words")
    if _leaves_no_doubt(evidence):
        return _in_common(evidence, sure=True)
    if evidence.beyond and apart > LONG_SILENCE:
        return _another("it goes on behind the number of a FINISHED")
    agreeing = evidence.agreeing >= MIN_AGREEING and not evidence.differing
    if agreeing and not evidence.one_clock and apart <= REBOOT_TIME:
        return _in_common(evidence)
    if evidence.finished and (evidence.begins_again or evidence.heralded):
        return _another("it began when this one was finished")
    if apart > LONGEST_PAUSE and not (evidence.goes_on and evidence.one_clock):
        return _another(f"{apart:.0f} s lie between, longer than a server waits")
    if apart > REBOOT_TIME and (evidence.begins_again or evidence.heralded):
        return _another(f"it began {apart:.0f} s later, time enough to boot")
    common = evidence.agreeing + evidence.differing
    if evidence.begins_again and apart > LONG_SILENCE and (evidence.heralded or not common):
        return _another(f"it began again after a silence of {apart:.0f} s")
    if evidence.begins_again and evidence.sent > RESEND_WINDOW:
        return _another(f"it began again after {evidence.sent} bytes")
    return None


def _by_way(evidence: Evidence) -> Judgement | None:
    """What the addresses and ports add, where nothing speaks against one dump."""
    if evidence.way is Way.SAME and evidence.apart is not None:
        return Judgement(True, "the same client, server and port, at the same time")
    if evidence.differing:
        return _another(f"{counted(evidence.differing, 'byte')} of it differ")
    if evidence.way is not Way.OTHER and evidence.agreeing >= MIN_AGREEING:
        return _in_common(evidence)
    return None


def _leaves_no_doubt(evidence: Evidence) -> bool:
    """Whether the bytes in common leave none, whatever the clocks say. Ciphertext is of one dump:
    each boot has a key of its own (dumpon(8))."""
    if evidence.differing:
        return False
    if any(evidence.keys) and evidence.shared:
        return evidence.agreeing >= MIN_AGREEING
    return evidence.agreeing >= MUCH_AGREEING and evidence.shared >= MOST_OF_BOTH


def _in_common(evidence: Evidence, *, sure: bool = False) -> Judgement:
    reason = f"{evidence.agreeing} bytes in common, and none that differs"
    return Judgement(True, reason, sure)


def difference(first: DumpHeader, second: DumpHeader) -> str:
    """The first field, of those that a person would look at, in which two headers differ."""
    mine, other = first.as_dict(), second.as_dict()
    for name in (*_TELLING, *mine):
        if mine[name] != other[name]:
            return f"{name} is {mine[name]} first, {other[name]} second"
    return "the headers differ"
