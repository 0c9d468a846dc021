# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumps that a server was receiving when it was killed: their files are put right.

A server holds a lock of the info file of each dump that it receives. The lock ends with the
process, however that ends. What the mapfile of the ``.part`` says is believed as long as the same
kernel runs (mapfile.py). If by that a dump is complete, it is given its names; else its info
file says what is here and what is missing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..core.verdict import HOLES_UNKNOWN, Kind, Verdict
from ..errors import StoreError
from ..kerneldump.info import last_line, with_last_line
from .directory import Directory
from .dump_files import DumpFiles
from .kept_dumps import KeptFiles, KeptName, load
from .leftovers import (
    finish_filing,
    finish_removal,
    later_is_linked,
    mend_links,
    remove_new_files,
)
from .naming import MAP, PART, DumpId, FileName, told_apart
from .retention import INFO_SIZE

#: What is read of each info file, to tell those apart of dumps that are not over.
_TAIL = 2048


def mark_abandoned(directory: Directory) -> Iterator[str]:
    """Put right what processes left that were killed: dumps that nobody receives any more, and
    what leftovers.py knows of. A line for the log each; also for those that cannot be read or
    written."""
    try:
        names = sorted(directory.names())
    except OSError as error:
        yield f"{error.filename}: cannot be read: {error.strerror}"
        return
    yield from remove_new_files(directory, names)
    unfinished, problems = _unfinished(directory, names)
    yield from problems
    part_maps = (name for name in names if name.endswith(PART + MAP))
    mapped = {file.dump for file in _files(part_maps)}
    dumps: dict[DumpId, list[FileName]] = {dump: [] for dump in {*unfinished, *mapped}}
    for file in _files(names) if dumps else ():
        if file.dump in dumps:
            dumps[file.dump].append(file)
    for dump, told in unfinished.items():
        if told.is_removing:
            yield from finish_removal(directory, dumps[dump])
        else:
            yield from _mark(directory, str(FileName("info", *dump)))
    yield from finish_filing(directory, {dump: dumps[dump] for dump in mapped})
    yield from mend_links(directory, names)


def _unfinished(
    directory: Directory, names: Iterable[str]
) -> tuple[dict[DumpId, Verdict], list[str]]:
    """The dumps that are said to be received or removed, and what cannot be looked at. Of each
    info file but the end is read, as there may be many."""
    unfinished: dict[DumpId, Verdict] = {}
    problems = []
    for name in names:
        if not name.startswith("info.") or (found := FileName.parse(name)) is None:
            continue
        try:
            told = Verdict.from_line(last_line(directory.read_end(name, _TAIL)))
        except OSError as error:
            problems.append(f"{error.filename}: cannot be looked at: {error.strerror}")
            continue
        if told is not None and (told.is_receiving or told.is_removing):
            unfinished[found.dump] = told
    return unfinished, problems


def _files(names: Iterable[str]) -> Iterator[FileName]:
    return filter(None, map(FileName.parse, names))


def true_status(info: Path) -> str:
    """The last line of an info file, or what it ought to be after its server was killed.

    OSError or StoreError if that cannot be read.
    """
    directory = Directory.open(info.parent)
    try:
        text = directory.read(info.name, INFO_SIZE)
        begun = _abandoned(directory, info.name, text)
        return last_line(text) if begun is None else str(_ended(begun))
    finally:
        directory.close()


def _mark(directory: Directory, info: str) -> Iterator[str]:
    """Put a dump right that is said to be received, if nobody does."""
    path = directory.path / info
    try:
        text = directory.read(info, INFO_SIZE)
        begun = _abandoned(directory, info, text)
        if begun is None:
            return
        if isinstance(begun, KeptFiles):
            _drop_second_name(begun)
        if isinstance(begun, KeptFiles) and _is_whole(begun):
            try:
                _file(begun)
            except (OSError, StoreError) as error:
                yield f"{path}: all of it had come, but it cannot be filed: {error}"
            else:
                yield f"{path}: all of it had come when the server ended; it is filed"
                return
        status = _ended(begun)
        directory.replace(info, with_last_line(text, str(status)))
        yield f"{path}: {status}"
    except OSError as error:
        yield f"{error.filename}: cannot be looked at: {error.strerror}"
    except StoreError as error:
        yield str(error)


def _abandoned(directory: Directory, info: str, text: bytes) -> KeptFiles | str | None:
    """A dump that nobody receives though its info file says that somebody does, or, if there is no
    vmcore, what tells against it; None if all is well."""
    told, name = Verdict.from_line(last_line(text)), FileName.parse(info)
    # that of a recovery has nothing behind these words, and no lock
    if name is None or told is None or not told.is_receiving or told == Verdict.receiving():
        return None
    if directory.locked(info):
        return None
    files = list(_files(directory.names()))
    if any(file.is_vmcore and file.dump == name.dump for file in files):
        return load(directory, KeptName(*name.dump))
    return told_apart(files, name.dump)


def _ended(dump: KeptFiles | str) -> Verdict:
    """What is to be said of a dump that nobody receives any more."""
    why = "the server ended while it received this"
    if isinstance(dump, str):
        kind = Kind.CONTRADICTED if dump else Kind.INCOMPLETE
        return Verdict(kind, "; ".join(filter(None, (why, "no data received", dump))))
    account = dump.account
    what = [f"{dump.size} bytes are in {dump.vmcore}, {HOLES_UNKNOWN}", account.doubt]
    if account.holes_known:
        reason = account.verdict.reason or "none is known to be missing"
        what = [f"{account.bytes_received} bytes are in {dump.vmcore}, {reason}"]
    contradicted = account.verdict.kind is Kind.CONTRADICTED
    finished = "FINISHED had come" if dump.finished else ""
    return Verdict(
        Kind.CONTRADICTED if contradicted else Kind.INCOMPLETE,
        "; ".join(filter(None, (why, finished, *what))),
    )


def _is_whole(kept: KeptFiles) -> bool:
    """Whether by what was noted of a dump, and a sound header, all of it is here."""
    account = kept.account
    if account.sound_header is None or not account.holes_known:
        return False
    descriptor = kept.directory.open_file(kept.vmcore)
    try:
        account.examine(lambda start, end: os.pread(descriptor, end - start, start))
    finally:
        os.close(descriptor)
    return account.complete


def _drop_second_name(kept: KeptFiles) -> None:
    """A vmcore gets its name by a link (Directory.rename): it may have both still."""
    part = kept.names.of("vmcore", kept.number, end=PART)
    old, new = kept.directory.stat(part), kept.directory.stat(kept.vmcore)
    if kept.vmcore != part and old and new and os.path.samestat(old, new):
        kept.directory.unlink(part)


def _file(kept: KeptFiles) -> None:
    """Give a dump its names. OSError or StoreError if that cannot be."""
    directory, account = kept.directory, kept.account
    files = DumpFiles.adopt(directory, kept.names, kept.number)
    if kept.vmcore != files.part:  # it had its name, but not yet its info file
        directory.rename(kept.vmcore, files.part)
    last = not later_is_linked(directory, (kept.names.host, kept.number))
    files.publish(account, account.verdict, link=last)
