# SPDX-License-Identifier: GPL-2.0-or-later
"""Putting IP fragments together, in bounded memory.

The FreeBSD kernel client never fragments (it sets DF, and id 0); other clients may.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import NamedTuple

from ..core.extents import Extents

MAX_SECONDS = 2.0  # RFC 791 says 15, but at full speed a 16-bit id comes round sooner (RFC 4963)
MAX_BYTES = 8 << 20
MAX_FRAGMENTS = 16_384  # the smallest carry 8 bytes and cost 500, so bytes alone are no bound
MAX_PAYLOAD = 65_535  # what the 16-bit lengths of RFC 791 and RFC 8200 can say


class Fragment(NamedTuple):
    """A part of an IP payload: ``length`` bytes of it, from byte ``offset``.

    ``data`` is shorter than ``length`` when a snap length cut the frame. ``protocol`` is
    what the payload starts with; IPv6 lets only the first fragment say it (RFC 8200, 4.5).
    """

    offset: int
    length: int
    last: bool
    protocol: int
    data: bytes

    @property
    def end(self) -> int:
        return self.offset + self.length

    @property
    def sound(self) -> bool:
        """Whether the fragment can be part of a datagram; all but the last come in eights."""
        return self.length > 0 and self.end <= MAX_PAYLOAD and (self.last or self.length % 8 == 0)


class Payload(NamedTuple):
    """An IP payload put together: ``length`` bytes as sent, the first ``len(data)`` of them."""

    protocol: int
    length: int
    data: bytes


@dataclass(slots=True)
class _Datagram:
    """The fragments of one datagram so far. ``seen`` holds their hashes, for duplicates."""

    time: float
    seen: set[int] = field(default_factory=set)
    size: int = 0
    extents: Extents = field(default_factory=Extents)
    pieces: dict[int, bytes] = field(default_factory=dict)
    protocol: int = 0
    length: int | None = None

    @property
    def whole(self) -> bool:
        return self.length is not None and self.extents.covers(0, self.length)

    def admits(self, fragment: Fragment) -> bool:
        """Whether this fragment agrees with the others on where the datagram ends."""
        if fragment.last:
            return self.length in (None, fragment.end) and self.extents.end <= fragment.end
        return self.length is None or fragment.end <= self.length

    def add(self, fragment: Fragment) -> None:
        """Take the bytes that no earlier fragment brought."""
        for start, end in self.extents.missing(fragment.offset, fragment.end):
            if start == 0:
                self.protocol = fragment.protocol
            self.pieces[start] = fragment.data[start - fragment.offset : end - fragment.offset]
        self.extents.add(fragment.offset, fragment.end)
        self.size += len(fragment.data)
        if fragment.last:
            self.length = fragment.end

    def joined(self) -> Payload:
        """The payload, up to the first byte that a snap length cut off."""
        data = bytearray()
        for start in sorted(self.pieces):
            if start != len(data):
                break
            data += self.pieces[start]
        return Payload(self.protocol, self.extents.end, bytes(data))


class Defragmenter:
    """Collects fragments until a datagram is whole, within limits of age, bytes and number.

    Age is the capture's own time. A datagram that was put together is remembered, without
    its bytes, for as long as it could have been waited for: a mirror port shows each frame
    twice, and the late copies must not be taken for parts of the next one with the same id.
    """

    def __init__(
        self,
        max_seconds: float = MAX_SECONDS,
        max_bytes: int = MAX_BYTES,
        max_fragments: int = MAX_FRAGMENTS,
    ) -> None:
        self._max_seconds = max_seconds
        self._max_bytes = max_bytes
        self._max_fragments = max_fragments
        self._datagrams: dict[Hashable, _Datagram] = {}  # oldest first
        self._bytes = 0
        self._fragments = 0
        self._received = 0
        self._used = 0
        self.reassembled = 0
        """Datagrams put together."""

    @property
    def dropped(self) -> int:
        """Fragments, duplicates not counted, that became part of no datagram (as yet)."""
        return self._received - self._used

    def add(self, key: Hashable, fragment: Fragment, time: float) -> Payload | None:
        """The payload that ``fragment`` completes, or None.

        ``key`` tells datagrams apart: addresses, identification, and the protocol in IPv4.
        ``time`` is in seconds. Where fragments overlap, the first one's bytes are kept.
        """
        self._forget_old(time)
        datagram = self._datagrams.get(key)
        mark = hash(fragment)
        if datagram and mark in datagram.seen:
            return None
        self._received += 1
        if not fragment.sound:
            return None
        if datagram is None or datagram.whole:
            datagram = self._begin(key, time)
        if not datagram.admits(fragment):
            return None
        datagram.seen.add(mark)
        datagram.add(fragment)
        self._fragments += 1
        self._bytes += len(fragment.data)
        if datagram.whole:
            return self._finish(datagram)
        self._make_room()
        return None

    def _begin(self, key: Hashable, time: float) -> _Datagram:
        if key in self._datagrams:
            self._forget(key)
        datagram = self._datagrams[key] = _Datagram(time)
        return datagram

    def _finish(self, datagram: _Datagram) -> Payload:
        payload = datagram.joined()
        datagram.pieces.clear()
        self._bytes -= datagram.size
        datagram.size = 0
        self._used += len(datagram.seen)
        self.reassembled += 1
        return payload

    def _forget(self, key: Hashable) -> None:
        datagram = self._datagrams.pop(key)
        self._bytes -= datagram.size
        self._fragments -= len(datagram.seen)

    def _forget_old(self, now: float) -> None:
        """Time may run backwards, in captures that were appended to one another."""
        while self._datagrams:
            oldest = next(iter(self._datagrams))
            if abs(now - self._datagrams[oldest].time) <= self._max_seconds:
                break
            self._forget(oldest)

    def _make_room(self) -> None:
        while self._bytes > self._max_bytes or self._fragments > self._max_fragments:
            self._forget(next(iter(self._datagrams)))
