# SPDX-License-Identifier: GPL-2.0-or-later
"""Sinks of which each call that may wait for the disk is made outside the server's loop."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.account import Account
from ..core.extents import Range
from ..core.receiving.sinks import Published, Sink, Sinks
from ..core.verdict import Verdict
from ..wire import Buffer
from .relay import Relay


class OutsideSinks:
    """The dumps of ``sinks``, as a loop that ``relay`` runs uses them."""

    def __init__(self, sinks: Sinks, relay: Relay) -> None:
        self._sinks = sinks
        self._relay = relay

    def begin(self, client: str, path: bytes) -> Sink:
        """As the others do; there is nothing to wait for."""
        return _OutsideSink(self._sinks.begin(client, path), self._relay)


class _OutsideSink:
    def __init__(self, sink: Sink, relay: Relay) -> None:
        self._sink = sink
        self._outside = relay.outside

    @property
    def name(self) -> str:
        return self._sink.name

    @property
    def note(self) -> str:
        return self._sink.note

    def write(self, kind: int, pieces: Sequence[Buffer], offset: int) -> None:
        self._outside(self._sink.write, kind, pieces, offset)

    def read(self, kind: int, start: int, end: int) -> bytes:
        return self._outside(self._sink.read, kind, start, end)

    def keep_other(self, kind: int, offset: int, data: Buffer) -> None:
        self._outside(self._sink.keep_other, kind, offset, data)

    def update(self, account: Account, verdict: Verdict) -> None:
        self._outside(self._sink.update, account, verdict)

    def note_here(self, missing: Sequence[Range], end: int) -> None:
        self._sink.note_here(missing, end)

    def note_finished(self, missing: Sequence[Range], end: int) -> None:
        self._outside(self._sink.note_finished, missing, end)

    def sync(self) -> None:
        self._outside(self._sink.sync)

    def finish(self, account: Account, verdict: Verdict) -> Published:
        return self._outside(self._sink.finish, account, verdict)

    def close(self) -> None:
        self._outside(self._sink.close)

    def discard(self) -> None:
        self._outside(self._sink.discard)
