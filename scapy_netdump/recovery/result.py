# SPDX-License-Identifier: GPL-2.0-or-later
"""What a recovery found, for programs."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..core.account import Account
from ..core.observing.disputes import Prefer
from ..core.observing.observed_dump import ObservedDump
from ..dump.content import FileContent, Held
from ..dump.dump import Dump
from ..dump.transfer import Transfer
from ..store.naming import Published


@dataclass(slots=True)
class Recovery:
    """What was found. ``problems`` says, a line each, what could not be read or kept;
    ``notes`` what else is worth knowing. ``refused`` counts dumps that were to continue one
    that is here, and are not the same."""

    dumps: list[Dump] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    frames: int = 0
    refused: int = 0

    @property
    def complete(self) -> bool:
        """Whether there are dumps, all of them whole, and all captures could be read."""
        whole = (dump.complete and (dump.copy is None or dump.copy.complete) for dump in self.dumps)
        return bool(self.dumps) and not self.problems and all(whole)


def recovered_dump(
    dump: ObservedDump, prefer: Prefer, account: Account, files: Published, filled: int | None
) -> Dump:
    """A dump that was filed, opened; ``account`` is that of what its files hold."""
    transfer = Transfer.of(dump, prefer, filled)
    content = FileContent(files.vmcore) if files.vmcore is not None else Held(b"", 0)
    name = str(files.vmcore or files.info or transfer.client)
    return Dump(name, account, content, files=files, transfer=transfer)
