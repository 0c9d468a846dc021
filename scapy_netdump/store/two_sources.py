# SPDX-License-Identifier: GPL-2.0-or-later
"""Two sources of what may be one dump: the kept files of one, and a file staged beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np

from ..core.account import Account
from ..core.extents import Extents, Marks, Range, pieces, total
from ..core.observing.batch import Bytes
from .dump_files import vmcore_suffix
from .kept_dumps import KeptFiles, UnreadableError
from .naming import PART


class TwoSources:
    """A ``kept`` dump, and a ``fresh`` one of whose vmcore the bytes are in the file ``part`` of
    the same directory. To be used in ``with``: ``old`` and ``new`` are descriptors.
    ``differing`` are bytes that both have and that are not the same."""

    def __init__(self, kept: KeptFiles, part: str, fresh: Account) -> None:
        """UnreadableError if a file cannot be opened."""
        self.kept = kept
        self.fresh = fresh
        self.differing = Marks()
        self._files = ExitStack()
        self.old = self._opened(kept.vmcore, os.O_RDWR)
        self.new = self._opened(part, os.O_RDONLY)

    def __enter__(self) -> TwoSources:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    @property
    def length(self) -> int:
        """How long the kept vmcore is at this moment."""
        return os.fstat(self.old).st_size

    @property
    def shared(self) -> float:
        """How much of the one of which more is here both have; nothing is known of that where
        zeros may be holes."""
        mine, fresh = self.kept.account, self.fresh.vmcore
        inside = total(self.both()) if mine.holes_known else 0
        return inside / max(mine.vmcore.total, fresh.total, 1)

    @property
    def nothing_new(self) -> bool:
        """Whether the fresh one, no longer than this or of a complete dump, tells nothing that the
        kept one does not, which has its name."""
        mine, fresh = self.kept.account, self.fresh
        known = mine.holes_known and not self.kept.vmcore.endswith(PART)
        if not known or not (fresh.end <= mine.end or self.kept.complete):
            return False
        if self.differing.total or fresh.conflicting_bytes or fresh.stray.total:
            return False
        small = fresh.kdh in (b"", mine.kdh) and bytes(mine.key).startswith(bytes(fresh.key))
        known = mine.length is not None or fresh.length is None
        came = fresh.vmcore.present(0, fresh.bytes_expected)  # its padding is no news
        return small and known and all(mine.vmcore.covers(*range_) for range_ in came)

    def both(self) -> Iterator[Range]:
        """The ranges that both may have, in pieces."""
        for start, end in self.fresh.vmcore.present(0, self.length):
            for common in self.kept.account.vmcore.present(start, end):
                yield from pieces(*common)

    def read(self, start: int, end: int) -> tuple[Bytes, Bytes]:
        """What the kept one has in a range, and the fresh one; zeros beyond an end."""
        pair = (os.pread(file, end - start, start) for file in (self.old, self.new))
        old, new = (np.frombuffer(data.ljust(end - start, b"\0"), np.uint8) for data in pair)
        return old, new

    def merged(self, present: Extents) -> Account:
        """What both know of the dump of whose vmcore these bytes are here."""
        account = Account()
        account.absorb(self.kept.account)
        account.absorb(self.fresh)
        account.conflicts.update(self.differing)
        for start, end in present:
            account.vmcore.add(start, end)
        return account

    def name(self, account: Account) -> str:
        """What the vmcore is to be called."""
        kept = self.kept
        encrypted = account.encrypted or kept.vmcore.startswith("vmcore_encrypted")
        return kept.names.vmcore(kept.number, encrypted, vmcore_suffix(account))

    def _opened(self, name: str, flags: int) -> int:
        try:
            descriptor = self.kept.directory.open_file(name, flags)
        except OSError as error:
            self._files.close()
            raise UnreadableError(f"{error.filename}: cannot be read: {error.strerror}") from None
        self._files.callback(os.close, descriptor)
        return descriptor
