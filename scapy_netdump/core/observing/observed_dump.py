# SPDX-License-Identifier: GPL-2.0-or-later
"""One dump as far as captures show it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ... import formats
from ..account import Account
from ..extents import Extents, Range, pieces
from ..identity import LONG_SILENCE, REBOOT_TIME, Words
from ..seqnos import SEQNOS, ahead, cannot_be_finished, finished_as, unseen_before
from .acks import AckHistory
from .batch import Bytes, Storage
from .disputes import Prefer
from .heralds import Herald, Peer
from .messages import MAX_OFFSET, Acks, Messages, payload
from .observed_file import ObservedFile
from .stretch import Stretch

#: Messages that a client has in flight, of which some may not have been captured.
IN_FLIGHT = 64

#: A client that sends again what is in flight goes back no further, most of the time. Messages.
USUAL_FALL = 128

#: Numbers of a FINISHED that are remembered; a client has one, and only forgers many.
_MOST_FINISHED = 16


class ObservedDump:
    """A sighting of a dump in one capture, or, once all is read, a dump with all its sightings:
    its account, and what only an observer needs to know of it.

    Times are in seconds since 1970, as the captures have them. ``capture`` is the number of
    the one that shows it, ``place`` where it appeared in that, as the number of a datagram.
    ``first_seqno`` is the lowest number that it had, that of its HERALD if there was one.
    ``answers`` are the ports that its HERALD was acked from, ``words`` what that said.
    ``parts`` are the sightings that it is put together from.
    """

    def __init__(
        self, peer: Peer, server_port: int, time: float, *, seqno: int, capture: int, place: int
    ) -> None:
        self.peer = peer
        self.server_port = server_port
        self.capture = capture
        self.parts = [self]
        self.place = place
        self.first_time = self.last_time = time
        self.first_seqno = seqno
        self.account = Account()
        self.messages = 0
        self.words: Words | None = None
        self.answers: list[int] = []
        self.data_came = False
        self.acked_here = False
        self.possibly: ObservedDump | None = None
        self._resent_if_one = 0
        self._markers_resent = 0
        self._key_first = False  # FreeBSD 12 and 13 send the key last (PROTOCOL.md)
        self._latest: int | None = None  # the highest number that it had, FINISHED not counted
        self._finished_as: set[int] = set()
        self._acks = AckHistory()
        self._files: dict[int, ObservedFile] = {}
        self._storage: Storage | None = None

    def store_in(self, storage: Storage, prefer: Prefer) -> None:
        """Tell where the vmcore's bytes go, and which of different ones are kept; to be called
        before any data is taken."""
        account, acks = self.account, self._acks
        self._storage = storage
        self._files[formats.VMCORE] = ObservedFile(
            storage, account.vmcore, MAX_OFFSET, acks, account.conflicts, prefer
        )
        key = account.key
        self._files[formats.EKCD_KEY] = ObservedFile(
            key, key.extents, key.limit, acks, account.key_conflicts, prefer
        )

    @property
    def storage(self) -> Storage:
        """Where the vmcore's bytes are."""
        assert self._storage is not None
        return self._storage

    @property
    def retransmitted(self) -> int:
        """Messages that brought nothing new in the capture that showed them."""
        return self._markers_resent + sum(file.retransmitted for file in self._files.values())

    @property
    def furthest(self) -> int:
        """The highest number that it had; that of a FINISHED only if nothing else came."""
        return self.first_seqno if self._latest is None else self._latest

    @property
    def has_numbers(self) -> bool:
        """Whether it has any message but FINISHED."""
        return self._latest is not None

    @property
    def finished_as(self) -> int | None:
        """The number of its FINISHED, where that can be its own; only then it tells anything."""
        return finished_as(self._finished_as, self.furthest)

    def was_finished_as(self, seqno: int) -> bool:
        """Whether a FINISHED of this number came."""
        return seqno in self._finished_as

    @property
    def begun(self) -> bool:
        """Whether its first message is here, and not only some from the middle."""
        account = self.account
        return account.heralded or account.vmcore.covers(0, 1) or self._key_first

    def begins_again(self, seqno: int, begun: bool) -> bool:
        """Whether a client that goes on with a number goes back to its first message. ``begun``:
        it is known to be a first message. Where neither is known, what is sent again may lie
        before all that was seen."""
        back = ahead(seqno, self.first_seqno)
        return back <= 1 if begun or self.begun else back < -USUAL_FALL

    def announced_as(self, words: Words) -> bool:
        """Whether this dump's HERALD is known, and said this."""
        return self.words == words

    def is_over(self, words: Words | None, apart: float) -> bool:
        """Whether a HERALD of these words, if there was one, that came so many seconds after the
        last message announces another dump: this one is finished, and it is no late copy."""
        late_copy = apart <= LONG_SILENCE and self.words in (None, words)
        return words is not None and self.account.finished and not late_copy

    def goes_on_with(self, seqno: int, before: int, silence: float) -> None:
        """After so many seconds it goes on with a number, and had come to another one ``before``:
        that it is one dump is doubted where its client neither sent again nor dumped meanwhile."""
        if silence > REBOOT_TIME and 0 < ahead(seqno, before) <= IN_FLIGHT and self.data_came:
            self.account.add_doubt(
                f"{silence:.0f} s of silence within it, longer than a client waits"
            )

    def seen(self, first_time: float, last_time: float) -> None:
        """It was seen from one time to another."""
        self.first_time = min(self.first_time, first_time)
        self.last_time = max(self.last_time, last_time)

    def herald(self, herald: Herald) -> None:
        """Take a HERALD as the one of this dump, or as another copy of it."""
        self.messages += herald.copies
        self._markers_resent += herald.copies - (not self.account.heralded)
        self.words = self.words or herald.words
        self.answers = self.answers or list(herald.answers)
        self._came_to(herald.seqno, herald.seqno)
        self.account.herald(herald.path)
        self.seen(herald.time, herald.time)

    def data(self, kind: int, turn: int, buffer: Bytes, messages: Messages) -> None:
        """Take messages of one kind that carry data, from the batch of number ``turn``."""
        self.messages += len(messages)
        self._key_first |= kind == formats.EKCD_KEY and not self.data_came
        self.data_came = True
        steps, furthest = ahead(messages.seqno, self.furthest), self.furthest
        self._came_to(*((furthest + int(step)) & SEQNOS for step in (steps.min(), steps.max())))
        if kind == formats.VMCORE:
            sent_end = messages.sent_end[messages.sent_end > messages.start]
            self.account.announce(min(int(sent_end.max(initial=0)), MAX_OFFSET))
        if kind == formats.KDH:
            self._header(buffer, messages)
        else:
            self._files[kind].take(turn, buffer, messages)

    def _header(self, buffer: Bytes, messages: Messages) -> None:
        """Take pieces of the dump header; each version of it is kept."""
        headers = self.account.headers
        for row, start in enumerate(messages.start.tolist()):
            data = payload(buffer, messages, row)
            repeated = any(
                version.extents.covers(start, start + len(data)) and version.agrees(start, data)
                for version in headers.versions
            )
            self._markers_resent += repeated
            headers.take(start, data)

    def acked(self, acks: Acks) -> None:
        """Take acks to this dump's client."""
        self.acked_here = True
        self._acks.append(acks)

    def settle(self) -> None:
        """All messages before the latest ack have been taken."""
        for file in self._files.values():
            file.settle()

    def finish(self, seqno: int) -> None:
        """Take a FINISHED."""
        self.messages += 1
        self.data_came = True
        self._markers_resent += self.account.finished
        self.account.finish()
        if len(self._finished_as) < _MOST_FINISHED:
            self._finished_as.add(seqno)

    def _came_to(self, lowest: int, highest: int) -> None:
        """It has messages of these numbers. One that is much lower than all others is forged, or
        of a dump before."""
        if -USUAL_FALL <= ahead(lowest, self.first_seqno) < 0:
            self.first_seqno = lowest
        if self._latest is None or ahead(highest, self._latest) > 0:
            self._latest = highest

    def conclude(self) -> None:
        """No more of it comes: see what the number of FINISHED tells."""
        if not self.account.finished:
            return
        numbers, latest = self._finished_as, self._latest
        self.account.unseen = unseen_before(numbers, latest)
        herald = self.words[0] if self.words is not None else None
        if latest is not None and cannot_be_finished(numbers, latest, herald):
            self.account.add_doubt(f"its FINISHED has number {min(numbers)}, but {latest} came")

    # What is to be known of it before something is taken

    def extents(self, kind: int) -> Extents:
        """Which bytes are here of the vmcore, or of the key."""
        return self.account.vmcore if kind == formats.VMCORE else self.account.key.extents

    def compare(self, kind: int, start: int, data: bytes) -> tuple[int, int] | None:
        """How many bytes of the vmcore, or the key, from ``start`` on are here and agree with
        ``data``, zeros not counted, and how many differ; None if they are not kept."""
        storage = self.storage if kind == formats.VMCORE else self.account.key
        agreeing = differing = 0
        for first, last in self.extents(kind).present(start, start + len(data)):
            held = storage.read(first, last)
            if held is None:
                return None
            counts = tally(held, data[first - start : last - start])
            agreeing, differing = agreeing + counts[0], differing + counts[1]
        return agreeing, differing

    def sent_elsewhere(self, kind: int, seqno: int, start: int) -> bool:
        """Whether a message of this number, sent lately, was of another file, or for another place
        in it than one that lies before the end of what was sent."""
        if any(file.place_of(seqno) is not None for file in self._other_files(kind)):
            return True
        known = self._files[kind].place_of(seqno)
        inside = kind != formats.VMCORE or start < self.account.end
        return known not in (None, start) and inside

    def misplaced(self, other: ObservedDump) -> int:
        """How many messages of two sightings have one number, and are for different places."""
        same = sum(file.misplaced(other._files[kind]) for kind, file in self._files.items())
        return same + sum(
            file.in_common(another)
            for kind, file in self._files.items()
            for another in other._other_files(kind)
        )

    def _other_files(self, kind: int) -> list[ObservedFile]:
        return [file for other, file in self._files.items() if other != kind]

    def count_repeats(self, parts: Iterable[tuple[int, Stretch]]) -> int:
        """How many of some messages, with their types, would bring nothing new."""
        seen = {kind: self.extents(kind).copy() for kind in self._files}
        count = 0
        for kind, part in parts:
            starts, ends = part.messages.start.tolist(), part.messages.end.tolist()
            for start, end in zip(starts, ends, strict=True):
                count += start < end and seen[kind].covers(start, end)
                seen[kind].add(start, end)
        return count

    def contradicts(self, kind: int, start: int, data: bytes) -> bool:
        """Whether a piece of the header or the key is not what is here."""
        if kind == formats.KDH:
            data = data[: max(0, self.account.headers.versions[0].limit - start)]
            return not any(version.agrees(start, data) for version in self.account.headers.versions)
        return not self.account.key.agrees(start, data)

    # One dump of several sightings

    def may_be(self, dump: ObservedDump, resent: int) -> None:
        """This sighting may be a part of that one, in the same capture; then so many of its
        messages are ``resent``."""
        self.possibly, self._resent_if_one = dump, resent - self.retransmitted

    def absorb(self, other: ObservedDump) -> None:
        """Take another sighting of the same dump as a part of this one. Of bytes with different
        values those of this one stay."""
        heralded = {part.capture for part in self.parts if part.account.heralded}
        again = {part.capture for part in other.parts if part.account.heralded}
        self.messages += other.messages
        self._markers_resent += other.retransmitted + len(heralded & again)
        self._markers_resent += sum(
            some._resent_if_one
            for some, others in [(part, other) for part in self.parts]
            + [(part, self) for part in other.parts]
            if some.possibly in others.parts
        )
        self.parts += other.parts
        self.words = self.words or other.words
        self.data_came |= other.data_came
        if other.first_time < self.first_time:
            self.place = other.place
        self.first_seqno = min(
            self.first_seqno, other.first_seqno, key=lambda seqno: ahead(seqno, self.first_seqno)
        )
        self.seen(other.first_time, other.last_time)
        self._absorb_vmcore(other)
        self.account.absorb(other.account)
        if other._latest is not None:
            self._came_to(other._latest, other._latest)
        self._finished_as |= other._finished_as

    def _absorb_vmcore(self, other: ObservedDump) -> None:
        """Have the bytes of both in the storage of the one that has more."""
        mine, its = self.account.vmcore, other.account.vmcore
        swap = its.total > mine.total
        target, source = (other, self) if swap else (self, other)
        for start, end in list(both(self, other)):
            kept, new = self.storage.read(start, end), other.storage.read(start, end)
            if kept is not None and new is not None and kept != new:
                self.account.conflicts.compare(start, kept, new)
                if swap:
                    other.storage.put(start, kept)
        here = target.account.vmcore
        for first, last in source.account.vmcore:
            for hole_start, hole_end in here.missing(first, last):
                for start, end in pieces(hole_start, hole_end):
                    data = source.storage.read(start, end)
                    if data is not None:
                        target.storage.put(start, data)
        for start, end in its:
            mine.add(start, end)
        self._storage, other._storage = target.storage, source.storage


def both(some: ObservedDump, other: ObservedDump) -> list[Range]:
    """The ranges of the vmcore that two sightings have, in pieces."""
    held = other.account.vmcore
    return [
        piece
        for start, end in some.account.vmcore
        for common in held.present(start, end)
        for piece in pieces(*common)
    ]


def tally(some: bytes, others: bytes) -> tuple[int, int]:
    """How many bytes of two copies agree, zeros not counted, and how many differ."""
    first, second = (np.frombuffer(data, np.uint8) for data in (some, others))
    same = first == second
    agreeing = int(np.count_nonzero(same & (first != 0)))
    return agreeing, len(some) - int(np.count_nonzero(same))
