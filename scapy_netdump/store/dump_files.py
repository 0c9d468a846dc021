# SPDX-License-Identifier: GPL-2.0-or-later
"""The files of a dump, named as netdumpd names them, plus the raw header and a mapfile.

In the dump directory: ``info.HOST.N``, ``vmcore.HOST.N`` (or ``vmcore_encrypted``, with
``.gz`` or ``.zst`` when compressed), ``key.HOST.N``, ``kdh.HOST.N``, ``bounds.HOST`` and the
links ``*.HOST.last``. While bytes are still to come the vmcore is called ``.part`` and the
info says so: nothing that was interrupted looks whole. A mapfile beside the ``.part`` may say
which bytes are here.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

from ..core.account import Account
from ..core.extents import Range
from ..core.verdict import Verdict
from ..errors import StoreError
from ..formats import EKCD_KEY, KDH, VMCORE
from ..kerneldump.header import DumpHeader
from ..wire import Buffer, header
from .directory import Directory
from .mapfile import mapfile_text, part_map_text
from .naming import MAP, OTHER, PART, Names, Published
from .overwriting import NO_SPACE

#: netdumpd's modes. A key may not even be written to by its owner.
MODES = {VMCORE: 0o600, KDH: 0o600, EKCD_KEY: 0o400}


_RECEIVING = Verdict.receiving()

#: Numbers that are looked up one by one.
_LOOKED_UP = 64


class HostFullError(StoreError):
    """There is no number left for another dump of a host."""


def reserve(
    directory: Directory,
    host: str,
    address: str,
    verdict: Verdict = _RECEIVING,
    *,
    live: bool = False,
    naming: type[Names] = Names,
) -> DumpFiles:
    """Take the next free number for a dump of ``host``, which came from ``address``.

    An info file that ends with ``verdict`` holds the number from now on. A ``live`` dump may
    come to nothing: it is counted with its first byte, and the info file stays locked
    (directory.py) until the files are released. StoreError if they cannot be written.
    """
    names = naming(host, address)
    try:
        for number in _numbers(directory, names):
            files = DumpFiles(directory, names, number)
            if files.begin(verdict, live):
                if not live:
                    files.count()
                return files
    except OSError as error:
        raise StoreError(f"{error.filename}: cannot be written: {error.strerror}") from None
    raise HostFullError(
        f"{directory.path}: holds {names.most} dumps{names.whose} already; move some away"
    )


def _numbers(directory: Directory, names: Names) -> Iterator[int]:
    """The free numbers, those from the bounds file on first.

    Each is looked up by the names that its files can have, as a listing takes the longer the
    more dumps of others are there; only if many in a row are taken all are listed.
    """
    first = _bounds(directory, names)
    numbers = chain(range(first, names.most), range(first))
    for number in islice(numbers, _LOOKED_UP):
        if not directory.any_there(names.all(number)):
            yield number
    taken = {names.number(entry) for entry in directory.names()}
    yield from (number for number in numbers if number not in taken)


def _bounds(directory: Directory, names: Names) -> int:
    """What the bounds file tells; 0 if there is none that makes sense."""
    try:
        text = directory.read(names.bounds, 16).decode("ascii").strip()
    except (OSError, ValueError):
        return 0
    number = int(text) if text.isdecimal() else 0
    return number if number < names.most else 0


def vmcore_suffix(account: Account) -> str:
    """What the name of a vmcore ends in for its compression, if a sound header tells one."""
    header = account.sound_header
    return header.suffix if header is not None else ""


def write_message(descriptor: int, kind: int, offset: int, data: Buffer) -> None:
    """Write bytes to a file of second versions, as the netdump message that they may have come in,
    without its number. OSError if that fails."""
    view = memoryview(header(kind, 0, offset, len(data)) + bytes(data))
    while view:
        view = view[os.write(descriptor, view) :]


def point_links(
    directory: Directory, names: Names, info: str, key: str | None, vmcore: str | None, suffix: str
) -> None:
    """Have the links to the last dump lead to these files; ``suffix`` tells the vmcore's
    compression."""
    for link in names.stale_links():
        directory.unlink(link)
    for link, target in names.links(info, key, vmcore, suffix):
        directory.point(link, target)


class DumpFiles:
    """The files of one dump of a host. Methods raise OSError where nothing else is said.

    ``linked`` tells whether the links to the last dump lead to this one.
    """

    def __init__(self, directory: Directory, names: Names, number: int) -> None:
        self.directory = directory
        self.names = names
        self.host = names.host
        self.number = number
        self.info = self._name("info")
        self.part = self._name("vmcore", end=PART)
        self.part_map = self._name("vmcore", end=PART + MAP)
        self.other = self._name("other")
        self.linked = False
        self._noted_finished = False
        self._has_other = False
        self._lock: int | None = None
        self._counted = False
        self._created: set[int] = set()
        self._noting = threading.Lock()
        self._over = False

    @classmethod
    def adopt(cls, directory: Directory, names: Names, number: int) -> DumpFiles:
        """The files of a dump that is here, but was not published by whoever received it."""
        files = cls(directory, names, number)
        files._counted = True
        files._created = {
            kind for kind in MODES if directory.stat(files.path(kind).name) is not None
        }
        return files

    def begin(self, verdict: Verdict, lock: bool) -> bool:
        """Create the info file; False if there is one already."""
        text = self.names.info(self.number, None, verdict)
        try:
            self._lock = self.directory.save_locked(self.info, text.encode())
        except FileExistsError:
            return False
        if not lock:
            self.release()
        return True

    def create(self, kind: int) -> int:
        """A descriptor of a new file, for what comes in messages of this type."""
        self.count()
        descriptor = self.directory.create(self.path(kind).name, MODES[kind])
        self._created.add(kind)
        return descriptor

    def create_other(self) -> int:
        """A descriptor of a new file for second versions of bytes: netdump messages, one behind
        the other."""
        self.count()
        descriptor = self.directory.create(self.other, MODES[VMCORE])
        self._has_other = True
        return descriptor

    def path(self, kind: int) -> Path:
        """Where what comes in messages of a type is kept while the dump is not over."""
        names = {VMCORE: self.part, KDH: self._name("kdh"), EKCD_KEY: self._name("key")}
        return self.directory.path / names[kind]

    def count(self) -> None:
        """Have the bounds file tell the next number: this one is used. Before that, a dump
        that nothing came of leaves no trace.

        No dump is refused where that cannot be written, be it for a directory of that name: the
        next one finds that this number is taken.
        """
        if not self._counted:
            self._counted = True
            with contextlib.suppress(OSError):
                self.directory.replace(self.names.bounds, f"{self.number + 1}\n".encode())

    def show(self, header: DumpHeader | None, verdict: Verdict) -> None:
        """Make the info file tell of ``header``, and end with ``verdict``."""
        text = self.names.info(self.number, header, verdict).encode()
        if self._lock is None:
            self.directory.replace(self.info, text)
            return
        held, self._lock = self._lock, self.directory.replace_locked(self.info, text, self._lock)
        if held != self._lock:
            with contextlib.suppress(OSError):
                os.close(held)

    def note_part(self, missing: Iterable[Range], end: int, finished: bool) -> None:
        """Have a mapfile beside the ``.part`` say what of its first ``end`` bytes is not here,
        and whether FINISHED has come, should this process be killed. May be called in another
        thread than the rest; when the dump is over it does nothing."""
        with self._noting:
            if not self._over:
                text = part_map_text(missing, end, finished)
                self.directory.replace(self.part_map, text.encode())
                self._noted_finished = finished

    def publish(self, account: Account, verdict: Verdict, *, link: bool = True) -> Published:
        """Give the files their final names and contents. StoreError if that fails.

        A dump that is complete, or that its client finished, becomes the last one of its host,
        unless ``link`` is False.

        The vmcore is renamed after all that tells of its holes is in place. The mapfile of the
        ``.part`` goes last: with the links to set, that is what a later start tells by.
        """
        try:
            self.count()
            kdh = self._save(KDH, account.kdh)
            if kdh is not None and account.kdh != bytes(account.headers.versions[0]):
                self.directory.replace(kdh, account.kdh)
            kdh_other = self._save_other_headers(account)
            key = self._save(EKCD_KEY, bytes(account.key))
            if account.finished and self._lock is not None and not self._noted_finished:
                with contextlib.suppress(OSError):
                    self.note_part(account.missing, account.end, True)
            vmcore, map_, problem = self._publish_vmcore(account)
            self.show(account.header, verdict.because(problem))
            if link and (account.finished or verdict.complete):
                self._link(key, vmcore, vmcore_suffix(account))
            self._end_notes()
        except OSError as error:
            raise StoreError(f"{error.filename}: cannot be written: {error.strerror}") from None
        other = self.other if self._has_other else None
        names = (self.info, kdh, key, vmcore, map_, other, kdh_other)
        return Published(*(self.directory.path / name if name else None for name in names))

    def discard(self) -> None:
        """Remove what there is: no dump came."""
        self._end_notes()
        for kind in self._created:
            self.directory.unlink(self.path(kind).name)
        if self._has_other:
            self.directory.unlink(self.other)
        self.directory.unlink(self.info)
        self.release()

    def release(self) -> None:
        """Give up the lock of the info file."""
        lock, self._lock = self._lock, None
        if lock is not None:
            with contextlib.suppress(OSError):  # it is given back all the same
                os.close(lock)

    def _save(self, kind: int, data: bytes) -> str | None:
        """Store a small file, unless it was created before or there is nothing to store."""
        name = self.path(kind).name
        if kind in self._created:
            return name
        if not data:
            return None
        self.directory.save(name, data, MODES[kind])
        return name

    def _save_other_headers(self, account: Account) -> str | None:
        """Store the headers that came and do not count, one behind the other."""
        if not account.other_headers:
            return None
        name = self._name("kdh", end=OTHER)
        self.directory.save(name, b"".join(account.other_headers), MODES[KDH])
        return name

    def _publish_vmcore(self, account: Account) -> tuple[str | None, str | None, str]:
        """The names of the vmcore and of its mapfile, and why it has none that it should have."""
        if not account.vmcore.total:
            if VMCORE in self._created:
                self.directory.unlink(self.part)
            return None, None, ""
        suffix = vmcore_suffix(account)
        self.directory.truncate(self.part, account.vmcore.end - account.surplus)
        vmcore = self.names.vmcore(self.number, account.encrypted, suffix)
        map_, problem, missing = None, "", account.file_holes
        if missing:
            text = mapfile_text(missing, account.file_size).encode()
            map_, problem = self._save_map(vmcore + MAP, text)
        self.directory.rename(self.part, vmcore)
        return vmcore, map_, problem

    def _save_map(self, name: str, text: bytes) -> tuple[str | None, str]:
        """Save a mapfile, where there is no room in the blocks of the one that the ``.part`` has;
        its name, or why there is none: then the info file denies no holes."""
        try:
            self.directory.save(name, text)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            problem = f"its mapfile could not be written: {error.strerror}"
        else:
            return name, ""
        with self._noting, contextlib.suppress(OSError):
            if self.directory.stat(self.part_map) is not None:
                self.directory.replace(self.part_map, text)
                self.directory.rename(self.part_map, name)
                return name, ""
        return None, problem

    def _link(self, key: str | None, vmcore: str | None, suffix: str) -> None:
        """Have the links to the last dump lead to this one. What is in the way of them does not
        keep the dump from being filed."""
        with contextlib.suppress(OSError):
            point_links(self.directory, self.names, self.info, key, vmcore, suffix)
            self.linked = True

    def _end_notes(self) -> None:
        with self._noting:
            self._over = True
            self.directory.unlink(self.part_map)

    def _name(self, kind: str, end: str = "") -> str:
        return self.names.of(kind, self.number, end=end)
