# SPDX-License-Identifier: GPL-2.0-or-later
"""Collects what a report shows, while captures are read: looks on as an observer's Watcher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields

import numpy as np

from ..core.identity import REBOOT_TIME
from ..core.observing.batch import Floats, Storage
from ..core.observing.messages import Acks, Columns, Messages
from ..core.observing.observed_dump import ObservedDump
from .timeline import Timeline

#: Dumps that a report shows, the first ones: a hostile capture can hold any number, and each
#: takes half a megabyte here and three pictures on the page.
MAX_REPORTED = 64

_NO_TIMES = np.empty(0, np.float64)
_NO_ACKS = Acks(*np.empty((3, 0), np.int64))
_NO_MESSAGES = Messages(*np.empty((8, 0), np.int64))


@dataclass(slots=True)
class View:
    """How a dump went as some captures show it that follow each other in time. ``latest`` is the
    number of the last of them."""

    captures: list[str]
    latest: int
    timeline: Timeline
    last_time: float


@dataclass(slots=True)
class Watched:
    """What was collected of a dump. Captures that show the same time from two sides, or that
    were taken with clocks that differ, make a view each. The rest waits for the batch's end."""

    views: list[View] = field(default_factory=list)
    messages: list[Messages] = field(default_factory=list)
    sent: list[Floats] = field(default_factory=list)
    acks: list[Acks] = field(default_factory=list)
    acked: list[Floats] = field(default_factory=list)

    def timeline(self, dump: ObservedDump, number: int, capture: str, times: Floats) -> Timeline:
        """The one that events from a capture belong to."""
        view = self.views[-1] if self.views else None
        if view is not None and number != view.latest:
            if float(times.min()) < view.last_time:
                view = None
            else:
                view.captures.append(capture)
                view.latest = number
        if view is None:
            timeline = Timeline(float(times.min()))
            if not self.views:
                timeline = Timeline(dump.first_time, dump.account.heralded)
            view = View([capture], number, timeline, 0.0)
            self.views.append(view)
        view.last_time = max(view.last_time, float(times.max()))
        return view.timeline


class Collector:
    """A Watcher that makes a Watched of each dump, but only of the first MAX_REPORTED."""

    def __init__(self, storage_for: Callable[[ObservedDump], Storage]) -> None:
        """``storage_for`` says where vmcores go."""
        self._storage_for = storage_for
        self._dumps: dict[ObservedDump, Watched] = {}
        self._captures = 0
        self._capture = ""

    @property
    def dumps(self) -> list[Watched]:
        """What was collected of each dump, in the order of their time."""
        return list(self._dumps.values())

    def reading(self, capture: str) -> None:
        """What follows is from another capture."""
        self._captures += 1
        self._capture = capture

    def finish(self) -> None:
        """No more comes."""
        views = [view for watched in self._dumps.values() for view in watched.views]
        for view in {id(view): view for view in views}.values():
            view.timeline.finish()

    def storage_for(self, dump: ObservedDump) -> Storage:
        """A dump has appeared in a capture."""
        if len(self._dumps) < MAX_REPORTED:
            self._dumps[dump] = Watched()
        return self._storage_for(dump)

    def sent(self, dump: ObservedDump, messages: Messages, times: Floats) -> None:
        """Its client sent messages."""
        if dump in self._dumps:
            self._go_on(dump)
            self._dumps[dump].messages.append(messages)
            self._dumps[dump].sent.append(times)

    def _go_on(self, dump: ObservedDump) -> None:
        """Have a sighting that seems to go on where another capture ended share its view."""
        watched = self._dumps[dump]
        if watched.views or watched.messages or dump.account.heralded:
            return
        for other, before in self._dumps.items():
            same = (other.peer, other.server_port) == (dump.peer, dump.server_port)
            late = dump.first_time - other.last_time
            if same and before.views and 0 <= late <= REBOOT_TIME and not other.account.finished:
                watched.views.append(before.views[-1])

    def acked(self, dump: ObservedDump, acks: Acks, times: Floats) -> None:
        """Its server sent acks."""
        if dump in self._dumps:
            self._dumps[dump].acks.append(acks)
            self._dumps[dump].acked.append(times)

    def found(self, dumps: Sequence[ObservedDump]) -> None:
        """These are the dumps: each is shown with all its sightings."""
        seen, self._dumps = self._dumps, {}
        for dump in dumps:
            views = [view for part in dump.parts if part in seen for view in seen[part].views]
            distinct = {id(view): view for view in views}.values()
            self._dumps[dump] = Watched(sorted(distinct, key=lambda view: view.latest))

    def turn(self) -> None:
        """Count what a batch brought."""
        for dump, watched in self._dumps.items():
            times = [*watched.sent, *watched.acked]
            if not times:
                continue
            together = np.concatenate(times)
            timeline = watched.timeline(dump, self._captures, self._capture, together)
            timeline.take(
                _joined(_NO_MESSAGES, watched.messages),
                np.concatenate((_NO_TIMES, *watched.sent)),
                _joined(_NO_ACKS, watched.acks),
                np.concatenate((_NO_TIMES, *watched.acked)),
            )
            for held in (watched.messages, watched.sent, watched.acks, watched.acked):
                held.clear()


def _joined(none: Columns, parts: Sequence[Columns]) -> Columns:
    """Columns one behind the other, in the order of the capture."""
    if len(parts) == 1:
        return parts[0]
    names = [column.name for column in fields(none)]
    joined = (np.concatenate([getattr(part, name) for part in (none, *parts)]) for name in names)
    columns = type(none)(*joined)
    return columns[np.argsort(columns.order, kind="stable")]
