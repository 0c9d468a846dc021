# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that a dump names itself, written below a directory and nowhere else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ..errors import StoreError
from .directory import Directory

#: The kernel's own are ddb.txt, config.txt, msgbuf.txt, panic.txt and version.txt (textdump(4)).
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,98}")


def write_files(path: Path, files: Iterable[tuple[str, bytes]]) -> list[Path]:
    """Write some files, names and contents, into a directory, made if need be.

    StoreError for a name that could mean anything but a file in it, or is taken there.
    """
    written = []
    directory = Directory.open(path, create=True)
    try:
        for name, data in files:
            if not _NAME.fullmatch(name):
                raise StoreError(f"{name}: not a name that is written to a directory")
            try:
                directory.save(name, data)
            except OSError as error:
                raise StoreError(f"{path / name}: cannot be written: {error.strerror}") from None
            written.append(path / name)
    finally:
        directory.close()
    return written
