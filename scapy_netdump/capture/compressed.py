# SPDX-License-Identifier: GPL-2.0-or-later
"""Unpacking gzip and zstd piece by piece.

A few kilobytes may unpack to gigabytes, so each step is bounded by what comes out of it.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Generator, Iterator
from typing import TypeAlias

from ..errors import CaptureError
from ..kerneldump.header import GZIP_MAGIC, ZSTD_MAGIC

MAGIC_SIZE = 4
"""How many bytes at the beginning of a file ``unpacker`` looks at."""

_INPUT = 64 << 10
_OUTPUT = 512 << 10

_GZIP_WBITS = 31  # zlib.h, inflateInit2: the largest window, a gzip header and trailer
_SKIPPABLE_MAGICS = tuple(bytes([first]) + b"\x2a\x4d\x18" for first in range(0x50, 0x60))
_RLE_BLOCK = 1  # one byte, to be repeated

Pieces: TypeAlias = Iterator[bytes]
Unpack: TypeAlias = Callable[[io.BufferedReader], Pieces]


class DamagedError(Exception):
    """The compressed data cannot be unpacked any further; the message says why."""


def unpacker(head: bytes, name: str) -> Unpack | None:
    """What unpacks a file called ``name`` that begins with ``head``; None if it is plain.

    It yields pieces of half a megabyte at most, and behind the last good one raises
    ``DamagedError`` if the compressed data does not end as it should. Raises
    ``CaptureError`` when the package that it needs is not installed.
    """
    if head.startswith(GZIP_MAGIC):
        return _gunzip
    if head.startswith((ZSTD_MAGIC, *_SKIPPABLE_MAGICS)):
        return _zstd_unpacker(name)
    return None


# ---------------------------------------------------------------- gzip


def _gunzip(file: io.BufferedReader) -> Pieces:
    """The members of a gzip file one behind the other, as gzip(1) joins them."""
    data = _without_padding(file, b"")
    while data:
        if not data.startswith(GZIP_MAGIC[:1]):
            raise DamagedError("what follows the gzip data is not gzip and was left out")
        rest = yield from _gunzip_member(file, data)
        data = _without_padding(file, rest)


def _without_padding(file: io.BufferedReader, data: bytes) -> bytes:
    """``data`` and, if need be, more of ``file``, without the zeros that fill up a tape."""
    data = data.lstrip(b"\0")
    while not data and (more := file.read1(_INPUT)):
        data = more.lstrip(b"\0")
    return data


def _gunzip_member(file: io.BufferedReader, data: bytes) -> Generator[bytes, None, bytes]:
    """Yields the pieces of one member, and returns what was read of ``file`` behind it."""
    member = zlib.decompressobj(_GZIP_WBITS)
    while not member.eof:
        before = member.copy()
        try:
            piece = member.decompress(data, _OUTPUT)
        except zlib.error as error:
            yield from _unpack_bytewise(before, data)
            raise DamagedError(f"the gzip data is damaged: {error}") from None
        if piece:
            yield piece
        elif not data:
            raise DamagedError("the gzip data is cut short")
        if not member.eof:
            data = member.unconsumed_tail or file.read1(_INPUT)
    return member.unused_data


def _unpack_bytewise(member: zlib._Decompress, data: bytes) -> Pieces:
    """What ``data`` yields before the byte that zlib refuses: a failed call returns nothing."""
    try:
        for position in range(len(data)):
            yield member.decompress(data[position : position + 1])
    except zlib.error:
        return


# ---------------------------------------------------------------- zstd


def _zstd_unpacker(name: str) -> Unpack:
    try:
        import zstandard  # optional, and 20 ms that other captures need not spend
    except ImportError:
        raise CaptureError(
            f"{name}: compressed with zstd; install the Python package zstandard to read it,"
            " or unpack it with zstd -d"
        ) from None

    def unzstd(file: io.BufferedReader) -> Pieces:
        for frame in _zstd_frames(file):
            decompressor = zstandard.ZstdDecompressor().decompressobj()
            for part in frame:
                try:
                    yield decompressor.decompress(part)
                except zstandard.ZstdError as error:
                    raise DamagedError(f"the zstd data cannot be unpacked: {error}") from None

    return unzstd


def _zstd_frames(file: io.BufferedReader) -> Iterator[Pieces]:
    """Each frame as its parts, which must be taken before the next frame."""
    while head := file.read(1):
        if head == b"\0":  # zeros to the end fill up a block
            _only_zeros(file)
            return
        magic = head + _exactly(file, len(ZSTD_MAGIC) - 1)
        if magic == ZSTD_MAGIC:
            yield _zstd_frame(file, magic)
        elif magic in _SKIPPABLE_MAGICS:
            _skip(file, int.from_bytes(_exactly(file, 4), "little"))
        else:
            raise DamagedError("what follows the zstd data is not zstd and was left out")


def _only_zeros(file: io.BufferedReader) -> None:
    while data := file.read(_INPUT):
        if data.strip(b"\0"):
            raise DamagedError("what follows the zstd data is not zstd and was left out")


def _zstd_frame(file: io.BufferedReader, magic: bytes) -> Pieces:
    """The header, the blocks and the checksum of a frame (RFC 8878, section 3.1.1).

    Block by block, because a block unpacks to 128 KiB at most, and because the library
    does not tell an end of the file within a frame from the end of the frame.
    """
    descriptor = _exactly(file, 1)
    flags = descriptor[0]
    single_segment = flags >> 5 & 1
    window = 1 - single_segment
    dictionary_id = (0, 1, 2, 4)[flags & 3]
    content_size = (single_segment, 2, 4, 8)[flags >> 6]
    yield magic + descriptor + _exactly(file, window + dictionary_id + content_size)
    last = 0
    while not last:
        header = _exactly(file, 3)
        fields = int.from_bytes(header, "little")
        last, kind, size = fields & 1, fields >> 1 & 3, fields >> 3
        yield header + _exactly(file, 1 if kind == _RLE_BLOCK else size)
    if flags & 4:
        yield _exactly(file, 4)


def _exactly(file: io.BufferedReader, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise DamagedError("the zstd data is cut short")
    return data


def _skip(file: io.BufferedReader, size: int) -> None:
    while size:
        size -= len(_exactly(file, min(size, _INPUT)))
