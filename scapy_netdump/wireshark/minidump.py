# SPDX-License-Identifier: GPL-2.0-or-later
"""How minidumps begin, for the dissector: the layouts of kerneldump/minidump.py, with meanings.

No layer has these fields: they are not netdump's, but the vmcore's that it carries.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ..kerneldump.minidump import LAYOUTS, Layout

MAGIC_SIZE = 24

_MEANINGS = {
    "magic": "Says that this is a minidump, and of which architecture.",
    "version": "Version of the minidump's format.",
    "msgbufsize": "Bytes of the message buffer, the console text.",
    "bitmapsize": "Bytes of the map that tells which pages are here.",
    "pmapsize": "Bytes of the kernel's page tables.",
    "ptesize": "Bytes of the kernel's page table entries.",
    "kernbase": "Where the kernel's address space begins.",
    "dmapphys": "Physical address that the direct map begins with.",
    "dmapbase": "Where the direct map of memory begins.",
    "dmapend": "Where the direct map of memory ends.",
    "dumpavailsize": "Bytes of the list of memory ranges.",
    "paemode": "Whether page table entries are 8 bytes long.",
    "arch": "Version of the processor's architecture.",
    "mmuformat": "Format of the page table entries.",
    "flags": "Size of a page, in the lowest two bits.",
}


class Field(NamedTuple):
    """A little-endian number of ``size`` bytes (the magic: text), in headers of version
    ``since`` and later."""

    name: str
    size: int
    meaning: str
    since: int = 0


def _fields(layout: Layout) -> Iterator[Field]:
    yield Field("magic", layout.magic_size, _MEANINGS["magic"])
    yield from (Field(name, 4, _MEANINGS[name]) for name in layout.common_names)
    for name, code in zip(layout.names, layout.fields, strict=True):
        yield Field(name, struct.calcsize("<" + code), _MEANINGS[name])
    yield from (Field(name, 4, _MEANINGS[name], since) for since, name in layout.added)


#: The fields of each architecture's header by its magic. Those of big-endian machines, with
#: a magic of another size, are left to `netdump info`.
HEADERS = {
    magic.decode(): tuple(_fields(layout))
    for magic, layout in LAYOUTS.items()
    if layout.magic_size == MAGIC_SIZE
}
