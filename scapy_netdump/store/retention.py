# SPDX-License-Identifier: GPL-2.0-or-later
"""How much a dump directory may hold: the dumps that are kept, the space that stays free."""

from __future__ import annotations

from ..core.verdict import Verdict
from ..errors import StoreError
from .directory import Directory
from .naming import PART, FileName

#: An info file is shorter than this, whatever a header holds: each byte escaped is four.
INFO_SIZE = 1 << 14

#: Bytes written until the file system is asked again how much is free.
_STEP = 1 << 20

#: What one write may take more than its bytes: a block at either end of it.
_BLOCKS = 2 * 4096

#: Order in which the files of a dump are removed. Without its info a dump does not look whole.
_ORDER = ("info", "map", "vmcore", "kdh", "key", "other", "kdh_other")


def prune(directory: Directory, host: str, keep: int, newest: int) -> list[int]:
    """Remove the oldest complete dumps of ``host`` beyond ``keep``; returns their numbers.

    Never removed are ``newest``, the one that ``info.HOST.last`` points to, and dumps of
    which a byte is missing. StoreError if a file cannot be removed.
    """
    try:
        dumps = _files_of(directory, host)
        protected = {newest, _last(directory, host)}
        complete = [number for number in dumps if _complete(directory, dumps[number])]
        complete.sort(key=lambda number: _age(directory, dumps[number]["info"][0], number))
        surplus = complete[: max(0, len(complete) - keep)]
        removed = [number for number in surplus if number not in protected]
        for number in removed:
            for kind in _ORDER:
                for name in dumps[number].get(kind, ()):
                    directory.unlink(name)
    except OSError as error:
        raise StoreError(f"{error.filename}: cannot be removed: {error.strerror}") from None
    return removed


def _files_of(directory: Directory, host: str) -> dict[int, dict[str, list[str]]]:
    """The names of each dump's files, by number and role."""
    dumps: dict[int, dict[str, list[str]]] = {}
    for name in directory.names():
        found = FileName.parse(name)
        if found is not None and found.host == host and found.end != PART:
            dumps.setdefault(found.number, {}).setdefault(found.role, []).append(name)
    return dumps


def _complete(directory: Directory, files: dict[str, list[str]]) -> bool:
    if "map" in files or not {"info", "vmcore"} <= files.keys():
        return False
    try:
        lines = directory.read(files["info"][0], INFO_SIZE).splitlines()
    except FileNotFoundError:  # another thread is removing it
        return False
    last = lines[-1].decode(errors="replace") if lines else ""
    verdict = Verdict.from_line(last)
    return verdict is not None and verdict.complete


def _age(directory: Directory, info: str, number: int) -> tuple[int, int]:
    status = directory.stat(info)
    return status.st_mtime_ns if status is not None else 0, number


def _last(directory: Directory, host: str) -> int | None:
    found = FileName.parse(directory.target(f"info.{host}.last") or "")
    return found.number if found is not None else None


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
