# SPDX-License-Identifier: GPL-2.0-or-later
"""The pcapng capture file (draft-ietf-opsawg-pcapng): sections, interfaces, packet blocks.

Blocks that hold no packets, options, and blocks of unknown types are skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..core.batch import Bytes, Ints, gather
from .chain import Chain
from .frames import Frames, Row, Scan

_SECTION = 0x0A0D0D0A  # the same in both byte orders
_INTERFACE = 1
_OLD_PACKET = 2
_SIMPLE_PACKET = 3
_NAMES = 4
_STATISTICS = 5
_ENHANCED_PACKET = 6
_COMMON_TYPES = (
    _SECTION,
    _INTERFACE,
    _OLD_PACKET,
    _SIMPLE_PACKET,
    _NAMES,
    _STATISTICS,
    _ENHANCED_PACKET,
)

_BYTE_ORDER_MAGIC = 0x1A2B3C4D
_LENGTH = 4  # where a block's total length stands; it stands again at the block's end
_LEAST_BLOCK = 12
_MAX_BLOCK = 1 << 22
_PACKET_HEAD = 28  # of an Enhanced or an old Packet Block
_SIMPLE_HEAD = 12
_MAX_INTERFACES = 1 << 16

_OPTION_TSRESOL = 9
_OPTION_TSOFFSET = 14


class _Interface(NamedTuple):
    """What an Interface Description Block says of the packets that name it."""

    link: int
    snaplen: int
    ticks: float  # a second
    offset: int  # seconds to add


class Pcapng:
    """Finds the frames of a pcapng file."""

    header_size = 0

    def __init__(self) -> None:
        self._chain = Chain(frame_at=_PACKET_HEAD, length_at=_LENGTH, overhead=0)
        self._time = 0.0
        self._start_section("<")

    @staticmethod
    def recognise(head: bytes) -> Pcapng | None:
        """The reader for a file that begins with ``head``, if it is a pcapng capture."""
        return Pcapng() if head[:4] == struct.pack("<I", _SECTION) else None

    def scan(self, buffer: Bytes, begin: int, end: int) -> Scan:
        """The frames of the whole blocks in ``[begin, end)``, many at a time."""
        found = self._chain.follow(buffer, begin, end, self._u4)
        scan = None if found is None else self._scan_of(buffer, found, end)
        if scan is None:
            scan = self.scan_slowly(buffer, begin, end)
            self._chain.learn(buffer, scan.frames)
        return scan

    def scan_slowly(self, buffer: Bytes, begin: int, end: int) -> Scan:
        """The same, one block after the other: for what the chain cannot follow."""
        data = buffer.data
        rows: list[Row] = []
        position = begin
        problem = None
        while position + _LEAST_BLOCK <= end:
            kind, total = self._block_head(data, position)
            problem = _unsound(total)
            if problem or position + total > end:
                break
            if struct.unpack_from(self._order + "I", data, position + total - 4)[0] != total:
                problem = "a block whose two lengths differ"
                break
            problem = self._block(kind, data, position, total, rows)
            if problem:
                break
            position += total
        return Scan(Frames.of(rows), position, problem)

    def resume(self, buffer: Bytes, begin: int, end: int) -> int | None:
        """Where sound blocks go on after damage at ``begin``, if they do before ``end``.

        Blocks are multiples of four bytes long and tell their length at both ends, so a
        place where a known type is followed by a length that is found again is a block's.
        """
        size = (end - begin) // 4 * 4
        words = buffer[begin : begin + size].view(self._u4).astype(np.int64)
        kinds, totals = words[:-1], words[1:]
        sound = (totals % 4 == 0) & (totals >= _LEAST_BLOCK) & (totals <= _MAX_BLOCK)
        candidates = np.flatnonzero(np.isin(kinds, _COMMON_TYPES) & sound)
        candidates = candidates[candidates > 0]
        last = candidates + totals[candidates] // 4 - 1
        inside = last < len(words)
        agree = words[last[inside]] == totals[candidates[inside]]
        found = candidates[inside][agree]
        return begin + 4 * int(found[0]) if len(found) else None

    def _start_section(self, order: str) -> None:
        self._order = order
        self._u4 = order + "u4"
        names = ("kind", "total", "interface", "high", "low", "captured", "original")
        self._packet = np.dtype([(name, self._u4) for name in names])
        self._interfaces: list[_Interface] = []

    def _block_head(self, data: memoryview, position: int) -> tuple[int, int]:
        """A block's type and total length; a section header brings its own byte order."""
        kind, total = struct.unpack_from(self._order + "II", data, position)
        if kind == _SECTION:
            magic = struct.unpack_from(self._order + "I", data, position + 8)[0]
            if magic != _BYTE_ORDER_MAGIC:
                self._start_section("<" if self._order == ">" else ">")
                total = struct.unpack_from(self._order + "I", data, position + _LENGTH)[0]
        return kind, total

    def _block(
        self, kind: int, data: memoryview, position: int, total: int, rows: list[Row]
    ) -> str | None:
        """Take one whole block; packets are added to ``rows``. Returns what is wrong with it."""
        if kind == _SECTION:
            self._start_section(self._order)
        elif kind == _INTERFACE:
            return self._describe_interface(data[position : position + total])
        elif kind in (_ENHANCED_PACKET, _OLD_PACKET, _SIMPLE_PACKET):
            row = self._packet_row(kind, data, position, total)
            if row is None:
                return "a packet block that contradicts itself"
            rows.append(row)
        return None

    def _describe_interface(self, block: memoryview) -> str | None:
        if len(block) < 20 or len(self._interfaces) >= _MAX_INTERFACES:
            return "a bad interface description"
        link, _, snaplen = struct.unpack_from(self._order + "HHI", block, 8)
        ticks, offset = 1e6, 0
        for code, value in self._options(block[16:-4]):
            if code == _OPTION_TSRESOL and value:
                ticks = float((2 if value[0] & 0x80 else 10) ** (value[0] & 0x7F))
            elif code == _OPTION_TSOFFSET and len(value) == 8:
                offset = struct.unpack(self._order + "q", value)[0]
        self._interfaces.append(_Interface(link, snaplen, ticks, offset))
        return None

    def _options(self, area: memoryview) -> Iterator[tuple[int, bytes]]:
        position = 0
        while position + 4 <= len(area):
            code, size = struct.unpack_from(self._order + "HH", area, position)
            position += 4
            yield code, bytes(area[position : position + size])
            position += size + -size % 4

    def _packet_row(self, kind: int, data: memoryview, position: int, total: int) -> Row | None:
        """A packet block as a row of Frames."""
        if kind == _SIMPLE_PACKET:
            if not self._interfaces or total < _SIMPLE_HEAD + 4:
                return None
            interface = self._interfaces[0]
            original = struct.unpack_from(self._order + "I", data, position + 8)[0]
            captured = min(original, interface.snaplen or original, total - _SIMPLE_HEAD - 4)
            start = position + _SIMPLE_HEAD
            return start, captured, original, self._time, interface.link
        if total < _PACKET_HEAD + 4:
            return None
        layout = "IIIII" if kind == _ENHANCED_PACKET else "HxxIIII"
        number, high, low, captured, original = struct.unpack_from(
            self._order + layout, data, position + 8
        )
        if number >= len(self._interfaces) or captured > total - _PACKET_HEAD - 4:
            return None
        interface = self._interfaces[number]
        self._time = (high << 32 | low) / interface.ticks + interface.offset
        start = position + _PACKET_HEAD
        return start, captured, max(original, captured), self._time, interface.link

    def _scan_of(self, buffer: Bytes, found: Ints, end: int) -> Scan | None:
        """The scan of a chain of Enhanced Packet Blocks, of which only the last may be cut
        short by the window; None if there is anything else among them."""
        if int(found[-1]) + _PACKET_HEAD > end:
            found = found[:-1]
        head = gather(buffer, found, f"V{_PACKET_HEAD}").view(self._packet)
        total = head["total"].astype(np.int64)
        after = int(found[-1] + total[-1])
        if after > end:
            after = int(found[-1])
            found, head, total = found[:-1], head[:-1], total[:-1]
        captured = head["captured"].astype(np.int64)
        interface = head["interface"].astype(np.int64)
        sound = (
            (head["kind"] == _ENHANCED_PACKET)
            & (total % 4 == 0)
            & (total <= _MAX_BLOCK)
            & (captured <= total - _PACKET_HEAD - 4)
            & (interface < len(self._interfaces))
        )
        if not len(found) or not sound.all():
            return None
        columns = zip(*self._interfaces, strict=True)
        link, _, ticks, offset = (np.array(column) for column in columns)
        clock = head["high"].astype(np.int64) << 32 | head["low"]
        time = clock / ticks[interface] + offset[interface]
        self._time = float(time[-1])
        original = np.maximum(head["original"].astype(np.int64), captured)
        return Scan(Frames(found + _PACKET_HEAD, captured, original, time, link[interface]), after)


def _unsound(total: int) -> str | None:
    if total % 4 or not _LEAST_BLOCK <= total <= _MAX_BLOCK:
        return f"bad block length {total}"
    return None
