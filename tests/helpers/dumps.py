# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumps of every architecture as their kernels write them, built byte by byte for tests.

The structs are written out here once more, after the C headers and with the padding that C
puts in, so that they check the package's tables instead of repeating them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

#: (magic, version) to the format of struct minidumphdr with its padding, and what goes where:
#: "r" ring size, "b" bitmap size, "t" page tables' size, "a" dump_avail size, "p" page flags,
#: anything else is a number of no meaning here.
HEADERS = {
    ("amd64", 1): ("<24sIIIIQQQ", "vrbtxxx"),
    ("amd64", 2): ("<24sIIIIQQQ", "vrbtxxx"),
    ("amd64", 3): ("<24sIIIIQQQI", "vrbtxxxa"),
    ("arm64", 1): ("<24sIIIIQQQQ", "vrbtxxxx"),
    ("arm64", 2): ("<24sIIIIQQQQI", "vrbtxxxxa"),
    ("arm64", 3): ("<24sIIIIQQQQII", "vrbtxxxxap"),
    ("riscv", 1): ("<24sIIIIQQQQ", "vrbtxxxx"),
    ("riscv", 2): ("<24sIIIIQQQQI", "vrbtxxxxa"),
    ("i386", 1): ("<24sIIIIII", "vrbtxx"),
    ("i386", 2): ("<24sIIIIIII", "vrbtxxa"),
    ("arm", 1): ("<24sIIIIIII", "vrbtxxx"),
    ("arm", 2): ("<24sIIIIIIII", "vrbtxxxa"),
    ("powerpc64", 1): (">32s32sIIIIQQQQi4xQQ", "mvrbtxxxxxxx"),
    ("powerpc64", 2): (">32s32sIIIIQQQQi4xQQI", "mvrbtxxxxxxxa"),
}
PAGE_FLAGS = {4096: 0, 16384: 1}


@dataclass
class Minidump:
    """A minidump to build. ``present``: page numbers of physical memory that are in it;
    ``memory``: pairs of addresses that dump_avail lists."""

    name: str
    version: int
    present: list[int]
    memory: list[tuple[int, int]] = field(default_factory=lambda: [(0, 1 << 24)])
    text: bytes = b"panic: sample\n"
    ring_size: int = 0
    wrote: int | None = None
    tables: int = 2
    page: int = 4096

    @property
    def order(self) -> str:
        return HEADERS[self.name, self.version][0][0]

    @property
    def has_ranges(self) -> bool:
        return "a" in HEADERS[self.name, self.version][1]

    @property
    def ring(self) -> bytes:
        """The message buffer's region: the ring, and behind it the struct."""
        pointer = "I" if self.name in ("i386", "arm") else "Q"
        layout = struct.Struct(self.order + pointer + "IIIIIIiI")
        region = -(-(self.ring_size or 2000) // self.page) * self.page
        size = region - layout.size - 32
        wrote = len(self.text) if self.wrote is None else self.wrote
        data = bytearray(size)
        for number, byte in enumerate(self.text):
            data[(wrote - len(self.text) + number) % size] = byte
        state = layout.pack(0x1000, 0x063062, size, wrote % (size * 16), 0, 0, size * 16, -1, 0)
        self.ring_bytes = size
        return (bytes(data) + state).ljust(region, b"\0")

    @property
    def dump_avail(self) -> bytes:
        if not self.has_ranges:
            return b""
        code = "II" if self.name == "arm" else "QQ"
        pairs = [*self.memory, (0, 0)]
        return b"".join(struct.pack(self.order + code, *pair) for pair in pairs)

    @property
    def bitmap(self) -> bytes:
        if self.has_ranges:
            pages = [
                page
                for start, end in self.memory
                for page in range(start // self.page, -(-end // self.page))
            ]
            bits = [pages.index(page) for page in self.present]
        else:
            pages = list(range((1 << 24) // self.page))
            bits = self.present
        words = bytearray(-(-len(pages) // 64) * 8)
        for bit in bits:
            word, place = divmod(bit, 64)
            value = int.from_bytes(words[word * 8 : word * 8 + 8], self._bytes) | 1 << place
            words[word * 8 : word * 8 + 8] = value.to_bytes(8, self._bytes)
        return bytes(words)

    @property
    def _bytes(self):
        return "big" if self.order == ">" else "little"

    def content(self, page: int) -> bytes:
        """What a page of physical memory holds."""
        return struct.pack(">Q", page) * (self.page // 8)

    def parts(self) -> list[bytes]:
        """The regions, each of whole pages."""
        layout, places = HEADERS[self.name, self.version]
        ring, bitmap, avail = self.ring, self.bitmap, self.dump_avail
        tables = bytes(self.tables * self.page)
        known = {
            "v": self.version, "r": self.ring_bytes, "b": len(bitmap), "t": len(tables),
            "a": len(avail), "p": PAGE_FLAGS[self.page], "m": b"mmu", "x": 7,
        }  # fmt: skip
        magic = f"minidump FreeBSD/{self.name}".encode()
        head = struct.pack(layout, magic, *(known[place] for place in places))
        parts = [head, ring, avail, bitmap, tables]
        return [part.ljust(-(-len(part) // self.page) * self.page, b"\0") for part in parts]

    def build(self) -> bytes:
        """The whole file."""
        return b"".join(self.parts() + [self.content(page) for page in sorted(self.present)])


def elf_core(order: str, bits: int, machine: int, segments: list[tuple[int, bytes]]) -> bytes:
    """A full dump: ``segments`` are physical addresses and what is there."""
    head_format, program_format = (
        ("16sHHIQQQIHHHHHH", "IIQQQQQQ") if bits == 64 else ("16sHHIIIIIHHHHHH", "IIIIIIII")
    )
    ident = b"\x7fELF" + bytes([bits // 32, 1 if order == "<" else 2, 1, 255]).ljust(12, b"\0")
    size = struct.calcsize(order + head_format)
    entry = struct.calcsize(order + program_format)
    head = struct.pack(
        order + head_format, ident, 4, machine, 1, 0, size, 0, 0, size, entry, len(segments),
        0, 0, 0,
    )  # fmt: skip
    offset = 4096
    programs = data = b""
    for address, content in segments:
        length = len(content)
        if bits == 64:
            values = (1, 7, offset, 0, address, length, length, 4096)
        else:
            values = (1, offset, 0, address, length, length, 7, 4096)
        programs += struct.pack(order + program_format, *values)
        data += content
        offset += length
    return (head + programs).ljust(4096, b"\0") + data


def ustar(name: str, data: bytes) -> bytes:
    """A member of a textdump as the kernel writes it."""
    header = bytearray(512)
    header[0 : len(name)] = name.encode()
    header[100:104] = b"0600"
    header[124:135] = (b"%o" % len(data)).ljust(11, b"\0")
    header[257:262] = b"ustar"
    header[148:156] = b" " * 8
    header[148:155] = b"%6o\0" % sum(header)
    return bytes(header) + data.ljust(-(-len(data) // 512) * 512, b"\0")
