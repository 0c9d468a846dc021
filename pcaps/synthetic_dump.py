# SPDX-License-Identifier: GPL-2.0-or-later
"""A crashed machine that never was: its memory as a small amd64 minidump, and its header.

The layouts are those of sys/amd64/include/minidump.h and sys/sys/msgbuf.h. Nothing here
is random: the same machine always leaves the same dump. Imports the Scapy layers.
"""

import hashlib
import struct
from dataclasses import dataclass
from typing import Any

from scapy_netdump import KernelDumpHeader

PAGE = 4096
CRASHED_AT = 1_767_225_600  # 2026-01-01 00:00:00 UTC

_VERSION_STRING = (
    "FreeBSD 14.1-RELEASE releng/14.1-n000000 SAMPLE\n"
    "    builder@build.example.org:/usr/obj/usr/src/amd64.amd64/sys/SAMPLE\n"
)

# struct minidumphdr, little-endian as the machine is.
_MINIDUMP = struct.Struct("<24sIIIIQQQI")
_MINIDUMP_VERSION = 3
_KERNBASE = 0xFFFFFE0000000000
_DMAPBASE = 0xFFFFF80000000000
_PHYSICAL_MEMORY = 128 << 20  # its bitmap, a bit a page, takes just one page
_FIRST_PAGE = 512  # the kernel's data begin at 2 MiB, so that one superpage maps them
_SUPERPAGE = 0xE3  # X86_PG_PS, M, A, RW and V of sys/amd64/include/pmap.h

# struct msgbuf, of which the mutex behind the named members stays zero.
_MSGBUF = struct.Struct("<QIIIIIIiI32x")
_MSGBUF_MAGIC = 0x063062
_MSGBUF_SEQUENCES = 16  # sequence numbers run modulo this many times the ring's size

_ZSTD_BLOCK = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine that panicked, and what it leaves. ``pages`` of memory are in its dump."""

    hostname: str = "crash.example.org"
    panicstring: str = "page fault"
    pages: int = 1

    @property
    def vmcore(self) -> bytes:
        """The minidump: five pages that describe it, then the pages of memory."""
        ring = self._message_buffer()
        parts = (
            self._header(len(ring) - _MSGBUF.size),
            ring,
            struct.pack("<4Q", 0, _PHYSICAL_MEMORY, 0, 0),  # dump_avail: one range, and its end
            self._page_bitmap(),
            struct.pack("<Q", _FIRST_PAGE * PAGE | _SUPERPAGE),
            hashlib.shake_128(self.hostname.encode()).digest(self.pages * PAGE),
        )
        return b"".join(part + bytes(-len(part) % PAGE) for part in parts)

    def kdh(self, **fields: Any) -> KernelDumpHeader:
        """The dump's header; ``fields`` says what shall be different from the usual."""
        usual: dict[str, Any] = {
            "dumplength": len(self.vmcore),
            "dumptime": CRASHED_AT,
            "hostname": self.hostname,
            "versionstring": _VERSION_STRING,
            "panicstring": self.panicstring,
        }
        return KernelDumpHeader(**{**usual, **fields})

    @property
    def console(self) -> str:
        """What the console showed."""
        return (
            "---<<BOOT>>---\n"
            f"{_VERSION_STRING}"
            "CPU: Synthetic Processor (3000.00-MHz K8-class CPU)\n"
            f"real memory  = {_PHYSICAL_MEMORY} ({_PHYSICAL_MEMORY >> 20} MB)\n"
            "em0: <Synthetic Ethernet> at device 3.0 on pci0\n"
            "em0: link state changed to UP\n"
            f"Setting hostname: {self.hostname}.\n"
            f"panic: {self.panicstring}\n"
            "cpuid = 0\n"
            f"time = {CRASHED_AT}\n"
            "KDB: stack backtrace:\n"
            "#0 0xffffffff80b9002d at kdb_backtrace+0x5d\n"
            "#1 0xffffffff80b43132 at vpanic+0x132\n"
            "#2 0xffffffff80b42ff3 at panic+0x43\n"
            "Uptime: 10m0s\n"
            f"Dumping {self.pages * PAGE >> 10} out of {_PHYSICAL_MEMORY >> 10} KB\n"
        )

    def _header(self, ring_size: int) -> bytes:
        return _MINIDUMP.pack(
            b"minidump FreeBSD/amd64",
            _MINIDUMP_VERSION,
            ring_size,
            PAGE,  # bitmap
            PAGE,  # page tables
            _KERNBASE,
            _DMAPBASE,
            _DMAPBASE + _PHYSICAL_MEMORY,
            PAGE,  # dump_avail
        )

    def _message_buffer(self) -> bytes:
        """The console's ring, and behind it the struct that tells where the ring begins."""
        text = self.console.encode()
        size = PAGE - _MSGBUF.size
        state = _MSGBUF.pack(
            _DMAPBASE + _FIRST_PAGE * PAGE,  # msg_ptr
            _MSGBUF_MAGIC,
            size,
            len(text),  # msg_wseq: the ring has not been round yet
            0,  # msg_rseq
            sum(text),  # msg_cksum
            size * _MSGBUF_SEQUENCES,  # msg_seqmod
            -1,  # msg_lastpri
            0,  # msg_flags
        )
        return text.ljust(size, b"\0") + state

    def _page_bitmap(self) -> bytes:
        """A bit for each page of physical memory, set for those in the dump."""
        bits = ((1 << self.pages) - 1) << _FIRST_PAGE
        return bits.to_bytes(_PHYSICAL_MEMORY // PAGE // 8, "little")


def zstd(data: bytes) -> bytes:
    """A Zstandard frame (RFC 8878) of ``data``: blocks of equal bytes shrink, others do not.

    A real compressor packs better, and differently in each of its versions.
    """
    magic, single_segment_with_four_bytes_of_size = 0xFD2FB528, 0xA0
    frame = struct.pack("<IBI", magic, single_segment_with_four_bytes_of_size, len(data))
    for begin in range(0, len(data), _ZSTD_BLOCK):
        block = data[begin : begin + _ZSTD_BLOCK]
        repeats = len(set(block)) == 1
        last = begin + _ZSTD_BLOCK >= len(data)
        frame += (len(block) << 3 | repeats << 1 | last).to_bytes(3, "little")
        frame += block[:1] if repeats else block
    return frame
