# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a dump is by what it says itself, whatever a header, a file or a sender claims.

A minidump: its header, message buffer, dump_avail, page bitmap and page tables, each rounded up
to a page, and one page for each bit that is set in the bitmap (_kvm_pt_init in lib/libkvm).
An ELF core: the end of its last segment. A textdump: its tar members. Compressed data: where the
stream ends. All of it is a claim too, but one that the bytes of the dump have to bear out.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .elfcore import ElfCore, ElfError
from .header import GZIP_MAGIC, ZSTD_MAGIC
from .minidump import HEAD_SIZE as MINIDUMP_HEAD
from .minidump import Minidump, MinidumpError
from .textdump import BLOCK, is_textdump, member_size

#: Reads the bytes ``[start, end)`` of a dump; None if not all of them are known.
Read = Callable[[int, int], bytes | None]

#: Bytes read at once.
_PIECE = 1 << 20

#: Bytes in which an ELF core has all its program headers, as in contents.py.
_ELF_HEAD = 1 << 16

#: A bitmap of 1 GiB stands for 32 TiB of memory; what claims to be larger is not believed.
_MOST_BITMAP = 1 << 30

#: The kernel writes one stream. One of very many members, or of blocks that hold next to nothing,
#: is there to cost time.
_MOST_STREAMS = 1 << 12
_FREE_BLOCKS, _LEAST_BLOCK = 1 << 12, 256

#: The kernel's textdumps have five files (textdump(4)); what has very many is none.
_MOST_MEMBERS = 1 << 12

_GZIP_WBITS = 31  # zlib.h, inflateInit2: a gzip header and trailer


@dataclass(frozen=True, slots=True)
class OwnLength:
    """What a dump says of its length, in bytes: ``length`` is None where its end is not among
    the bytes that are there. ``kind`` is what says so: minidump, ELF core, textdump, gzip stream
    or zstd stream."""

    kind: str
    length: int | None


def own_length(read: Read, end: int) -> OwnLength | None:
    """What the dump tells of which the bytes below ``end`` came; None if it tells nothing, or the
    bytes that would tell are not known."""
    magic = read(0, min(end, BLOCK)) or read(0, min(end, MINIDUMP_HEAD)) or b""
    if magic.startswith(GZIP_MAGIC):
        return _stream("gzip stream", _gzip_end(read, end))
    if magic.startswith(ZSTD_MAGIC):
        return _stream("zstd stream", _zstd_end(read, end))
    if is_textdump(magic):
        return _stream("textdump", _tar_end(read, end))
    return _minidump_length(read, magic, end) or _elf_length(read, end)


class _UnknownError(Exception):
    """Bytes that would tell are not known."""


def _stream(kind: str, ends: Iterator[int]) -> OwnLength | None:
    """The last of the places where something may end; none is known if it is cut short."""
    length = None
    try:
        for number, length in enumerate(ends):  # noqa: B007
            if number >= _MOST_STREAMS:
                return None
    except _UnknownError:
        return None
    return OwnLength(kind, length)


def _minidump_length(read: Read, head: bytes, end: int) -> OwnLength | None:
    try:
        minidump = Minidump.parse(head[:MINIDUMP_HEAD])
    except MinidumpError:
        return None
    if minidump is None or minidump.bitmapsize > _MOST_BITMAP:
        return None
    start = minidump.bitmap_at
    stop = start + minidump.bitmapsize
    if stop > end:
        return OwnLength("minidump", None)
    pages = 0
    for at in range(start, stop, _PIECE):
        piece = read(at, min(at + _PIECE, stop))
        if piece is None:
            return None
        pages += int.from_bytes(piece, "little").bit_count()
    return OwnLength("minidump", minidump.pages_at + pages * minidump.page)


def _elf_length(read: Read, end: int) -> OwnLength | None:
    head = read(0, min(end, _ELF_HEAD))
    try:
        core = ElfCore.parse(head) if head is not None else None
    except ElfError:
        return None
    if core is None or not core.segments:
        return None
    return OwnLength("ELF core", max(segment.offset + segment.size for segment in core.segments))


def _tar_end(read: Read, end: int) -> Iterator[int]:
    """Where each member of a textdump ends. The kernel writes no trailer, so that what follows
    the last one is the end of the file."""
    position = 0
    for _ in range(_MOST_MEMBERS):
        header = _known(read, position, position + BLOCK) if position + BLOCK <= end else b""
        size = member_size(header)
        if size is None:
            return
        position += BLOCK + -(-size // BLOCK) * BLOCK
        yield position


def _gzip_end(read: Read, end: int) -> Iterator[int]:
    """Where each gzip member ends (RFC 1952, section 2.2)."""
    position = 0
    while _known(read, position, min(position + 2, end)) == GZIP_MAGIC:
        unpacker = zlib.decompressobj(_GZIP_WBITS)
        while not unpacker.eof:
            piece = _known(read, position, min(position + _PIECE, end))
            if not piece or not _fed(unpacker, piece):
                return
            position += len(piece)
        position -= len(unpacker.unused_data)
        yield position


def _fed(unpacker: zlib._Decompress, piece: bytes) -> bool:
    """Unpack a piece, and throw away what comes out; False if it is damaged."""
    try:
        while piece and not unpacker.eof:
            unpacker.decompress(piece, _PIECE)
            piece = unpacker.unconsumed_tail
    except zlib.error:
        return False
    return True


def _zstd_end(read: Read, end: int) -> Iterator[int]:
    """Where each Zstandard frame ends: its blocks tell their sizes (RFC 8878, section 3.1.1)."""
    position = 0
    while _known(read, position, min(position + 4, end)) == ZSTD_MAGIC:
        descriptor = _known(read, position + 4, min(position + 5, end))
        if not descriptor:
            return
        single, checksum = descriptor[0] >> 5 & 1, descriptor[0] >> 2 & 1
        content_size = (single, 2, 4, 8)[descriptor[0] >> 6]
        dictionary = (0, 1, 2, 4)[descriptor[0] & 3]
        position += 5 + (1 - single) + dictionary + content_size
        first, blocks, last = position, 0, 0
        while not last:
            blocks += 1
            if blocks > _FREE_BLOCKS and position - first < blocks * _LEAST_BLOCK:
                raise _UnknownError
            if position + 3 > end:
                return
            header = int.from_bytes(_known(read, position, position + 3), "little")
            last, kind, size = header & 1, header >> 1 & 3, header >> 3
            position += 3 + (1 if kind == 1 else size)  # a run-length block holds one byte
        position += 4 * checksum
        if position > end:
            return
        yield position


def _known(read: Read, start: int, end: int) -> bytes:
    data = read(start, end) if start < end else b""
    if data is None:
        raise _UnknownError
    return data
