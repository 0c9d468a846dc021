# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's message buffer: what the console showed, in a ring.

struct msgbuf (sys/sys/msgbuf.h) stands right behind the ring and tells where it begins
(msgbufinit in sys/kern/subr_msgbuf.c).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ..text import counted, printable
from .regions import Range

MAGIC = 0x063062
_SEQUENCES = 16  # MSGBUF_SEQMOD: sequence numbers run modulo this many times the ring's size

#: msg_magic, msg_size, msg_wseq, msg_rseq, msg_cksum and msg_seqmod, behind a pointer.
_MEMBERS = "IIIIII"
_MEMBERS_SIZE = struct.calcsize(_MEMBERS)
STRUCT_SIZE = 8 + _MEMBERS_SIZE

#: Rings that are believed: the kernel's default is 96 KiB.
MIN_SIZE, MAX_SIZE = 256, 1 << 26


@dataclass(frozen=True, slots=True)
class MessageBuffer:
    """Where the ring stands: ``size`` bytes from ``start`` of a file on, and where in it the
    next character would have gone: None if nothing tells."""

    start: int
    size: int
    write_at: int | None

    @classmethod
    def described_by(
        cls, data: bytes, at: int, start: int, byte_order: str
    ) -> MessageBuffer | None:
        """What a struct msgbuf at ``at`` of ``data`` says of a ring that begins at ``start`` of
        the file; None if there is none. Pointers may have four or eight bytes."""
        for pointer in (8, 4):
            magic_at = at + pointer
            if magic_at + _MEMBERS_SIZE > len(data):
                continue
            magic, size, wseq, _, _, seqmod = struct.unpack_from(
                byte_order + _MEMBERS, data, magic_at
            )
            if magic == MAGIC and MIN_SIZE <= size <= MAX_SIZE and seqmod == size * _SEQUENCES:
                return cls(start, size, wseq % size)
        return None

    def in_order(self) -> list[Range]:
        """The ranges of the file to read one after the other: the oldest text comes first."""
        end = self.start + self.size
        turn = self.start + (self.write_at or 0)
        return [part for part in ((turn, end), (self.start, turn)) if part[0] < part[1]]


def console_text(pieces: Iterable[bytes | int]) -> str:
    """The text of a ring, from its bytes in order, in which a number stands for so many
    missing ones.

    What was never written is NUL, and left out. Line breaks and tabs are kept, all other
    control characters escaped; the priority marks that the kernel puts before syslog lines
    stay. Missing bytes are marked on a line of their own.
    """
    parts: list[str] = []
    for piece in pieces:
        if isinstance(piece, int):
            parts.append(f"\n[{counted(piece, 'byte')} missing]\n")
        else:
            parts.append(_harmless(piece.replace(b"\0", b"")))
    text = "".join(parts)
    return text if text.endswith("\n") or not text else text + "\n"


def _harmless(data: bytes) -> str:
    text = data.decode(errors="backslashreplace").replace("\r\n", "\n")
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in text.split("\n"))


def find_msgbufs(data: bytes, byte_order: str) -> Iterator[int]:
    """Places in ``data`` at which a struct msgbuf with eight-byte pointers may begin: for
    dumps that do not tell where it is."""
    magic = struct.pack(byte_order + "I", MAGIC)
    at = data.find(magic)
    while at >= 0:
        if at >= 8:
            yield at - 8
        at = data.find(magic, at + 1)
