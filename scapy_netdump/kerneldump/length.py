# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a dump is by what it says itself, whatever a header, a file or a sender claims.

A minidump: its header, message buffer, dump_avail, page bitmap and page tables, each rounded up
to a page, and one page for each bit that is set in the bitmap (_kvm_pt_init in lib/libkvm).
An ELF core: the end of its last segment. Compressed data: where the stream ends. A textdump tells
only how long it is at least. All of it is a claim too, but one that the bytes of the dump have to
bear out.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
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
_LEAST_GZIP = 18  # RFC 1952, section 2.3: its header and trailer

_SKIPPABLE = b"\x50\x2a\x4d\x18"  # RFC 8878, section 3.1.2: of the first byte four bits are free


@dataclass(frozen=True, slots=True)
class OwnLength:
    """What a dump says of its length, in bytes: ``length`` is None where its end is not among
    the bytes that are there. ``kind`` is what says so: minidump, ELF core, textdump, gzip stream
    or zstd stream. Of what has no mark at its end, ``least`` is how long it is at any rate."""

    kind: str
    length: int | None
    least: int | None = None


def own_length(read: Read, end: int) -> OwnLength | None:
    """What the dump tells of which the bytes below ``end`` came; None if it tells nothing, or the
    bytes that would tell are not known."""
    magic = _beginning(read, min(end, BLOCK))
    if magic.startswith(GZIP_MAGIC):
        return _stream("gzip stream", _gzip_ends(read, end))
    if magic.startswith(ZSTD_MAGIC):
        return _stream("zstd stream", _zstd_ends(read, end))
    if is_textdump(magic):
        return OwnLength("textdump", None, _tar_least(read, end))
    return _minidump_length(read, magic, end) or _elf_length(read, end)


def gzip_stream_of(read: Read, length: int, extent: int) -> OwnLength | None:
    """The length of a gzip stream that is to have ``length`` bytes and to hold ``extent``, if the
    trailer is there that says so (RFC 1952, section 2.3.1); without it the stream has to be
    unpacked for its end."""
    size = read(length - 4, length) if length >= _LEAST_GZIP else None
    fits = size == (extent & 0xFFFFFFFF).to_bytes(4, "little")
    return OwnLength("gzip stream", length) if fits else None


def _beginning(read: Read, end: int) -> bytes:
    """What is known of the first ``end`` bytes, up to the first one that is not."""
    data = read(0, end)
    if data is None:
        known = bisect_left(range(end), True, key=lambda last: read(0, last + 1) is None)
        data = read(0, known)
    return data or b""


def _from(read: Read, start: int, end: int) -> bytes:
    """Some of the bytes from ``start`` on; nothing at the end. _UnknownError if the first one is
    not known."""
    end = min(end, start + _PIECE)
    while start < end:
        data = read(start, end)
        if data is not None:
            return data
        end = start + (end - start) // 2
        if start == end:
            raise _UnknownError
    return b""


class _UnknownError(Exception):
    """Bytes that would tell are not known."""


def _stream(kind: str, ends: Iterator[int | None]) -> OwnLength | None:
    """The last of the places where something ends; None among them says that it does not."""
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
    try:
        core = ElfCore.parse(_beginning(read, min(end, _ELF_HEAD)))
    except ElfError:
        return None
    if core is None or not core.segments:
        return None
    return OwnLength("ELF core", max(segment.offset + segment.size for segment in core.segments))


def _tar_least(read: Read, end: int) -> int:
    """Where the last member of a textdump ends whose header is here. Another one may follow: the
    kernel writes no trailer (textdump_dumpsys in sys/ddb/db_textdump.c)."""
    position = 0
    for _ in range(_MOST_MEMBERS):
        if position < end < position + BLOCK:
            return position + BLOCK
        size = member_size(read(position, position + BLOCK) or b"") if position < end else None
        if size is None:
            break
        position += BLOCK + -(-size // BLOCK) * BLOCK
    return position


def _gzip_ends(read: Read, end: int) -> Iterator[int | None]:
    """Where each gzip member ends (RFC 1952, section 2.2); None for one that does not."""
    position = 0
    while _known(read, position, min(position + 2, end)) == GZIP_MAGIC:
        unpacker = zlib.decompressobj(_GZIP_WBITS)
        while not unpacker.eof:
            piece = _from(read, position, end)
            if not piece or not _fed(unpacker, piece):
                yield None
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


def _zstd_ends(read: Read, end: int) -> Iterator[int | None]:
    """Where each Zstandard frame ends (RFC 8878, section 3.1); None for one that does not."""
    position = 0
    while True:
        magic = _known(read, position, min(position + 4, end))
        if magic == ZSTD_MAGIC:
            position = _zstd_frame(read, position, end)
        elif magic[1:] == _SKIPPABLE[1:] and magic[0] & 0xF0 == _SKIPPABLE[0]:
            size = _known(read, position + 4, min(position + 8, end))
            position += 8 + int.from_bytes(size, "little")
        else:
            return
        if position > end:
            yield None
            return
        yield position


def _zstd_frame(read: Read, position: int, end: int) -> int:
    """Where a frame ends, or something beyond ``end`` if that is not here: its blocks tell their
    sizes (RFC 8878, section 3.1.1)."""
    descriptor = _known(read, position + 4, min(position + 5, end))
    if not descriptor:
        return end + 1
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
            return end + 1
        header = int.from_bytes(_known(read, position, position + 3), "little")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        position += 3 + (1 if kind == 1 else size)  # a run-length block holds one byte
    return position + 4 * checksum


def _known(read: Read, start: int, end: int) -> bytes:
    data = read(start, end) if start < end else b""
    if data is None:
        raise _UnknownError
    return data
