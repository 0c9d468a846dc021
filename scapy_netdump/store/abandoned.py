# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumps that a server was receiving when it was killed: their info files are put right.

A server holds a lock of the info file of each dump that it receives. The lock ends with the
process, however that ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..core.verdict import HOLES_UNKNOWN, Kind, Verdict
from .directory import Directory
from .naming import FileName, told_apart
from .retention import INFO_SIZE


def mark_abandoned(directory: Directory) -> Iterator[str]:
    """Have the info files of dumps that nobody receives any more say so. A line for the log
    each; also for those that cannot be read or written."""
    try:
        names = sorted(directory.names())
    except OSError as error:
        yield f"{error.filename}: cannot be read: {error.strerror}"
        return
    for name in names:
        found = FileName.parse(name)
        if found is None or found.kind != "info":
            continue
        try:
            head, last = _content(directory, name)
            status = _ended(directory, name, last)
            if status:
                directory.replace(name, head + f"{status}\n".encode())
                yield f"{directory.path / name}: {status}"
        except OSError as error:
            yield f"{error.filename}: cannot be looked at: {error.strerror}"


def true_status(info: Path) -> str:
    """The last line of an info file, or what it ought to be after its server was killed.

    OSError if that cannot be read.
    """
    directory = Directory.open(info.parent)
    try:
        last = _content(directory, info.name)[1]
        return _ended(directory, info.name, last) or last.decode(errors="backslashreplace")
    finally:
        directory.close()


def _content(directory: Directory, info: str) -> tuple[bytes, bytes]:
    """The lines of an info file but the last, and that one without its end."""
    head, newline, last = directory.read(info, INFO_SIZE).rstrip(b"\n").rpartition(b"\n")
    return head + newline, last


def _ended(directory: Directory, info: str, last: bytes) -> str:
    """What an info file is to end with, if nobody receives the dump that it says somebody
    does; nothing if all is well."""
    begun = Verdict.from_line(last.decode(errors="backslashreplace"))
    name = FileName.parse(info)
    # that of a recovery has nothing behind these words, and no lock
    if name is None or begun is None or not begun.is_receiving:
        return ""
    if begun == Verdict.receiving() or directory.locked(info):
        return ""
    files = list(filter(None, map(FileName.parse, directory.names())))
    found = [
        f"{status.st_size} bytes are in {file}"
        for file in files
        if file.is_vmcore and file.dump == name.dump
        if (status := directory.stat(str(file))) is not None
    ]
    what = ", ".join([*found, HOLES_UNKNOWN]) if found else "no data received"
    apart = told_apart(files, name.dump)
    kind = Kind.CONTRADICTED if apart else Kind.INCOMPLETE
    reasons = filter(None, ("the server ended while it received this", what, apart))
    return str(Verdict(kind, "; ".join(reasons)))
