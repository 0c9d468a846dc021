# SPDX-License-Identifier: GPL-2.0-or-later
"""The pcapng capture file (draft-ietf-opsawg-pcapng): sections, interfaces, packet blocks.

Blocks that hold no packets, options, and blocks of unknown types are skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..core.observing.batch import Bytes, Floats, Ints, gather
from .chain import CaptureFormat, Chain
from .frames import LARGEST_RECORD, Frames, Row, Scan, stretches

_SECTION = 0x0A0D0D0A  # the same in both byte orders
_INTERFACE = 1
_OLD_PACKET = 2
_SIMPLE_PACKET = 3
_ENHANCED_PACKET = 6  # names and statistics have the numbers between

#: Byte-order magic of a section header to struct's name of the order.
_SECTION_ORDERS = {struct.pack(order + "I", 0x1A2B3C4D): order for order in "<>"}
_LENGTH = 4  # where a block's total length stands; it stands again at the block's end
_LEAST_BLOCK = 12
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


class Pcapng(CaptureFormat):
    """Finds the frames of a pcapng file."""

    def __init__(self) -> None:
        super().__init__(Chain(frame_at=_PACKET_HEAD, length_at=_LENGTH, overhead=0))
        self._time = 0.0
        self._start_section("<")

    @staticmethod
    def recognise(head: bytes) -> Pcapng | None:
        """The reader for a file that begins with ``head``, if it is a pcapng capture."""
        return Pcapng() if head[:4] == struct.pack("<I", _SECTION) else None

    def scan_slowly(self, buffer: Bytes, begin: int, end: int) -> Scan:
        data = buffer.data
        rows: list[Row] = []
        position = begin
        problem = None
        while position + _LEAST_BLOCK <= end:
            kind, total, order = self._block_head(data, position)
            problem = _unsound(order, total)
            if problem or position + total > end:
                break
            if struct.unpack_from(order + "I", data, position + total - 4)[0] != total:
                problem = "a block whose two lengths differ"
                break
            if kind == _SECTION:
                self._start_section(order)
            else:
                self._take_block(kind, data, position, total, rows)
            position += total
        return Scan(Frames.of(rows), position, problem)

    def resume(self, buffer: Bytes, begin: int, end: int) -> int | None:
        """Where sound blocks go on after damage at ``begin``, if they do before ``end``.

        Blocks tell their length at both ends, so a place where a known type is followed by a
        length that is found again is a block's. They stand at multiples of four, but bytes
        may have been lost.
        """
        other = "<" if self._order == ">" else ">"
        for stretch in stretches(begin + 1, end - _LEAST_BLOCK + 1):
            positions = np.arange(stretch.start, stretch.stop)
            found = [
                *_blocks_among(buffer, positions, end, self._order, _INTERFACE, _ENHANCED_PACKET),
                *_blocks_among(buffer, positions, end, self._order, _SECTION, _SECTION),
                *_blocks_among(buffer, positions, end, other, _SECTION, _SECTION),
            ]
            if found:
                return min(found)
        return None

    def _start_section(self, order: str) -> None:
        self._order = order
        self._u4 = order + "u4"
        names = ("kind", "total", "interface", "high", "low", "captured", "original")
        self._packet = np.dtype([(name, self._u4) for name in names])
        self._interfaces: list[_Interface] = []

    def _block_head(self, data: memoryview, position: int) -> tuple[int, int, str]:
        """A block's type, total length and byte order; a section header brings its own, which
        is empty if its magic number is wrong."""
        order = self._order
        kind, total = struct.unpack_from(order + "II", data, position)
        if kind == _SECTION:
            order = _SECTION_ORDERS.get(bytes(data[position + 8 : position + 12]), "")
            total = struct.unpack_from((order or "<") + "I", data, position + _LENGTH)[0]
        return kind, total, order

    def _take_block(
        self, kind: int, data: memoryview, position: int, total: int, rows: list[Row]
    ) -> None:
        """Take one whole block of the section; packets are added to ``rows``."""
        if kind == _INTERFACE:
            self._describe_interface(data[position : position + total])
        elif kind in (_ENHANCED_PACKET, _OLD_PACKET, _SIMPLE_PACKET):
            row = self._packet_row(kind, data, position, total)
            if row is None:
                self.left_out += 1
            else:
                rows.append(row)

    def _describe_interface(self, block: memoryview) -> None:
        if len(block) < 20 or len(self._interfaces) >= _MAX_INTERFACES:
            self.left_out += 1
            return
        link, _, snaplen = struct.unpack_from(self._order + "HHI", block, 8)
        ticks, offset = 1e6, 0
        for code, value in self._options(block[16:-4]):
            if code == _OPTION_TSRESOL and value:
                ticks = float((2 if value[0] & 0x80 else 10) ** (value[0] & 0x7F))
            elif code == _OPTION_TSOFFSET and len(value) == 8:
                offset = struct.unpack(self._order + "q", value)[0]
        self._interfaces.append(_Interface(link, snaplen, ticks, offset))

    def _options(self, area: memoryview) -> Iterator[tuple[int, bytes]]:
        position = 0
        while position + 4 <= len(area):
            code, size = struct.unpack_from(self._order + "HH", area, position)
            position += 4
            yield code, bytes(area[position : position + size])
            position += size + -size % 4

    def _packet_row(self, kind: int, data: memoryview, position: int, total: int) -> Row | None:
        """A packet block as a row of Frames; None if it contradicts itself."""
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
            & (total & 3 == 0)  # a multiple of four, for a fifth of the time that % takes
            & (total <= LARGEST_RECORD)
            & (captured <= total - _PACKET_HEAD - 4)
            & (interface < len(self._interfaces))
        )
        if not len(found) or not sound.all():
            return None
        if (gather(buffer, found + total - 4, self._u4) != total).any():
            return None
        link, ticks, offset = self._described(interface)
        clock = head["high"].astype(np.uint64) << 32 | head["low"]
        time = clock / ticks + offset
        self._time = float(time[-1])
        original = np.maximum(head["original"].astype(np.int64), captured)
        return Scan(Frames(found + _PACKET_HEAD, captured, original, time, link), after)

    def _described(self, numbers: Ints) -> tuple[Ints, Floats, Ints]:
        """Link type, ticks a second and seconds to add of the interfaces of these numbers. The
        latter two are single where all packets are from one interface, as they mostly are."""
        columns = zip(*self._interfaces, strict=True)
        link, _, ticks, offset = (np.array(column) for column in columns)
        some = numbers[:1] if (numbers == numbers[0]).all() else numbers
        return np.broadcast_to(link[some], len(numbers)), ticks[some], offset[some]


def _unsound(order: str, total: int) -> str | None:
    if not order:
        return "bad byte-order magic"
    if total % 4 or not _LEAST_BLOCK <= total <= LARGEST_RECORD:
        return f"bad block length {total}"
    return None


def _blocks_among(
    buffer: Bytes, positions: Ints, end: int, order: str, first: int, last: int
) -> list[int]:
    """The first position at which a block stands whose type is between two, if any."""
    u4 = order + "u4"
    kind = gather(buffer, positions, u4)
    positions = positions[(kind >= first) & (kind <= last)]
    total = gather(buffer, positions + _LENGTH, u4).astype(np.int64)
    sound = (total % 4 == 0) & (total >= _LEAST_BLOCK) & (total <= LARGEST_RECORD)
    sound &= positions + total <= end
    positions, total = positions[sound], total[sound]
    agree = gather(buffer, positions + total - 4, u4) == total
    return [int(position) for position in positions[agree][:1]]
