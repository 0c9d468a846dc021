# SPDX-License-Identifier: GPL-2.0-or-later
"""The end of a dump that a server received."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ... import formats
from ...errors import NetdumpError
from ..account import Account
from ..extents import pieces
from ..verdict import Kind, Verdict
from .events import CONTRADICTED, ERROR, SUCCESS, Ended
from .sinks import Sink

_KINDS = ("info", "kdh", "key", "vmcore", "map", "other", "kdh_other")
_NO_FILES: Mapping[str, str | None] = dict.fromkeys(_KINDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """A dump to which nothing is added any more, and which is to be filed.

    ``reason`` is one of those in events.py that are known before the dump is looked into;
    ``cause`` becomes part of the verdict.
    """

    identity: tuple[int, str, int]
    sink: Sink
    account: Account
    reason: str
    cause: str
    seconds: float
    messages: int
    repeated: int
    ignored: int

    def run(self, now: float) -> Ended:
        """Put it on the disk and give its files their names: slow, and safe in a thread."""
        account, trouble = self.account, ""
        files: Mapping[str, str | None] = _NO_FILES
        try:
            account.examine(self._read)
            for start, end in account.set_stray_aside():
                self._keep_stray(start, end)
            self.sink.sync()
        except NetdumpError as error:
            trouble = str(error)
        except Exception as error:  # a fault of ours costs this dump, and not the server
            trouble = f"could not be looked into: {error!r}"
        verdict = _hampered(account.verdict.because(self.cause), trouble)
        try:
            files = self.sink.finish(account, verdict).as_dict()
        except Exception as error:  # what could not be filed costs no other dump
            trouble = str(error) if isinstance(error, NetdumpError) else f"{error!r}"
            verdict = _hampered(verdict, trouble)
        return Ended(
            now,
            *self.identity,
            reason=ERROR if trouble else self._reason(verdict),
            verdict=verdict.kind.value,
            status=str(verdict),
            complete=verdict.complete,
            files=dict(files),
            bytes_received=account.bytes_received,
            bytes_expected=account.bytes_expected,
            missing=account.missing,
            messages=self.messages,
            repeated=self.repeated,
            ignored=self.ignored,
            conflicting_bytes=account.conflicting_bytes,
            seconds=self.seconds,
        )

    def _keep_stray(self, start: int, end: int) -> None:
        for first, last in pieces(start, end):
            self.sink.keep_other(formats.VMCORE, first, self._read(first, last))

    def _read(self, start: int, end: int) -> bytes:
        return self.sink.read(formats.VMCORE, start, end)

    def _reason(self, verdict: Verdict) -> str:
        if self.reason == ERROR:
            return ERROR
        if verdict.complete:
            return SUCCESS
        return CONTRADICTED if verdict.kind is Kind.CONTRADICTED else self.reason


def _hampered(verdict: Verdict, trouble: str) -> Verdict:
    """What can be said of a dump that the disk would not take."""
    if trouble and verdict.complete:
        return Verdict(Kind.INCOMPLETE, trouble)
    return verdict.because(trouble)
