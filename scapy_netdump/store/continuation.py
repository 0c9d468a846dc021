# SPDX-License-Identifier: GPL-2.0-or-later
"""A dump that is here in part, continued in place with what a second source has of it.

The second source is a file beside it, staged there by a recovery; that both are the same dump
has to be known before (same_dump.py). The order is: a doubt into the info file, if there is
one; bytes into the holes of the vmcore, and onto the disk; the mapfile; the vmcore's name;
header and key; the info file. A vmcore that has no mapfile, and may grow, gets one first.
Whoever is killed on the way leaves files that claim less than there is, never more.

With netdumpd's vmcore, or a server's that was killed, nobody knows which zeros are holes: what
is not zero is here, and so is what comes; the rest is missing.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..core.account import Account
from ..core.extents import Extents, Range, pieces, union
from ..core.observing.batch import Bytes, Mask
from ..core.observing.disputes import Prefer
from ..core.verdict import HOLES_UNKNOWN, Kind, Verdict
from ..errors import StoreError
from ..formats import EKCD_KEY, KDH, VMCORE
from .dump_files import MODES, point_links, vmcore_suffix, write_message
from .mapfile import mapfile_text
from .naming import OTHER, Published
from .retention import INFO_SIZE
from .two_sources import TwoSources

#: Where zeros may be holes, ranges that are told apart at most; beyond them a window with any
#: zero counts as missing.
_MOST_RANGES = 1 << 20


#: Some bytes in common are no proof: two panics of one machine have its kernel in common.
_NO_HEADER = "continued by bytes in common alone, without the same header in both"


@dataclass(frozen=True, slots=True)
class Continued:
    """What became of a dump: all that is known of it now, its files, and how many ``filled``
    bytes it did not have before."""

    account: Account
    files: Published
    filled: int


def continue_dump(sources: TwoSources, prefer: Prefer, *, sure: bool) -> Continued:
    """Have the kept dump hold what the fresh one does. With ``prefer`` LAST bytes of it that
    differ are replaced. ``sure``: that both are one dump is beyond doubt. StoreError if a file
    cannot be written."""
    return _Continuation(sources, prefer, sure).carry_out()


class _Continuation:
    def __init__(self, sources: TwoSources, prefer: Prefer, sure: bool) -> None:
        self._sources = sources
        self._sure = sure
        self._kept = sources.kept
        self._fresh = sources.fresh
        self._old = sources.old
        self._new = sources.new
        self._prefer = prefer

    def carry_out(self) -> Continued:
        """Do it all."""
        try:
            if not self._sure:
                self._doubt()
            self._map_growth()
            present, came = self._fill()
            os.fsync(self._old)
            account = self._sources.merged(present)
            account.examine(lambda start, end: os.pread(self._old, end - start, start))
            filled = sum(end - start for start, end in came.present(0, account.bytes_expected))
            return Continued(account, self._file(account), filled)
        except OSError as error:
            where = error.filename or self._kept.path
            raise StoreError(f"{where}: cannot be continued: {error.strerror}") from None

    def _doubt(self) -> None:
        """Nobody can be sure that both are one: have the info file say so, and for good, before
        anything of the dump changes. Its other lines stay as they are."""
        kept, directory = self._kept, self._kept.directory
        kept.account.add_doubt(_NO_HEADER)
        unknown = () if kept.account.holes_known else (HOLES_UNKNOWN,)
        line = Verdict(Kind.CONTRADICTED, "; ".join((kept.account.verdict.reason, *unknown)))
        there = directory.stat(kept.info) is not None
        text = directory.read(kept.info, INFO_SIZE) if there else b""
        head, newline, last = text.rstrip(b"\n").rpartition(b"\n")
        if Verdict.from_line(last.decode(errors="backslashreplace")) is None:
            head, newline = head + newline + last, b"\n"
        directory.replace(kept.info, b"%s%s%s\n" % (head, newline, str(line).encode()))
        directory.sync(kept.info)

    def _map_growth(self) -> None:
        """A vmcore without a mapfile counts as whole up to its end: before that moves, have a
        mapfile tell where it was."""
        kept, size = self._kept, self._kept.account.end
        end = self._fresh.vmcore.end
        if kept.map is None and kept.account.holes_known and end > size:
            kept.map = f"{kept.vmcore}.map"
            text = mapfile_text([(size, end)], end)
            kept.directory.replace(kept.map, text.encode())
            kept.directory.sync(kept.map)

    def _fill(self) -> tuple[Extents, Extents]:
        """Write what the kept vmcore does not have; returns what it has now, and which of
        that came to it."""
        kept = self._kept.account
        if self._prefer is Prefer.LAST and self._sources.differing.total:
            self._replace()
        if not kept.holes_known:
            return self._fill_zeros()
        came = Extents()
        for start, end in self._fresh.vmcore:
            for hole_start, hole_end in kept.vmcore.missing(start, end):
                for first, last in pieces(hole_start, hole_end):
                    data = os.pread(self._new, last - first, first)
                    if len(data) < last - first:
                        raise OSError(errno.EIO, "became shorter while it was read")
                    _write(self._old, data, first)
                came.add(hole_start, hole_end)
        return union(kept.vmcore, came), came

    def _replace(self) -> None:
        for start, end in self._sources.both():
            old, new = self._sources.read(start, end)
            different: Mask = old != new
            if not self._kept.account.holes_known:
                different &= old != 0
            if different.any():
                _write(self._old, np.where(different, new, old).tobytes(), start)

    def _fill_zeros(self) -> tuple[Extents, Extents]:
        """As ``_fill`` where zeros may be holes: what is not zero is here, and what came."""
        came = Extents()
        length = self._sources.length
        present = Extents()
        for start, end in pieces(0, length):
            data = np.frombuffer(os.pread(self._old, end - start, start), np.uint8)
            for first, last in _nonzero(data, len(present) > _MOST_RANGES):
                present.add(start + first, start + last)
        for start, end in self._fresh.vmcore:
            for first, last in pieces(start, end):
                old, new = self._sources.read(first, last)
                if (lacking := (old == 0) & (new != 0)).any() or last > length:
                    _write(self._old, np.where(lacking, new, old).tobytes(), first)
            for first, last in present.missing(start, end):
                came.add(first, last)
        return union(present, came), came

    def _file(self, account: Account) -> Published:
        """Bring all that tells of the vmcore up to date; the order is that of the docstring
        above."""
        kept, directory = self._kept, self._kept.directory
        if vmcore_suffix(account) and self._sources.length > account.file_size:
            os.ftruncate(self._old, account.file_size)  # padding to the block
        vmcore = self._sources.name(account)
        map_, missing = f"{vmcore}.map", account.file_holes
        if missing or kept.map is not None or not kept.account.holes_known:
            directory.replace(map_, mapfile_text(missing, account.file_size).encode())
        if vmcore != kept.vmcore:
            directory.rename(kept.vmcore, vmcore)
        if kept.map not in (None, map_):
            directory.unlink(str(kept.map))
        kdh = self._save("kdh", MODES[KDH], kept.account.kdh, account.kdh)
        key = self._save("key", MODES[EKCD_KEY], bytes(kept.account.key), bytes(account.key))
        kdh_other, other = self._save_other_headers(account), self._save_stray()
        text = kept.names.info(kept.number, account.header, account.verdict)
        directory.replace(kept.info, text.encode())
        if not missing:
            directory.unlink(map_)
        self._link(account, key, vmcore)
        directory.sync(kept.info)
        names = (kept.info, kdh, key, vmcore, map_ if missing else None, other, kdh_other)
        return Published(*(directory.path / name if name else None for name in names))

    def _save(self, kind: str, mode: int, old: bytes, new: bytes) -> str | None:
        """Store a header or a key, unless it is there as it is to be."""
        name = self._kept.names.of(kind, self._kept.number)
        if old != new and new:
            self._kept.directory.unlink(name)
            self._kept.directory.save(name, new, mode)
        return name if new else None

    def _save_other_headers(self, account: Account) -> str | None:
        """Store the headers that do not count, one behind the other."""
        name = self._kept.names.of("kdh", self._kept.number, end=OTHER)
        if account.other_headers:
            self._kept.directory.replace(name, b"".join(account.other_headers))
        return name if self._kept.directory.stat(name) is not None else None

    def _save_stray(self) -> str | None:
        """Add what was set aside of the fresh dump to the kept one's second versions of bytes."""
        name, directory = self._kept.names.of("other", self._kept.number), self._kept.directory
        there = directory.stat(name) is not None
        if not self._fresh.stray.total:
            return name if there else None
        flags = os.O_WRONLY | os.O_APPEND
        descriptor = directory.open_file(name, flags) if there else directory.create(name)
        try:
            for start, end in self._fresh.stray:
                for first, last in pieces(start, end):
                    data = os.pread(self._new, last - first, first)
                    write_message(descriptor, VMCORE, first, data)
        finally:
            os.close(descriptor)
        return name

    def _link(self, account: Account, key: str | None, vmcore: str) -> None:
        """Let the links follow, unless they tell of a later dump."""
        kept, directory = self._kept, self._kept.directory
        suffix = vmcore_suffix(account)
        link, _ = next(kept.names.links(kept.info, key, vmcore, suffix))
        if account.finished and directory.target(link) in (None, kept.info):
            point_links(directory, kept.names, kept.info, key, vmcore, suffix)


def _write(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        offset += written
        view = view[written:]


def _nonzero(data: Bytes, coarse: bool) -> Iterator[Range]:
    """The ranges of bytes that are not zero; nothing, if ``coarse``, where one is."""
    if coarse and not data.all():
        return
    edges = np.flatnonzero(np.diff((data != 0).astype(np.int8), prepend=0, append=0))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)
