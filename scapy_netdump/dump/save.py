# SPDX-License-Identifier: GPL-2.0-or-later
"""A dump written to files: as it came into a dump directory, or plain, around its holes.

Nothing has the final name before it is all there, and a mapfile beside it says what is not.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.account import Account
from ..core.extents import Range, pieces
from ..core.verdict import Verdict
from ..errors import StoreError
from ..formats import VMCORE
from ..store.directory import Directory
from ..store.dump_files import DumpFiles, reserve
from ..store.mapfile import mapfile_text
from ..store.naming import MAP, Published
from .cipher import WINDOW
from .compression import Decompressed, Write, decompress
from .content import Content, FileContent

#: Told of the bytes read so far, and of how many.
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class PlainCopy:
    """What a plain copy came to: its file, and ``missing``, the ranges of its ``size`` bytes that
    could not be had; ``map`` is the mapfile that says so. ``problem`` is why, None if all is
    well."""

    path: Path
    size: int
    missing: list[Range] = field(default_factory=list)
    map: Path | None = None
    problem: str | None = None

    @property
    def complete(self) -> bool:
        """Whether all of it is there and undamaged."""
        return not self.missing and self.problem is None

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it, without the files."""
        names = ("size", "complete", "missing", "problem")
        return {name: getattr(self, name) for name in names}


def save_plain(
    content: Content,
    destination: Path,
    *,
    unpack: bool,
    extent: int | None,
    force: bool,
    progress: Progress | None,
) -> PlainCopy:
    """Write content to a new file: see Dump.save_plain. ``unpack`` decompresses it, to ``extent``
    bytes if that is known."""
    watched = _Watched(content, progress)
    with _new_file(destination, force) as descriptor:

        def write(offset: int, data: bytes) -> None:
            _write(descriptor, data, offset)

        if unpack:
            result = decompress(watched, destination.name, extent, write)
        else:
            result = _copy(watched, write)
        os.ftruncate(descriptor, _end(result))
        map_ = _write_map(destination, result)
    return PlainCopy(destination, result.size, result.missing, map_, result.problem)


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        offset += written
        view = view[written:]


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
    path = destination.with_name(destination.name + MAP)
    path.unlink(missing_ok=True)
    if not result.missing:
        return None
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        file.write(mapfile_text(result.missing, result.size))
    return path


def save(
    account: Account,
    verdict: Verdict,
    content: Content,
    other: Path | None,
    origin: tuple[str, str],
    directory: Path,
) -> Published:
    """Store a dump as it came in a dump directory: see Dump.save. ``other`` has other versions of
    its bytes, ``origin`` is what its host is called in file names, and its address."""
    place = Directory.open(directory, create=True)
    try:
        files = reserve(place, *origin)
        try:
            _store(account, content, other, files)
            return files.publish(account, verdict)
        except BaseException:
            for name in (files.part, files.other):
                place.unlink(name)
            files.discard()
            raise
    except OSError as error:
        raise StoreError(f"{error.filename}: cannot be written: {error.strerror}") from None
    finally:
        place.close()


def _store(account: Account, content: Content, other: Path | None, files: DumpFiles) -> None:
    """Write what is here of the vmcore, and the other versions of its bytes."""
    with _closing(files.create(VMCORE)) as vmcore:
        for present in account.vmcore.present(0, content.size):
            for start, end in pieces(*present):
                _write(vmcore, content.read(start, end - start), start)
    if other is not None:
        with _closing(files.create_other()) as copy, FileContent(other) as others:
            for start, end in pieces(0, others.size):
                _write(copy, others.read(start, end - start), start)


@contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)
