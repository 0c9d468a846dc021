# SPDX-License-Identifier: GPL-2.0-or-later
"""A full dump of memory: an ELF core file with a segment for each range of physical memory.

What the kernel writes with minidumps off (sys/kern/kern_dump.c); the format is that of
elf(5).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..errors import NetdumpError
from .regions import Range, Region, pages_touched

MAGIC = b"\x7fELF"
_CLASS_AT, _DATA_AT = 4, 5
_CORE, _LOAD = 4, 1  # ET_CORE, PT_LOAD

#: Elf32_Ehdr and Elf64_Ehdr behind e_ident, and the program headers of both, as far as
#: they matter: (format, indices of what is used).
_HEADERS = {1: "HHIIIIIHHHHHH", 2: "HHIQQQIHHHHHH"}
_PHOFF, _PHENTSIZE, _PHNUM = 4, 8, 9
_PROGRAM = {
    1: ("IIIIIIII", {"type": 0, "offset": 1, "paddr": 3, "filesz": 4}),
    2: ("IIQQQQQQ", {"type": 0, "offset": 2, "paddr": 4, "filesz": 5}),
}
_IDENT_SIZE = 16
_ORDERS = {1: "<", 2: ">"}

#: e_machine to the architecture's name in FreeBSD.
_MACHINES = {3: "i386", 21: "powerpc64", 40: "armv7", 62: "amd64", 183: "aarch64", 243: "riscv64"}

#: Page size by which lost memory is told; full dumps are made of whole ones.
PAGE = 4096


class ElfError(NetdumpError):
    """An ELF file that is no dump of memory."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A range of memory: ``size`` bytes at ``offset`` of the file, from physical address
    ``address`` on."""

    offset: int
    address: int
    size: int


@dataclass(frozen=True, slots=True)
class ElfCore:
    """What the headers of a full dump say."""

    architecture: str
    byte_order: str
    segments: tuple[Segment, ...]

    @classmethod
    def parse(cls, head: bytes) -> ElfCore | None:
        """The core that begins with ``head``, in which all program headers must be; None if it
        is no ELF file. ElfError if it is another kind of one, or cut short."""
        if not head.startswith(MAGIC):
            return None
        bits, order = head[_CLASS_AT] if len(head) > _DATA_AT else 0, ""
        if bits in _HEADERS:
            order = _ORDERS.get(head[_DATA_AT], "")
        if not order:
            raise ElfError("an ELF file of an unknown class")
        try:
            header = struct.unpack_from(order + _HEADERS[bits], head, _IDENT_SIZE)
            segments = tuple(_segments(head, order, bits, header))
        except (struct.error, OverflowError):  # of an offset that no file has
            raise ElfError("an ELF core whose program headers are cut short") from None
        if header[0] != _CORE:
            raise ElfError("an ELF file, but no core")
        machine = _MACHINES.get(header[1], f"machine {header[1]}")
        return cls(machine, order, segments)

    def regions(self, length: int) -> list[Region]:
        """The parts of a file of ``length`` bytes: the headers, and each range of memory."""
        first = min((segment.offset for segment in self.segments), default=length)
        parts = [Region("ELF headers", 0, min(first, length))]
        for segment in self.segments:
            end = min(segment.offset + segment.size, length)
            name = f"memory from 0x{segment.address:x}"
            parts.append(Region(name, segment.offset, end))
        return [part for part in parts if part.start < part.end]

    def lost(self, missing: Iterable[Range]) -> Iterator[Range]:
        """The ranges of physical addresses of pages of which any byte is missing."""
        missing = list(missing)
        for segment in self.segments:
            region = Region("", segment.offset, segment.offset + segment.size)
            for first, after in pages_touched(region.missing(missing), segment.offset, PAGE):
                yield segment.address + first * PAGE, segment.address + after * PAGE


def _segments(head: bytes, order: str, bits: int, header: tuple[int, ...]) -> Iterator[Segment]:
    format_, places = _PROGRAM[bits]
    for number in range(header[_PHNUM]):
        at = header[_PHOFF] + number * header[_PHENTSIZE]
        values = struct.unpack_from(order + format_, head, at)
        type_, offset, address, size = (values[index] for index in places.values())
        if type_ == _LOAD and size:
            yield Segment(offset, address, size)
