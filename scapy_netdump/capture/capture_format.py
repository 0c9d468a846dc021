# SPDX-License-Identifier: GPL-2.0-or-later
"""What pcap and pcapng have in common: files of records, one behind the other."""

from __future__ import annotations

from abc import ABC, abstractmethod

from ..core.observing.batch import Bytes, Ints
from .chain import Chain
from .frames import Scan


class CaptureFormat(ABC):
    """A capture file of some format, as far as it has been read.

    ``header_size``: bytes before the first record. ``left_out`` counts sound records whose
    contents contradict themselves.
    """

    header_size = 0
    left_out = 0

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._u4 = "<u4"  # a number in the byte order of the file, as numpy names it

    def scan(self, buffer: Bytes, begin: int, end: int) -> Scan:
        """The frames of the whole records in ``[begin, end)``, many at a time."""
        found = self._chain.follow(buffer, begin, end, self._u4)
        scan = None if found is None else self._scan_of(buffer, found, end)
        if scan is None:
            scan = self.scan_slowly(buffer, begin, end)
            self._chain.learn(buffer, scan.frames)
        return scan

    @abstractmethod
    def scan_slowly(self, buffer: Bytes, begin: int, end: int) -> Scan:
        """The same, one record after the other: for what the chain cannot follow."""

    @abstractmethod
    def resume(self, buffer: Bytes, begin: int, end: int) -> int | None:
        """Where sound records go on after damage at ``begin``, if they do before ``end``."""

    @abstractmethod
    def _scan_of(self, buffer: Bytes, found: Ints, end: int) -> Scan | None:
        """The scan of a chain of which only the last record may be cut short by the window;
        None if there is anything in it that needs a closer look."""
