# SPDX-License-Identifier: GPL-2.0-or-later
"""One dump as far as captures show it. Imports only its neighbours."""

from __future__ import annotations

from ... import formats
from ..account import Account
from .acks import AckHistory
from .batch import Bytes, Storage
from .disputes import Prefer
from .heralds import Herald, Peer
from .messages import MAX_OFFSET, Acks, Messages, payload
from .observed_file import ObservedFile


class ObservedDump:
    """One dump's transfer, and what only an observer needs to know of it.

    Times are in seconds since 1970, as the captures have them. ``capture`` is the number
    of the latest one that showed the dump; ``bytes_here`` and ``finished_here`` are about
    the one that is being read.
    """

    def __init__(self, peer: Peer, server_port: int, time: float) -> None:
        self.peer = peer
        self.server_port = server_port
        self.capture = 0
        self.first_time = self.last_time = time
        self.first_seqno: int | None = None
        self.account = Account()
        self.messages = 0
        self.bytes_here = 0
        self.finished_here = False
        self._heralded_here = False
        self._markers_resent = 0
        self._words: tuple[int, bytes] | None = None
        self._acks = AckHistory()
        self._files: dict[int, ObservedFile] = {}

    def store_in(self, storage: Storage, prefer: Prefer) -> None:
        """Tell where the vmcore's bytes go, and which of different ones are kept; to be called
        before any data is taken."""
        account, acks = self.account, self._acks
        self._files[formats.VMCORE] = ObservedFile(
            storage, account.vmcore, MAX_OFFSET, acks, account.conflicts, prefer
        )
        key = account.key
        self._files[formats.EKCD_KEY] = ObservedFile(
            key, key.extents, key.limit, acks, account.key_conflicts, prefer
        )

    @property
    def retransmitted(self) -> int:
        """Messages that brought nothing new in the capture that showed them."""
        return self._markers_resent + sum(file.retransmitted for file in self._files.values())

    def announced_as(self, seqno: int, path: bytes) -> bool:
        """Whether this dump's HERALD is known, and said this."""
        return self._words == (seqno, path)

    def distance(self, time: float) -> float:
        """How far a time is from this dump's, in seconds; 0 within it."""
        return max(self.first_time - time, time - self.last_time, 0.0)

    def seen(self, first_time: float, last_time: float) -> None:
        """It was seen from one time to another."""
        self.first_time = min(self.first_time, first_time)
        self.last_time = max(self.last_time, last_time)

    def new_capture(self) -> None:
        """What follows was captured elsewhere, or later."""
        self.bytes_here = 0
        self.finished_here = self._heralded_here = False
        for file in self._files.values():
            file.new_capture()

    def herald(self, herald: Herald) -> None:
        """Take a HERALD as the one of this dump, or as another copy of it."""
        self.messages += herald.copies
        self._markers_resent += herald.copies - herald.captures + self._heralded_here
        self._heralded_here |= herald.capture == self.capture
        self._words = self._words or (herald.seqno, herald.path)
        self.account.herald(herald.path)
        self.seen(herald.time, herald.time)
        if self.first_seqno is None:
            self.first_seqno = herald.seqno

    def data(self, kind: int, turn: int, buffer: Bytes, messages: Messages) -> None:
        """Take messages of one kind that carry data, from the batch of number ``turn``."""
        self.messages += len(messages)
        self.bytes_here += int((messages.end - messages.start).sum())
        if self.first_seqno is None:
            self.first_seqno = int(messages.seqno[0])
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
        self._acks.append(acks)

    def settle(self) -> None:
        """All messages before the latest ack have been taken."""
        for file in self._files.values():
            file.settle()

    def finish(self) -> None:
        """Take a FINISHED."""
        self.messages += 1
        self._markers_resent += self.finished_here
        self.account.finished = self.finished_here = True
