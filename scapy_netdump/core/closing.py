# SPDX-License-Identifier: GPL-2.0-or-later
"""The end of a dump that a server received. Imports only its neighbours."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import NetdumpError
from ..kerneldump.info import INCOMPLETE as STATUS
from .events import ERROR, SUCCESS, Ended
from .sinks import Sink
from .transfer import Transfer

_NO_FILES: dict[str, str | None] = dict.fromkeys(("info", "kdh", "key", "vmcore", "map"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """A dump to which nothing is added any more, and which is to be filed.

    ``reason`` is one of those in events.py; a dump that turns out to be whole or not, as it
    may, ends with INCOMPLETE. ``cause`` and ``problem`` become part of the status.
    """

    identity: tuple[int, str, int]
    sink: Sink
    transfer: Transfer
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
        transfer = self.transfer
        reason, status = self.reason, self._status()
        if transfer.complete and reason != ERROR:
            reason = SUCCESS
        files = _NO_FILES
        try:
            try:
                self.sink.sync()
            except NetdumpError as error:
                reason, status = ERROR, f"{STATUS}{error}"
            files = self.sink.finish(transfer, status).as_dict()
        except NetdumpError as error:
            reason, status = ERROR, f"{STATUS}{error}"
        return Ended(
            now,
            *self.identity,
            reason=reason,
            status=status,
            complete=transfer.complete,
            files=dict(files),
            bytes_received=transfer.bytes_received,
            bytes_expected=transfer.bytes_expected,
            missing=transfer.missing,
            messages=self.messages,
            repeated=self.repeated,
            ignored=self.ignored,
            conflicting_bytes=self.conflicting_bytes,
            seconds=self.seconds,
        )

    def _status(self) -> str:
        status = self.transfer.status
        if self.cause and not self.transfer.complete:
            status = f"{STATUS}{self.cause}; {status.removeprefix(STATUS)}"
        return f"{status}; {self.problem}" if self.problem else status
