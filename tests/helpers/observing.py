# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the core on traffic, with the vmcores kept in memory. Imports no Scapy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from helpers.traffic import Datagram, batches

from scapy_netdump.core.observing.disputes import Prefer
from scapy_netdump.core.observing.observed_dump import ObservedDump
from scapy_netdump.core.observing.observer import Observer
from scapy_netdump.core.observing.selection import Selection
from scapy_netdump.core.small_files import MemoryFile

#: No vmcore of a test is longer.
MOST = 1 << 26


class Observed:
    """An observer that saw some captures to their end, and what it stored of each dump."""

    def __init__(self, selection: Selection | None = None, prefer: Prefer = Prefer.ACKED) -> None:
        self.observer = Observer(lambda dump: MemoryFile(MOST), selection, prefer)

    @property
    def dumps(self) -> list[ObservedDump]:
        return self.observer.dumps

    @property
    def dump(self) -> ObservedDump:
        """The only dump there is."""
        (dump,) = self.dumps
        return dump

    def vmcore(self, dump: ObservedDump | None = None) -> bytes:
        """What was stored of a dump (the only one), up to its highest byte; holes are zeros."""
        dump = dump or self.dump
        return dump.storage.read(0, dump.account.vmcore.end) or b""


def observe(
    *captures: Sequence[Datagram],
    cuts: Iterable[int] = (),
    selection: Selection | None = None,
    prefer: Prefer = Prefer.ACKED,
) -> Observed:
    """What comes out of some captures, each cut into batches before the places ``cuts``."""
    observed = Observed(selection, prefer)
    cuts = list(cuts)
    for number, capture in enumerate(captures):
        if number:
            observed.observer.new_capture()
        for part in batches(capture, cuts):
            observed.observer.observe(part)
    observed.observer.finish()
    return observed


def facts(dump: ObservedDump) -> dict[str, object]:
    """What does not depend on how the traffic was cut into batches."""
    account = dump.account
    return {
        "peer": (dump.peer.client, dump.peer.client_port, dump.peer.server, dump.server_port),
        "path": account.path,
        "heralded": account.heralded,
        "finished": account.finished,
        "complete": account.complete,
        "expected": account.bytes_expected,
        "received": account.bytes_received,
        "missing": account.missing,
        "kdh": bytes(account.kdh),
        "key": bytes(account.key),
        "messages": dump.messages,
        "retransmitted": dump.retransmitted,
        "conflicting": dump.account.conflicting_bytes,
        "times": (dump.first_time, dump.last_time),
    }
