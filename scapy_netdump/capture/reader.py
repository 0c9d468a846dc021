# SPDX-License-Identifier: GPL-2.0-or-later
"""A capture file as batches of datagrams.

Damage does not end the reading where the format allows to go on; what was wrong is kept
in ``problems``, a line each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np

from ..core.batch import Batch, Bytes
from ..errors import CaptureError
from .datagrams import DatagramFinder
from .frames import MAX_RECORD, Scan
from .link import SUPPORTED, link_name
from .pcap import Pcap
from .pcapng import Pcapng
from .source import Source
from .windows import Window, Windows

#: Places of damage reported one by one.
_MAX_PROBLEMS = 8


class Format(Protocol):
    """A capture file format, as far as it has been read."""

    header_size: int

    def scan(self, buffer: Bytes, begin: int, end: int) -> Scan:
        """The frames of the whole records in a stretch of the file."""

    def scan_slowly(self, buffer: Bytes, begin: int, end: int) -> Scan:
        """The same, by a simpler way."""

    def resume(self, buffer: Bytes, begin: int, end: int) -> int | None:
        """Where records go on after damage at ``begin``."""


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
        self._damage: list[str] = []
        self._unknown_links: set[int] = set()

    @property
    def problems(self) -> list[str]:
        """What was wrong with the capture, a line each."""
        lines = self._damage[:_MAX_PROBLEMS]
        if len(self._damage) > _MAX_PROBLEMS:
            lines.append(f"{len(self._damage) - _MAX_PROBLEMS} more damaged places")
        if self._source.problem:
            lines.append(self._source.problem)
        lines += [f"{link_name(link)} is not understood" for link in sorted(self._unknown_links)]
        return [f"{self._source.name}: {line}" for line in lines]

    def __iter__(self) -> Iterator[Batch]:
        """The batches, in order, at least one a window. CaptureError if this is no capture."""
        windows = Windows(self._source)
        format_: Format | None = None
        lost = False
        for window in windows:
            position = window.begin
            self.ended = window.last
            if format_ is None:
                format_ = self._recognise(window)
                position += format_.header_size
            if lost:
                position, lost = self._resume(format_, window, position)
            while not lost:
                scan = self._scan(format_, window, position)
                yield self._finder.find(window.buffer, scan.frames)
                if scan.problem:
                    self._damage.append(f"{scan.problem} at byte {window.origin + scan.end}")
                    position, lost = self._resume(format_, window, scan.end)
                else:
                    position = scan.end
                    break
            windows.consumed = position
            self.position = window.origin + position
            if window.last and position < window.end:
                self._damage.append(f"{window.end - position} bytes at the end are no whole record")

    def _recognise(self, window: Window) -> Format:
        head = window.buffer[window.begin : min(window.end, window.begin + 64)].tobytes()
        format_ = Pcap.recognise(head) or Pcapng.recognise(head)
        if format_ is None:
            raise CaptureError(f"{self._source.name}: not a capture: neither pcap nor pcapng")
        return format_

    def _scan(self, format_: Format, window: Window, position: int) -> Scan:
        scan = format_.scan_slowly if self._careful else format_.scan
        result = scan(window.buffer, position, window.end)
        self.frames += len(result.frames)
        links = result.frames.link
        if len(links):  # nearly always one for all; telling them apart takes time
            different = [links[0]] if (links == links[0]).all() else np.unique(links)
            self._unknown_links |= {int(link) for link in different} - SUPPORTED
        return result

    def _resume(self, format_: Format, window: Window, position: int) -> tuple[int, bool]:
        """Where to go on after damage at a position, and whether that has to be looked for
        in the next window."""
        found = format_.resume(window.buffer, position, window.end)
        if found is not None:
            self._damage.append(f"{found - position} bytes skipped")
            return found, False
        return max(position, window.end - 2 * MAX_RECORD), True
