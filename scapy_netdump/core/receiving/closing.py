# SPDX-License-Identifier: GPL-2.0-or-later
"""The end of a dump that a server received. Imports only its neighbours."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import NetdumpError
from ...kerneldump.info import INCOMPLETE as STATUS
from ..account import Account
from .events import ERROR, SUCCESS, Ended
from .sinks import Sink

_NO_FILES: dict[str, str | None] = dict.fromkeys(("info", "kdh", "key", "vmcore", "map"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """A dump to which nothing is added any more, and which is to be filed.

    ``reason`` is one of those in events.py; a dump that turns out to be whole or not, as it
    may, ends with INCOMPLETE. ``cause`` and ``problem`` become part of the status.
    """

    identity: tuple[int, str, int]
    sink: Sink
    account: Account
    reason: str
    cause: str
    problem: str
    seconds: float
    messages: int
    repeated: int
    ignored: int
    conflicting_bytes: int

    def run(self, now: float) -> Ended:
        """Put it on the disk and give its files their names: slow, and safe in a thread."""
        account = self.account
        reason, status = self.reason, self._status()
        if account.complete and reason != ERROR:
            reason = SUCCESS
        files = _NO_FILES
        try:
            try:
                self.sink.sync()
            except NetdumpError as error:
                reason, status = ERROR, f"{STATUS}{error}"
            files = self.sink.finish(account, status).as_dict()
        except NetdumpError as error:
            reason, status = ERROR, f"{STATUS}{error}"
        return Ended(
            now,
            *self.identity,
            reason=reason,
            status=status,
            complete=account.complete,
            files=dict(files),
            bytes_received=account.bytes_received,
            bytes_expected=account.bytes_expected,
            missing=account.missing,
            messages=self.messages,
            repeated=self.repeated,
            ignored=self.ignored,
            conflicting_bytes=self.conflicting_bytes,
            seconds=self.seconds,
        )

    def _status(self) -> str:
        status = self.account.status
        if self.cause and not self.account.complete:
            status = f"{STATUS}{self.cause}; {status.removeprefix(STATUS)}"
        return f"{status}; {self.problem}" if self.problem else status
