# SPDX-License-Identifier: GPL-2.0-or-later
"""The header of a minidump, struct minidumphdr of each architecture, and the file behind it.

Facts from sys/*/include/minidump.h and lib/libkvm/kvm_*.h of FreeBSD 11 to 15.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from ..errors import NetdumpError
from .regions import Region, in_a_row

#: Bytes that hold the header of any architecture.
HEAD_SIZE = 256

#: All kernels so far; a byte order in which the version is larger is the wrong one.
_MAX_VERSION = 15


class MinidumpError(NetdumpError):
    """A minidump whose header says what cannot be."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How one architecture writes its header.

    ``fields`` follow the sizes that all have in common; later versions add the members of
    ``added``, each with the version that brought it. ``names`` are those of the C struct.
    ``address``: the bytes of a vm_paddr_t in dump_avail.
    """

    architecture: str
    fields: str
    names: tuple[str, ...]
    added: tuple[tuple[int, str], ...] = ()
    orders: str = "<"
    magic_size: int = 24
    table_name: str = "pmapsize"
    address: int = 8

    @property
    def common_names(self) -> tuple[str, ...]:
        """The members that all architectures have behind the magic, each of four bytes."""
        return ("version", "msgbufsize", "bitmapsize", self.table_name)


_DMAP_BASED = ("kernbase", "dmapbase", "dmapend")
_DMAP_AND_PHYSICAL = ("kernbase", "dmapphys", "dmapbase", "dmapend")

#: MINIDUMP_MAGIC to the layout. The powerpc64 magic needs 32 bytes, and the name of the MMU
#: follows it in as many; its int is padded to eight.
LAYOUTS = {
    b"minidump FreeBSD/amd64": Layout(
        "amd64", "QQQ", _DMAP_BASED, ((3, "dumpavailsize"),)
    ),
    b"minidump FreeBSD/arm64": Layout(
        "aarch64", "QQQQ", _DMAP_AND_PHYSICAL, ((2, "dumpavailsize"), (3, "flags"))
    ),
    b"minidump FreeBSD/riscv": Layout(
        "riscv64", "QQQQ", _DMAP_AND_PHYSICAL, ((2, "dumpavailsize"),)
    ),
    b"minidump FreeBSD/i386": Layout(
        "i386", "II", ("kernbase", "paemode"), ((2, "dumpavailsize"),), table_name="ptesize"
    ),
    b"minidump FreeBSD/arm": Layout(
        "armv7", "III", ("kernbase", "arch", "mmuformat"), ((2, "dumpavailsize"),),
        table_name="ptesize", address=4,
    ),
    b"minidump FreeBSD/powerpc64": Layout(
        "powerpc64", "QQQQi4xQQ",
        ("kernbase", "kernend", "dmapbase", "dmapend", "hw_direct_map", "startkernel",
         "endkernel"),
        ((2, "dumpavailsize"),), orders="><", magic_size=32,
    ),
}  # fmt: skip

_MMU_NAME_SIZE = 32  # on powerpc64 only
_COMMON = "IIII"  # version, msgbufsize, bitmapsize, and the size of the page tables

_PAGE = 4096
_PAGES_OF_FLAGS = {0: 4096, 1: 16384, 2: 65536}  # MINIDUMP_FLAG_PS_* of arm64


def minidump_architecture(head: bytes) -> str | None:
    """The architecture of a dump that begins with ``head``, as the kernel puts it into the KDH;
    None if it is no minidump, or none that is known."""
    layout = LAYOUTS.get(_magic(head))
    return layout.architecture if layout is not None else None


def _magic(head: bytes) -> bytes:
    return head[: max(layout.magic_size for layout in LAYOUTS.values())].partition(b"\0")[0]


@dataclass(frozen=True, slots=True)
class Minidump:
    """What a minidump's header says. Sizes are in bytes, as the kernel counted them.

    ``values`` are the members of the architecture's own struct by their C names.
    """

    architecture: str
    version: int
    byte_order: str
    page: int
    msgbufsize: int
    dumpavailsize: int
    bitmapsize: int
    tablesize: int
    address_size: int
    values: dict[str, int] = field(repr=False)

    @classmethod
    def parse(cls, head: bytes) -> Minidump | None:
        """The header at the start of a dump, of which HEAD_SIZE bytes are enough; None if
        this is no minidump. MinidumpError if it is one that is not understood."""
        magic = _magic(head)
        if not magic.startswith(b"minidump FreeBSD/"):
            return None
        layout = LAYOUTS.get(magic)
        if layout is None:
            name = magic.partition(b"/")[2].decode(errors="backslashreplace")
            raise MinidumpError(f"a minidump of an unknown architecture, {name}")
        common_at = layout.magic_size + (_MMU_NAME_SIZE if layout.magic_size > 24 else 0)
        for order in layout.orders:
            if len(head) >= HEAD_SIZE:
                version = struct.unpack_from(order + "I", head, common_at)[0]
                if 0 < version <= _MAX_VERSION:
                    return cls._parse(head, layout, order, common_at, version)
        raise MinidumpError(f"a damaged minidump header of {layout.architecture}")

    @classmethod
    def _parse(cls, head: bytes, layout: Layout, order: str, at: int, version: int) -> Minidump:
        added = [name for since, name in layout.added if version >= since]
        format_ = order + _COMMON + layout.fields + "I" * len(added)
        names = (*layout.common_names, *layout.names, *added)
        values = dict(zip(names, struct.unpack_from(format_, head, at), strict=True))
        return cls(
            architecture=layout.architecture,
            version=version,
            byte_order=order,
            page=_PAGES_OF_FLAGS.get(values.get("flags", 0) & 3, _PAGE),
            msgbufsize=values["msgbufsize"],
            dumpavailsize=values.get("dumpavailsize", 0),
            bitmapsize=values["bitmapsize"],
            tablesize=values[layout.table_name],
            address_size=layout.address,
            values=values,
        )

    @property
    def bitmap_at(self) -> int:
        """Where the page bitmap begins."""
        parts = self._parts()
        return sum(parts[name] for name in ("header", "message buffer", "dump_avail"))

    @property
    def pages_at(self) -> int:
        """Where the memory pages begin."""
        return sum(self._parts().values())

    def regions(self, length: int) -> list[Region]:
        """The parts of a dump of ``length`` bytes, one behind the other."""
        return in_a_row(self._parts(), "memory pages", length)

    def _parts(self) -> dict[str, int]:
        """What stands before the memory pages: the size of each, rounded up to whole pages."""
        sizes = {
            "header": self.page,
            "message buffer": self.msgbufsize,
            "dump_avail": self.dumpavailsize,
            "page bitmap": self.bitmapsize,
            "page tables": self.tablesize,
        }
        return {name: -(-size // self.page) * self.page for name, size in sizes.items()}
