# SPDX-License-Identifier: GPL-2.0-or-later
"""How much a dump directory may hold: the dumps that are kept, the space that stays free."""

from __future__ import annotations

import contextlib
import os
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ..core.verdict import Verdict
from ..errors import StoreError
from ..kerneldump.header import HEADER_SIZE, DumpHeader, HeaderError
from ..kerneldump.info import last_line, with_last_line
from .directory import Directory
from .naming import PART, FileName, as_it_came

#: An info file is shorter than this, whatever a header holds: each byte escaped is four.
INFO_SIZE = 1 << 14

#: Seconds for which a dump stays in any case, unless somebody asks for another time.
LEAST_AGE = 86400.0

#: Bytes written until the file system is asked again how much is free.
_STEP = 1 << 20

#: What one write may take more than its bytes: a block at either end of it.
_BLOCKS = 2 * 4096


class _Whole(NamedTuple):
    """A complete dump: when it ended, its number, the size of its vmcore, and its files."""

    ended: float
    number: int
    size: int
    files: list[FileName]


def prune(
    directory: Directory,
    host: str,
    keep: int,
    newest: int,
    *,
    tell: Callable[[str], None],
    least_age: float = LEAST_AGE,
) -> list[int]:
    """Remove the oldest complete dumps of ``host`` beyond ``keep``; returns their numbers.

    Whoever can send may send dumps that are complete, and small ones at no cost. So only dumps
    with a sound header count, and one goes only for ``keep`` newer ones that stay, each of at
    least half its size. Never removed are those that ended less than ``least_age`` seconds ago,
    ``newest``, the one that ``info.HOST.last`` points to, and dumps of which a byte is missing.
    ``tell`` is called with a line for each file that cannot be read or removed; the others go on.
    StoreError if the directory cannot be read.
    """
    try:
        whole = list(_whole_dumps(directory, host, tell))
        protected = {newest, _last(directory, host)}
    except OSError as error:
        raise StoreError(f"{error.filename}: cannot be read: {error.strerror}") from None
    removed = []
    for dump in sorted(_surplus(whole, keep)):
        if dump.number not in protected and time.time() - dump.ended >= least_age:
            try:
                if remove_dump(directory, dump.files):
                    removed.append(dump.number)
            except OSError as error:
                tell(f"{error.filename}: cannot be removed: {error.strerror}")
    return removed


def _surplus(whole: Iterable[_Whole], keep: int) -> Iterable[_Whole]:
    """The dumps for which there are ``keep`` newer ones that stay, none of them much smaller."""
    sizes: list[int] = []
    for dump in sorted(whole, reverse=True):
        if len(sizes) - bisect_left(sizes, (dump.size + 1) // 2) >= keep:
            yield dump
        else:
            insort(sizes, dump.size)


def _whole_dumps(directory: Directory, host: str, tell: Callable[[str], None]) -> Iterable[_Whole]:
    dumps: dict[int, list[FileName]] = {}
    for name in filter(None, map(FileName.parse, directory.names())):
        if name.host == host:
            dumps.setdefault(name.number, []).append(name)
    for number, files in dumps.items():
        try:
            whole = _whole(directory, number, files)
        except FileNotFoundError:  # another thread is removing it
            continue
        except OSError as error:
            tell(f"{error.filename}: cannot be read: {error.strerror}")
            continue
        if whole is not None:
            yield whole


def _whole(directory: Directory, number: int, files: list[FileName]) -> _Whole | None:
    """A dump, if it is complete and has a sound header."""
    by_role = {file.role: str(file) for file in files}
    vmcore = as_it_came(files)
    lacking = not {"info", "kdh"} <= by_role.keys() or vmcore is None
    if lacking or "map" in by_role or any(file.end.startswith(PART) for file in files):
        return None
    verdict = Verdict.from_line(last_line(directory.read_end(by_role["info"], INFO_SIZE)))
    if verdict is None or not verdict.complete:
        return None
    try:
        sound = DumpHeader.unpack(directory.read(by_role["kdh"], HEADER_SIZE)).valid
    except HeaderError:
        return None
    info, core = directory.stat(by_role["info"]), directory.stat(str(vmcore))
    if not sound or info is None or core is None:
        return None
    return _Whole(info.st_mtime, number, core.st_size, files)


def _last(directory: Directory, host: str) -> int | None:
    found = FileName.parse(directory.target(f"info.{host}.last") or "")
    return found.number if found is not None else None


def remove_dump(directory: Directory, files: Iterable[FileName]) -> bool:
    """Remove all files of a dump; False if somebody else has its info file locked.

    The info file says what is under way, and is the last to go: whoever comes after a process
    that was killed meanwhile (leftovers.py) may go on. If nothing can be removed it says again
    what it said.
    """
    info = next(str(file) for file in files if file.kind == "info")
    others = [str(file) for file in files if file.kind != "info"]
    others.sort(key=lambda name: not name.startswith("vmcore"))
    held = directory.claim(info)
    if held is None:
        return False
    try:
        text = directory.read(info, INFO_SIZE)
        marked = directory.replace_locked(info, with_last_line(text, str(Verdict.removing())), held)
        if marked != held:
            os.close(held)
            held = marked
        for place, name in enumerate(others):
            try:
                directory.unlink(name)
            except OSError:
                if not place:
                    with contextlib.suppress(OSError):
                        directory.replace(info, text)
                raise
        directory.unlink(info)
    finally:
        os.close(held)
    return True


class FreeSpace:
    """What may be written before less than ``minimum`` bytes of a file system are free."""

    def __init__(self, directory: Directory, minimum: int) -> None:
        """StoreError if there is less already."""
        self._directory = directory
        self._minimum = minimum
        self._granted = 0
        if minimum:
            self.take(0)

    def take(self, size: int) -> None:
        """``size`` bytes are about to be written. StoreError if they may not be."""
        if not self._minimum:
            return
        size += _BLOCKS
        if size > self._granted:
            free = self._directory.free_bytes()
            self._granted = min(free - self._minimum, max(size, _STEP))
            if size > self._granted:
                raise StoreError(
                    f"{self._directory.path}: {free} bytes are free, and {self._minimum} are "
                    "to stay free; remove old dumps"
                )
        self._granted -= size
