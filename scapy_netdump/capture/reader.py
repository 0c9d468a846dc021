# SPDX-License-Identifier: GPL-2.0-or-later
"""A capture file as batches of datagrams.

Damage does not end the reading where the format allows to go on; what was wrong is kept
in ``problems``, a line each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..core.observing.batch import Batch
from ..errors import CaptureError
from ..text import counted
from .chain import CaptureFormat
from .datagrams import DatagramFinder
from .frames import Frames, Scan
from .link import SUPPORTED, link_name
from .pcap import Pcap
from .pcapng import Pcapng
from .source import Source
from .windows import Window, Windows

#: Places of damage reported one by one.
_MAX_PROBLEMS = 8

_CUT = "record that reaches beyond the end"


class _Damage(NamedTuple):
    """Where in the capture something is no record, and why."""

    begin: int
    problem: str


class CaptureReader:
    """Reads one capture. ``frames`` counts those seen, ``position`` the bytes read so far;
    ``ended`` says that the batch at hand is from the end."""

    def __init__(self, source: Source, finder: DatagramFinder, careful: bool = False) -> None:
        """``careful`` walks the records one by one, to compare with."""
        self.frames = 0
        self.position = 0
        self.ended = False
        self._source = source
        self._finder = finder
        self._careful = careful
        self._format: CaptureFormat | None = None
        self._lost: _Damage | None = None  # while it is not known where records go on
        self._damage: list[str] = []
        self._more_damage = 0
        self._unknown_links: set[int] = set()

    @property
    def problems(self) -> list[str]:
        """What was wrong with the capture, a line each."""
        lines = self._damage.copy()
        if self._more_damage:
            lines.append(counted(self._more_damage, "more damaged place"))
        if self._format is not None and self._format.left_out:
            blocks = counted(self._format.left_out, "block")
            lines.append(f"{blocks} left out for contradicting what they say of themselves")
        if self._source.problem:
            lines.append(self._source.problem)
        lines += [f"{link_name(link)} is not understood" for link in sorted(self._unknown_links)]
        return [f"{self._source.name}: {line}" for line in lines]

    def __iter__(self) -> Iterator[Batch]:
        """The batches, in order, at least one a window. CaptureError if this is no capture."""
        windows = Windows(self._source)
        window = None
        for window in windows:
            self.ended = window.last
            position = window.begin
            if self._format is None:
                self._format = self._recognise(window)
                position += self._format.header_size
            for scan in self._scans(self._format, window, position):
                yield self._finder.find(window.buffer, scan.frames)
                position = scan.end
            windows.consumed = position
            self.position = window.origin + position
        if window is not None and self._lost is not None:
            left = window.origin + window.end - self._lost.begin
            self._note(self._lost, f"the last {counted(left, 'byte')} left out")

    def _recognise(self, window: Window) -> CaptureFormat:
        head = window.buffer[window.begin : min(window.end, window.begin + 64)].tobytes()
        format_ = Pcap.recognise(head) or Pcapng.recognise(head)
        if format_ is None:
            reason = self._source.problem or "not a capture: neither pcap nor pcapng"
            raise CaptureError(f"{self._source.name}: {reason}")
        return format_

    def _scans(self, format_: CaptureFormat, window: Window, position: int) -> Iterator[Scan]:
        """What a window holds, from one place of damage to the next; at least one scan.

        A record that is cut short by the end of the capture may as well have a wrong length.
        """
        slowly = self._careful
        while True:
            if self._lost is not None:
                position = self._resume(format_, window, position, self._lost)
            if self._lost is not None:
                yield Scan(Frames.of(()), position)
                return
            scan = (format_.scan_slowly if slowly else format_.scan)(
                window.buffer, position, window.end
            )
            self._count(scan.frames)
            yield scan
            position = scan.end
            if scan.problem is not None:
                self._lost = _Damage(window.origin + position, scan.problem)
            elif position == window.end or not window.last:
                return
            elif slowly:  # not just what the chain left over
                self._lost = _Damage(window.origin + position, _CUT)
            slowly = True

    def _count(self, frames: Frames) -> None:
        self.frames += len(frames)
        links = frames.link
        if len(links):  # nearly always one for all; telling them apart takes time
            different = [links[0]] if (links == links[0]).all() else np.unique(links)
            self._unknown_links |= {int(link) for link in different} - SUPPORTED

    def _resume(self, format_: CaptureFormat, window: Window, position: int, lost: _Damage) -> int:
        """Where records go on after damage; if they do not in this window, from where on to
        look with the next."""
        found = format_.resume(window.buffer, position, window.end)
        if found is None:
            return max(position, (window.begin + window.end) // 2)
        self._note(lost, f"{counted(window.origin + found - lost.begin, 'byte')} skipped")
        self._lost = None
        return found

    def _note(self, damage: _Damage, consequence: str) -> None:
        if len(self._damage) < _MAX_PROBLEMS:
            self._damage.append(f"{damage.problem} at byte {damage.begin}: {consequence}")
        else:
            self._more_damage += 1
