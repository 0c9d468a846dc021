# SPDX-License-Identifier: GPL-2.0-or-later
"""Looks into the dumps of a capture without storing them: keeps the head of each. Wiring only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ..core.account import Account
from ..core.observing.batch import Floats
from ..core.observing.messages import Acks, Messages
from ..core.observing.observed_dump import ObservedDump
from ..core.observing.storage import Storage
from ..errors import NetdumpError
from ..kerneldump.contents import HEAD_SIZE
from .content import Held
from .found import FoundDump, NoDumpError
from .head import Head
from .inspection import HEAD, Inspection, Passphrase, look_into

#: Bytes kept of all dumps together; those that come too late get HEAD_SIZE each.
_BUDGET = 4 * HEAD


class Heads:
    """A Watcher that keeps the first bytes of each dump, in the order of their appearance."""

    def __init__(self) -> None:
        self._dumps: list[tuple[ObservedDump, Head]] = []
        self._left = _BUDGET

    def storage_for(self, dump: ObservedDump) -> Storage:
        """Keep the head of a dump."""
        head = Head(HEAD if self._left >= HEAD else HEAD_SIZE)
        self._left -= HEAD
        self._dumps.append((dump, head))
        return head

    def sent(self, dump: ObservedDump, messages: Messages, times: Floats) -> None:
        """Nothing to do."""

    def acked(self, dump: ObservedDump, acks: Acks, times: Floats) -> None:
        """Nothing to do."""

    def found(self, dumps: Sequence[ObservedDump]) -> None:
        """These are the dumps: keep their heads, in this order."""
        self._dumps = [(dump, dump.storage) for dump in dumps if isinstance(dump.storage, Head)]

    def turn(self) -> None:
        """Nothing to do."""

    def inspections(
        self, private_key: Path | None, passphrase: Passphrase
    ) -> Iterator[Inspection | NetdumpError]:
        """A look into each dump, or why there cannot be one. The rest as for `inspect`."""
        for dump, head in self._dumps:
            try:
                found = _found(dump.account, head)
                yield look_into(found, private_key=private_key, passphrase=passphrase)
            except NetdumpError as error:
                yield error


def _found(account: Account, head: Head) -> FoundDump:
    """A dump as far as it is kept. NoDumpError if that is of no use."""
    header = account.sound_header
    missing = account.missing
    if not account.vmcore.total:
        raise NoDumpError("nothing of it is here")
    if header is not None and header.compression and missing:
        raise NoDumpError("compressed, with holes: unpack it to see what can be read")
    return FoundDump(
        name="vmcore",
        content=Held(head.present(), account.bytes_expected, missing),
        kdh=account.kdh if header is not None else b"",
        key=bytes(account.key),
        compression=header.compression if header is not None else 0,
    )
