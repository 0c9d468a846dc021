# SPDX-License-Identifier: GPL-2.0-or-later
"""A vmcore as a plain file: decrypted and decompressed, around its holes. Wiring only.

Nothing has the final name before it is all there, and a mapfile beside it says what is not.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ..core.extents import Range
from ..errors import StoreError
from ..kerneldump.header import DumpHeader, compression_number
from ..store.mapfile import mapfile_text
from .cipher import WINDOW, Cipher, Decrypted
from .content import Content, Held, Part
from .decompress import Decompressed, Write, decompress

#: Told of the bytes read so far, and of how many.
Progress = Callable[[int, int], None]

_HEAD = 64


@dataclass(frozen=True, slots=True)
class PlainCopy:
    """A plain vmcore. ``missing`` are the ranges of its ``size`` bytes that could not be had;
    ``map`` is the mapfile that says so. ``problem`` is why, None if all is well."""

    path: Path
    size: int
    missing: list[Range] = field(default_factory=list)
    map: Path | None = None
    problem: str | None = None

    @property
    def complete(self) -> bool:
        """Whether all of it is there and undamaged."""
        return not self.missing and self.problem is None


def plain_copy(
    source: Content,
    destination: Path,
    *,
    header: DumpHeader | None = None,
    cipher: Cipher | None = None,
    unpack: bool = False,
    force: bool = False,
    progress: Progress | None = None,
) -> PlainCopy:
    """Write what is in ``source``, a vmcore with its holes, to a new file ``destination``.

    It is decrypted if there is a ``cipher``, and decompressed if it is compressed and
    ``unpack`` is set. ``header`` tells where compressed data end, and how long they were
    before. ``force`` replaces a file that is there. StoreError if it cannot be written; then
    no file is left.
    """
    sound = header if header is not None and header.valid else None
    content = _decrypted(source, sound, cipher)
    watched = _Watched(content, progress)
    with _new_file(destination, force) as descriptor:

        def write(offset: int, data: bytes) -> None:
            view = memoryview(data)
            while view:
                written = os.pwrite(descriptor, view, offset)
                offset += written
                view = view[written:]

        extent = sound.dumpextent if sound is not None else 0
        packed = sound.compression if sound is not None else _compression(content)
        if unpack and packed:
            result = decompress(watched, destination.name, extent or None, write)
        else:
            result = _copy(watched, write)
        os.ftruncate(descriptor, _end(result))
        map_ = _write_map(destination, result)
    return PlainCopy(destination, result.size, result.missing, map_, result.problem)


def plain_head(
    source: Content,
    name: str,
    limit: int,
    *,
    header: DumpHeader | None = None,
    cipher: Cipher | None = None,
) -> Content:
    """What is in ``source``, decrypted and decompressed, to be looked at: if it is compressed
    its first ``limit`` bytes, otherwise all of it.

    What a hole in compressed data makes unreadable is ``missing``. ``name`` is for messages.
    NetdumpError if what it takes is not installed.
    """
    content = _decrypted(source, header, cipher)
    packed = header.compression if header is not None else _compression(content)
    if not packed:
        return content
    head = bytearray()

    def keep(_: int, data: bytes) -> None:
        head.extend(data[: limit - len(head)])
        if len(head) == limit and not content.missing:
            raise _EnoughError

    extent = header.dumpextent if header is not None else 0
    with suppress(_EnoughError):
        result = decompress(content, name, extent or None, keep)
        return Held(bytes(head), result.size, result.missing)
    return Held(bytes(head), max(extent, len(head)))


class _EnoughError(Exception):
    """No more of it is wanted."""


def _decrypted(source: Content, header: DumpHeader | None, cipher: Cipher | None) -> Content:
    """A vmcore of the length that its header has, through its cipher if it has one. What is
    behind that is padding if it is compressed, and else kept."""
    content = source
    if header is not None:
        least = 0 if header.compression else content.size
        content = Part(content, max(least, header.dumplength))
    return Decrypted(content, cipher) if cipher is not None else content


def _compression(content: Content) -> int:
    return compression_number(content.read(0, _HEAD))


class _Watched:
    """Some content; tells how far it has been read."""

    def __init__(self, content: Content, progress: Progress | None) -> None:
        self.size = content.size
        self.missing = content.missing
        self._content = content
        self._progress = progress

    def read(self, offset: int, size: int) -> bytes:
        if self._progress is not None:
            self._progress(offset, self.size)
        return self._content.read(offset, size)


def _copy(content: Content, write: Write) -> Decompressed:
    """Write all that is there, and leave holes where it is not."""
    position = 0
    for hole, end in [*content.missing, (content.size, content.size)]:
        while position < hole:
            piece = content.read(position, min(hole, (position // WINDOW + 1) * WINDOW) - position)
            write(position, piece)
            position += len(piece)
        position = end
    return Decompressed(content.size, list(content.missing))


def _end(result: Decompressed) -> int:
    """Where the last byte is that is there."""
    if result.missing and result.missing[-1][1] == result.size:
        return result.missing[-1][0]
    return result.size


@contextmanager
def _new_file(path: Path, force: bool) -> Iterator[int]:
    """A descriptor of a file that gets the name ``path`` when all has gone well."""
    part = None
    try:
        _check_free(path, force)
        descriptor, part = tempfile.mkstemp(".part", f"{path.name}.", path.parent)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
        _check_free(path, force)
        os.replace(part, path)
        part = None
    except OSError as error:
        raise StoreError(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        if part is not None:
            with suppress(OSError):
                os.unlink(part)


def _check_free(path: Path, force: bool) -> None:
    if os.path.lexists(path) and not force:
        raise StoreError(f"{path}: is there already; -f replaces it")


def _write_map(destination: Path, result: Decompressed) -> Path | None:
    """The mapfile; none if nothing is missing, and then none of an older file either."""
    path = destination.with_name(f"{destination.name}.map")
    path.unlink(missing_ok=True)
    if not result.missing:
        return None
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(mapfile_text(result.missing, result.size))
    return path
