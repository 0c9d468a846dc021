# SPDX-License-Identifier: GPL-2.0-or-later
"""A file with the number of the process that runs.

Locked as long as the process lives, as FreeBSD's pidfile(3) does it: what a crash left behind
is in nobody's way, and a second server notices the first.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ...errors import NetdumpError


class PidFileError(NetdumpError):
    """The pid file cannot be written, or belongs to a process that runs."""


class PidFile:
    """Holds the number of this process until ``remove``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            self._file = open(os.open(path, flags, 0o644), "r+", encoding="ascii")  # noqa: SIM115
        except OSError as error:
            raise PidFileError(f"{path}: cannot be a pid file: {error.strerror}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            with self._file:
                owner = _number(self._file.read(16))
            raise PidFileError(f"{path}: process {owner} runs already; stop it first") from None
        self._write(f"{os.getpid()}\n")

    def remove(self) -> None:
        """Remove the file; empty it where this process may not remove it any more."""
        try:
            os.unlink(self._path)
        except OSError:
            self._write("")
        self._file.close()

    def _write(self, text: str) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._file.write(text)
        self._file.flush()


def _number(text: str) -> str:
    return text.strip() if text.strip().isdecimal() else "of unknown number"
