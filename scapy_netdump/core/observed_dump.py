# SPDX-License-Identifier: GPL-2.0-or-later
"""One dump as far as captures show it. Imports only its neighbours."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from .. import formats
from .acks import AckHistory
from .batch import Bytes
from .messages import MAX_OFFSET, Acks, Messages
from .observed_file import ObservedFile, Storage
from .transfer import Transfer


class Peer(NamedTuple):
    """A client on its way to a server, addresses packed. The server's port is not part of
    it: the server picks one anew for each dump."""

    client: bytes
    client_port: int
    server: bytes


@dataclass(slots=True)
class Herald:
    """A HERALD whose dump has not begun yet.

    ``late``: an unfinished dump of this client had been announced in the same words.
    ``ports``: where its acks came from. ``copies``: how often it was seen.
    """

    seqno: int
    path: bytes
    time: float
    late: bool = False
    copies: int = 1
    ports: set[int] = field(default_factory=set)


class ObservedDump:
    """One dump's transfer, and what only an observer needs to know of it.

    Times are in seconds since 1970, as the captures have them. ``bytes_here`` and
    ``finished_here`` are about the capture that is being read.
    """

    def __init__(self, peer: Peer, server_port: int, capture: int, time: float) -> None:
        self.peer = peer
        self.server_port = server_port
        self.capture = capture
        self.first_time = self.last_time = time
        self.first_seqno: int | None = None
        self.transfer = Transfer()
        self.messages = 0
        self.bytes_here = 0
        self.finished_here = False
        self._markers_resent = 0
        self._acks = AckHistory()
        self._files: dict[int, ObservedFile] = {}

    def store_in(self, storage: Storage) -> None:
        """Tell where the vmcore's bytes go; to be called before any data is taken."""
        transfer = self.transfer
        self._files[formats.VMCORE] = ObservedFile(storage, transfer.vmcore, MAX_OFFSET, self._acks)
        for kind, file in ((formats.KDH, transfer.kdh), (formats.EKCD_KEY, transfer.key)):
            self._files[kind] = ObservedFile(file, file.extents, file.limit, self._acks)

    @property
    def retransmitted(self) -> int:
        """Messages that brought nothing new in the capture that showed them."""
        return self._markers_resent + sum(file.retransmitted for file in self._files.values())

    @property
    def conflicting_bytes(self) -> int:
        """Bytes of the files that were seen with different values."""
        return sum(file.conflicting_bytes for file in self._files.values())

    def new_capture(self) -> None:
        """What follows was captured elsewhere, or later."""
        self.bytes_here = 0
        self.finished_here = False
        for file in self._files.values():
            file.new_capture()

    def herald(self, herald: Herald) -> None:
        """Take a HERALD as the one of this dump, or as another copy of it."""
        self.messages += herald.copies
        self._markers_resent += herald.copies - (not herald.late)
        self.transfer.herald(herald.path)
        if self.first_seqno is None:
            self.first_seqno = herald.seqno

    def data(self, kind: int, buffer: Bytes, messages: Messages) -> None:
        """Take messages of one kind that carry data; acks among them were taken before."""
        self.messages += len(messages)
        self.bytes_here += int((messages.end - messages.start).sum())
        if self.first_seqno is None:
            self.first_seqno = int(messages.seqno[0])
        self._files[kind].take(buffer, messages)
        self._files[kind].settle()

    def acked(self, acks: Acks) -> None:
        """Take acks to this dump's client."""
        self._acks.append(acks)
        for file in self._files.values():
            file.settle()

    def finish(self) -> None:
        """Take a FINISHED."""
        self.messages += 1
        self._markers_resent += self.finished_here
        self.transfer.finished = self.finished_here = True
