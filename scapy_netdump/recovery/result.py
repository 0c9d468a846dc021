# SPDX-License-Identifier: GPL-2.0-or-later
"""What a recovery found, for programs. Wiring only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..core.account import Account
from ..core.extents import Range
from ..core.observing.disputes import Prefer
from ..core.observing.observed_dump import ObservedDump
from ..kerneldump.header import DumpHeader
from ..store.hosts import address_text
from ..store.naming import Published

if TYPE_CHECKING:  # most recoveries make no plain copies
    from ..dump.plain import PlainCopy


@dataclass(frozen=True, slots=True)
class RecoveredDump:
    """A dump that captures show.

    ``complete``: every byte up to the header's dumplength is here; without a header,
    FINISHED was seen and nothing below the highest byte is missing. ``status`` is the last
    line of its info file. ``missing`` are
    ``[start, end)`` ranges of the vmcore file. Sizes are in bytes, times in seconds since
    1970. ``retransmitted`` counts messages that brought nothing new in the capture that
    showed them, ``conflicting_bytes`` bytes that were seen with different values;
    ``conflicts`` are the ranges of the vmcore file that they are in, ``preferred`` tells
    which values were kept: those acked first, the first or the last. ``filled_bytes`` is
    how many an older, incomplete copy of the dump lacked, None if there was none. ``plain``
    is the decrypted or decompressed copy, if one was asked for.
    """

    client: str
    client_port: int
    server: str
    server_port: int
    path: str
    heralded: bool
    finished: bool
    complete: bool
    status: str
    kdh: DumpHeader | None
    bytes_expected: int
    bytes_received: int
    missing: list[Range]
    messages: int
    retransmitted: int
    conflicting_bytes: int
    conflicts: list[Range]
    preferred: str
    filled_bytes: int | None
    first_time: float
    last_time: float
    files: Published
    plain: PlainCopy | None = None

    def as_dict(self) -> dict[str, Any]:
        """The dump as ``netdump recover --json`` prints it."""
        values = {name: getattr(self, name) for name in self.__slots__}
        values["kdh"] = self.kdh.as_dict() if self.kdh is not None else None
        plain = values.pop("plain")
        values["files"] = {
            **self.files.as_dict(),
            "plain": None if plain is None else str(plain.path),
            "plain_map": None if plain is None or plain.map is None else str(plain.map),
        }
        values["plain"] = None if plain is None else _plain_values(plain)
        return values


@dataclass(slots=True)
class Recovery:
    """What was found. ``problems`` says, a line each, what could not be read or kept;
    ``notes`` what else is worth knowing. ``refused`` counts dumps that were to continue one
    that is here, and are not the same."""

    dumps: list[RecoveredDump] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    frames: int = 0
    refused: int = 0

    @property
    def complete(self) -> bool:
        """Whether there are dumps, all of them whole, and all captures could be read."""
        whole = (
            dump.complete and (dump.plain is None or dump.plain.complete) for dump in self.dumps
        )
        return bool(self.dumps) and not self.problems and all(whole)


def recovered_dump(
    dump: ObservedDump, prefer: Prefer, account: Account, files: Published, filled: int | None
) -> RecoveredDump:
    """What there is to say of a dump that was filed; ``transfer`` is what its files hold."""
    return RecoveredDump(
        client=address_text(dump.peer.client),
        client_port=dump.peer.client_port,
        server=address_text(dump.peer.server),
        server_port=dump.server_port,
        path=account.path.decode(errors="backslashreplace"),
        heralded=dump.account.heralded,
        finished=account.finished,
        complete=account.complete,
        status=str(account.verdict),
        kdh=account.header,
        bytes_expected=account.bytes_expected,
        bytes_received=account.bytes_received,
        missing=account.missing,
        messages=dump.messages,
        retransmitted=dump.retransmitted,
        conflicting_bytes=dump.account.conflicting_bytes,
        conflicts=dump.account.conflicts.ranges(),
        preferred=prefer.value,
        filled_bytes=filled,
        first_time=dump.first_time,
        last_time=dump.last_time,
        files=files,
    )


def _plain_values(copy: PlainCopy) -> dict[str, Any]:
    names = ("size", "complete", "missing", "problem")
    return {name: getattr(copy, name) for name in names}
