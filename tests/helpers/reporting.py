# SPDX-License-Identifier: GPL-2.0-or-later
"""Collects what a report shows from traffic, as ``netdump report`` does. Imports no Scapy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from helpers.traffic import Datagram, batches

from scapy_netdump.core.observing.observer import Observer
from scapy_netdump.dump.scratch import Scratches
from scapy_netdump.report.collect import Collector, Watched
from scapy_netdump.report.timeline import Timeline


def collected(*captures: Sequence[Datagram], cuts: Iterable[int] = ()) -> list[Watched]:
    """What is collected of each dump in some captures, cut into batches before ``cuts``."""
    collector = Collector(Scratches().storage_for)
    observer = Observer(collector.storage_for, watcher=collector)
    cuts = list(cuts)
    for number, capture in enumerate(captures):
        if number:
            observer.new_capture()
        collector.reading(f"capture {number}")
        for part in batches(capture, cuts):
            observer.observe(part)
    observer.finish()
    collector.finish()
    return collector.dumps


def timeline_of(capture: Sequence[Datagram], cuts: Iterable[int] = ()) -> Timeline:
    """That of the only dump in a capture."""
    (dump,) = collected(capture, cuts=cuts)
    (view,) = dump.views
    return view.timeline
