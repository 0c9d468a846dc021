# SPDX-License-Identifier: GPL-2.0-or-later
"""What the core asks of whoever keeps the files of dumps that are being received."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ...wire import Buffer
from ..account import Account
from ..extents import Range
from ..verdict import Verdict


class Published(Protocol):
    """The files of a dump that is over."""

    def as_dict(self) -> dict[str, str | None]:
        """The paths of its files by kind; None for those that it lacks."""


class Sink(Protocol):
    """The files of one dump. All that fails raises StoreError.

    There is nothing on the disk before the first call that stores something. Calls may wait for
    the disk. ``sync`` and ``finish`` may be called in another thread than the rest; beside them
    and after them nothing but ``read`` and ``close`` is called.
    """

    @property
    def name(self) -> str:
        """The path of the info file, for people; empty before there is one."""

    @property
    def note(self) -> str:
        """Why the dump is not where the client asked for; empty if it is."""

    def write(self, kind: int, pieces: Sequence[Buffer], offset: int) -> None:
        """Store pieces one behind the other, from ``offset`` of the file that the message
        type ``kind`` stands for: VMCORE, KDH, EKCD_KEY. Returns when the system has all."""

    def read(self, kind: int, start: int, end: int) -> bytes:
        """The bytes ``[start, end)`` of that file, to compare them with repeated ones."""

    def keep_other(self, kind: int, offset: int, data: Buffer) -> None:
        """Store ``data``, which came for ``offset`` of that file, beside it: other bytes are
        there already. Returns when the system has it."""

    def update(self, account: Account, verdict: Verdict) -> None:
        """Make the info file say what is known; its last line is ``verdict``."""

    def note_here(self, missing: Sequence[Range], end: int) -> None:
        """Keep in mind, on the disk, what of the vmcore is here: all before ``end`` but
        ``missing``. Does not wait for the disk, and does not fail."""

    def note_finished(self, missing: Sequence[Range], end: int) -> None:
        """The same, and that FINISHED came, which is about to be acked."""

    def sync(self) -> None:
        """Wait until the disk has everything. Slow."""

    def finish(self, account: Account, verdict: Verdict) -> Published:
        """Give the files their final names, and the info file its last line."""

    def close(self) -> None:
        """Nothing is read any more, once ``finish`` is done."""

    def discard(self) -> None:
        """Remove what there is: nothing came."""


class Sinks(Protocol):
    """Where dumps are kept."""

    def begin(self, client: str, path: bytes) -> Sink:
        """A dump of the client at an address. ``path`` is the HERALD's, without its NUL.
        StoreError if there can be no dump. Does not wait for the disk."""
