# SPDX-License-Identifier: GPL-2.0-or-later
"""A file with the number of the process that runs.

Locked as long as the process lives, as FreeBSD's pidfile(3) does it: what a crash left behind
is in nobody's way, and a second server notices the first.

A process that gave up root, or is confined, may not remove a file from /var/run. So a small
process is forked before, the keeper. It shares the lock, waits for the end of the other one,
however that comes about, and removes the file while it is still locked.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import time
from pathlib import Path

from ...errors import NetdumpError

#: Seconds to wait for a lock: a keeper needs a moment after its process was killed.
_PATIENCE = 1.0
_PAUSE = 0.02

_DIRECTORY = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class PidFileError(NetdumpError):
    """The pid file cannot be written, or belongs to a process that runs."""


class PidFile:
    """Holds the number of this process until ``remove``, or until it ends in another way.

    To be made while there is but one thread, and before privileges are given up.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._directory = os.open(path.parent, _DIRECTORY)
        except OSError as error:
            raise PidFileError(f"{path}: cannot be a pid file: {error.strerror}") from None
        try:
            self._file = _locked(path, self._directory)
        except BaseException:
            os.close(self._directory)
            raise
        _write(self._file, f"{os.getpid()}\n".encode())
        theirs, self._life = os.pipe()
        self._keeper = os.fork()
        if self._keeper == 0:
            _keep(theirs, self._file, self._directory, path.name)
        os.close(theirs)
        os.close(self._directory)

    def remove(self) -> None:
        """Remove the file; a successor can have it when this returns."""
        os.close(self._life)
        os.waitpid(self._keeper, 0)
        os.close(self._file)


def _locked(path: Path, directory: int) -> int:
    """The file of that name, locked. PidFileError if another process has the lock.

    Whoever had the lock before may have removed the file between open(2) and flock(2): only the
    lock of the file that has the name counts.
    """
    deadline = time.monotonic() + _PATIENCE
    while True:
        descriptor = _open(path, directory)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _has_name(descriptor, path.name, directory):
                return descriptor
        except OSError:
            if time.monotonic() > deadline:
                owner = _number(os.pread(descriptor, 16, 0))
                os.close(descriptor)
                raise PidFileError(f"{path}: process {owner} runs already; stop it first") from None
            time.sleep(_PAUSE)
        os.close(descriptor)


def _open(path: Path, directory: int) -> int:
    """An ordinary file with no other name: another one's content would be written over."""
    try:
        descriptor = os.open(path.name, _FILE, 0o644, dir_fd=directory)
    except OSError as error:
        raise PidFileError(f"{path}: cannot be a pid file: {_reason(error)}") from None
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1:  # 0: removed just now
        return descriptor
    os.close(descriptor)
    what = "has another name as well" if stat.S_ISREG(found.st_mode) else "is no ordinary file"
    raise PidFileError(f"{path}: cannot be a pid file: it {what}")


def _reason(error: OSError) -> str:
    return "it is a symbolic link" if error.errno == errno.ELOOP else str(error.strerror)


def _has_name(descriptor: int, name: str, directory: int) -> bool:
    """Whether the file is what the name leads to."""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(descriptor))


def _keep(life: int, file: int, directory: int, name: str) -> None:
    """The other process: remove the file when nobody holds the other end of ``life`` any more.
    Does not return. It holds open nothing else, and is deaf to what is meant for the server."""
    try:
        for deaf in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(deaf, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(null, standard)
        begin = 3
        for kept in sorted((life, file, directory)):
            os.closerange(begin, kept)
            begin = kept + 1
        os.closerange(begin, os.sysconf("SC_OPEN_MAX"))
        os.read(life, 1)
        if _has_name(file, name, directory):
            os.unlink(name, dir_fd=directory)
    finally:
        os._exit(0)


def _write(descriptor: int, text: bytes) -> None:
    """Never empty in between: somebody may be reading."""
    os.pwrite(descriptor, text, 0)
    os.ftruncate(descriptor, len(text))


def _number(text: bytes) -> str:
    number = text.decode("ascii", "replace").strip()
    return number if number.isdecimal() else "of unknown number"
