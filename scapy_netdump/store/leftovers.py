# SPDX-License-Identifier: GPL-2.0-or-later
"""What a process left that was killed between two calls, put right when the directory is next used.

Files that were to take another's place, dumps of which some files are removed already, and links
to the last dump that were not set, or lead nowhere. Nothing is removed but what was to go: a
dump only if its info file says so, and of links and new files only such as are called like ours.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Iterable, Iterator

from ..core.verdict import Verdict
from ..kerneldump.info import last_line
from .directory import Directory
from .dump_files import point_links
from .mapfile import MAX_MAPFILE, notes_finished
from .naming import (
    MAP,
    PART,
    DumpId,
    FileName,
    as_it_came,
    names_for,
)
from .own_names import is_last_link, is_new_name
from .retention import INFO_SIZE, remove_dump

#: Seconds after which a file that was to take another's place is nobody's: where locks work, and
#: where they do not, or it is a link. It is locked as soon as it is there.
_UNLOCKED_FOR, _UNTOUCHED_FOR = 1.0, 60.0


def remove_new_files(directory: Directory, names: Iterable[str]) -> Iterator[str]:
    """Remove files that were to take the place of others, and that nobody is writing."""
    for name in names:
        if not name.endswith(".new") or not is_new_name(name):
            continue
        try:
            if _is_left(directory, name):
                directory.unlink(name)
        except OSError as error:
            yield f"{error.filename}: cannot be removed: {error.strerror}"


def _is_left(directory: Directory, name: str) -> bool:
    status = directory.stat(name)
    if status is None:
        return False
    age = time.time() - status.st_mtime
    if age > _UNTOUCHED_FOR or not stat.S_ISREG(status.st_mode):
        return age > _UNTOUCHED_FOR
    return age > _UNLOCKED_FOR and not directory.locked(name)


def finish_removal(directory: Directory, files: Iterable[FileName]) -> Iterator[str]:
    """Go on with a dump whose info file says that it is being removed."""
    files = list(files)
    info = next(str(file) for file in files if file.kind == "info")
    try:
        if remove_dump(directory, files):
            yield f"{directory.path / info}: was being removed, and is now"
    except OSError as error:
        yield f"{error.filename}: cannot be removed: {error.strerror}"


def finish_filing(directory: Directory, dumps: dict[DumpId, list[FileName]]) -> Iterator[str]:
    """Set the links to dumps that have their names: the mapfile of the ``.part`` is still there,
    as it goes last, and says whether FINISHED had come."""
    for dump, files in sorted(dumps.items()):
        part, map_ = (str(FileName("vmcore", *dump, end=end)) for end in (PART, PART + MAP))
        try:
            if directory.stat(map_) is None or directory.stat(part) is not None:
                continue
            told = _told(directory, dump)
            info = str(FileName("info", *dump))
            if told is None or told.is_receiving or directory.locked(info):
                continue
            text = directory.read(map_, MAX_MAPFILE).decode(errors="replace")
            if notes_finished(text) and not later_is_linked(directory, dump):
                _link(directory, dump, files)
                yield f"{directory.path / info}: the links to the last dump lead to it now"
            directory.unlink(map_)
        except OSError as error:
            yield f"{error.filename}: cannot be put right: {error.strerror}"


def later_is_linked(directory: Directory, dump: DumpId) -> bool:
    """Whether the links to a host's last dump lead to a later one than this."""
    host, number = dump
    link, _ = next(names_for(host, "").links("", None, None, ""))
    last = FileName.parse(directory.target(link) or "")
    return last is not None and last.number > number and directory.stat(str(last)) is not None


def mend_links(directory: Directory, names: Iterable[str]) -> Iterator[str]:
    """Have links to last dumps that lead nowhere lead to the newest that is complete, or go."""
    hosts: dict[str, list[str]] = {}
    for name in filter(is_last_link, names):
        target = directory.target(name)
        found = FileName.parse(target or "")
        if found is not None and directory.stat(str(found)) is None:
            hosts.setdefault(found.host, []).append(name)
    if not hosts:
        return
    dumps: dict[str, dict[int, list[FileName]]] = {host: {} for host in hosts}
    for file in filter(None, map(FileName.parse, directory.names())):
        if file.host in dumps:
            dumps[file.host].setdefault(file.number, []).append(file)
    for host, links in sorted(hosts.items()):
        try:
            for link in links:
                directory.unlink(link)
            for number, files in sorted(dumps[host].items(), reverse=True):
                told = _told(directory, (host, number))
                if told is not None and told.complete and as_it_came(files) is not None:
                    _link(directory, (host, number), files)
                    break
        except OSError as error:
            yield f"{error.filename}: cannot be put right: {error.strerror}"


def _told(directory: Directory, dump: DumpId) -> Verdict | None:
    """What the info file of a dump says; None if that is nothing, or there is none."""
    info = str(FileName("info", *dump))
    if directory.stat(info) is None:
        return None
    return Verdict.from_line(last_line(directory.read_end(info, INFO_SIZE)))


def _link(directory: Directory, dump: DumpId, files: list[FileName]) -> None:
    vmcore = as_it_came(files)
    key = FileName("key", *dump)
    point_links(
        directory,
        names_for(dump[0], ""),
        str(FileName("info", *dump)),
        str(key) if key in files else None,
        str(vmcore) if vmcore is not None else None,
        vmcore.suffix if vmcore is not None else "",
    )
