# SPDX-License-Identifier: GPL-2.0-or-later
"""Compressing a vmcore as the kernel does, and unpacking one that may have holes.

sys/kern/subr_compressor.c writes one gzip member, or one Zstandard frame with a checksum and
without the size of its content. In both, what follows a hole refers to what was in it and cannot
be had back. Only where somebody else compressed a dump into many Zstandard frames, those behind
the last hole are whole; where they belong is known if the length of the whole is: counted from
the end.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ..capture.compressed import MAGIC_SIZE, DamagedError, Unpack, unpacker
from ..core.extents import Range
from ..errors import NetdumpError
from ..kerneldump.header import ZSTD_MAGIC
from .content import Content, Held
from .temporary import TemporaryContent

_BUFFER = 1 << 20

#: kern.kerneldump_gzlevel, which both kinds go by.
DEFAULT_LEVEL = 6

LEVELS = {"gzip": range(1, 10), "zstd": range(1, 23)}

_GZIP_WBITS = 31  # zlib.h, deflateInit2: the largest window, a gzip header and trailer


class CompressionError(NetdumpError):
    """A compression that is not to be had."""


def compress(
    content: Content,
    compression: str,
    level: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> TemporaryContent:
    """``content``, compressed with gzip or zstd, in an unnamed temporary file.

    ``progress`` is told how many bytes of the content are done. CompressionError for what
    is unknown, StoreError if there is no room.
    """
    compressor = _compressor(compression, DEFAULT_LEVEL if level is None else level)
    packed = TemporaryContent()
    for offset in range(0, content.size, _BUFFER):
        packed.write(packed.size, compressor.compress(content.read(offset, _BUFFER)))
        if progress is not None:
            progress(min(offset + _BUFFER, content.size))
    packed.write(packed.size, compressor.flush())
    return packed


def _compressor(compression: str, level: int) -> Any:
    levels = LEVELS.get(compression)
    if levels is None:
        raise CompressionError(f"{compression}: not a compression of kernel dumps")
    if level not in levels:
        raise CompressionError(f"{compression} has levels {levels[0]} to {levels[-1]}, not {level}")
    if compression == "gzip":
        return zlib.compressobj(level, zlib.DEFLATED, _GZIP_WBITS)
    return _zstd_compressor(level)


def _zstd_compressor(level: int) -> Any:
    try:
        import zstandard  # an extra, and 20 ms that other dumps need not spend
    except ImportError:
        raise CompressionError(
            "compressing with zstd needs the Python package zstandard: "
            "pip install 'scapy-netdump[zstd]'; gzip needs none"
        ) from None
    return zstandard.ZstdCompressor(level=level, write_checksum=True).compressobj()


Write = Callable[[int, bytes], None]

_HAS_CHECKSUM = 4  # of the byte behind the magic

#: Places that look like the beginning of a frame and are tried.
_MOST_CANDIDATES = 64


class NotCompressedError(NetdumpError):
    """Data that is neither gzip nor zstd, or the package for it is missing."""


@dataclass(slots=True)
class Decompressed:
    """What came out. ``size`` is the length of the whole, as far as it is known; ``missing``
    the ranges of it that did not come out. ``problem`` says why, None if all is well."""

    size: int
    missing: list[Range] = field(default_factory=list)
    problem: str | None = None


class _Reader(io.RawIOBase):
    """Some content as a file, from ``begin`` to ``end``."""

    def __init__(self, content: Content, begin: int, end: int) -> None:
        self._content = content
        self._position = begin
        self._end = end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._end - self._position)
        data = self._content.read(self._position, wanted)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def decompress(content: Content, name: str, total: int | None, write: Write) -> Decompressed:
    """Hand what ``content`` decompresses to, piece by piece with its offset, to ``write``.

    ``total`` is how long that must be, if somebody knows: a sound header's dumpextent.
    ``name`` is for messages. NotCompressedError if it is not compressed, or if what is needed
    for it is not installed; damage and holes are told in the answer.
    """
    end = content.missing[0][0] if content.missing else content.size
    if end < MAGIC_SIZE:
        return _cut(0, total, "its beginning is missing, without which nothing can be unpacked")
    unpack = unpacker(content.read(0, MAGIC_SIZE), name)
    if unpack is None:
        raise NotCompressedError(f"{name}: neither gzip nor zstd")
    position = 0
    problem = None
    try:
        for piece in _unpacked(content, unpack, 0, end):
            write(position, piece)
            position += len(piece)
    except DamagedError as error:
        problem = str(error)
    if end < content.size:
        problem = f"what follows its first missing byte, {end}, cannot be unpacked"
    if problem is None:
        return Decompressed(position)
    answer = _cut(position, total, problem)
    if content.missing and answer.missing and total is not None:
        _add_last_frames(content, unpack, answer, write)
    return answer


def unpacked(content: Content, name: str, total: int | None) -> Content:
    """What ``content`` decompresses to, in an unnamed temporary file; the rest as for
    ``decompress``."""
    file = TemporaryContent()
    result = decompress(content, name, total, file.write)
    file.size, file.missing = result.size, result.missing
    return file


def unpacked_head(content: Content, name: str, total: int | None, limit: int) -> Content:
    """The first ``limit`` bytes of what ``content`` decompresses to, in memory; the rest as for
    ``decompress``, with zeros where it was not looked at."""
    head = bytearray()

    def keep(offset: int, data: bytes) -> None:
        if offset < limit:
            head.extend(bytes(offset - len(head)))
            head.extend(data[: limit - offset])
        if len(head) == limit and not content.missing:
            raise _EnoughError

    with suppress(_EnoughError):
        result = decompress(content, name, total, keep)
        return Held(bytes(head), result.size, result.missing)
    return Held(bytes(head), max(total or 0, len(head)))


class _EnoughError(Exception):
    """No more of it is wanted."""


def _unpacked(content: Content, unpack: Unpack, begin: int, end: int) -> Iterator[bytes]:
    return unpack(io.BufferedReader(_Reader(content, begin, end), _BUFFER))


def _cut(position: int, total: int | None, problem: str) -> Decompressed:
    """What there is to say when unpacking came to ``position`` only.

    Where the end is not known, one byte stands for all that is missing.
    """
    if total is None or total < position:
        total = position + 1
        problem += "; how much is missing is not known"
    missing = [(position, total)] if position < total else []
    return Decompressed(total, missing, problem)


def _add_last_frames(content: Content, unpack: Unpack, answer: Decompressed, write: Write) -> None:
    """Write what the frames behind the last hole hold, if they reach to the very end."""
    ((hole, total),) = answer.missing
    for begin in _candidates(content):
        try:
            size = sum(map(len, _unpacked(content, unpack, begin, content.size)))
        except DamagedError:
            continue
        position = total - size
        if size and position >= hole:
            answer.missing = [(hole, position)] if hole < position else []
            for piece in _unpacked(content, unpack, begin, content.size):
                write(position, piece)
                position += len(piece)
        return


def _candidates(content: Content) -> Iterator[int]:
    """Where frames with a checksum may begin behind the last hole. Compressed data holds
    such bytes by chance: only what unpacks to the end, checksum included, is one."""
    found = 0
    begin = content.missing[-1][1]
    overlap = len(ZSTD_MAGIC)
    while begin < content.size and found < _MOST_CANDIDATES:
        piece = content.read(begin, _BUFFER + overlap)
        at = piece.find(ZSTD_MAGIC)
        while 0 <= at < _BUFFER and found < _MOST_CANDIDATES:
            descriptor = piece[at + overlap : at + overlap + 1]
            if descriptor and descriptor[0] & _HAS_CHECKSUM:
                found += 1
                yield begin + at
            at = piece.find(ZSTD_MAGIC, at + 1)
        begin += _BUFFER
