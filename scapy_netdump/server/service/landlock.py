# SPDX-License-Identifier: GPL-2.0-or-later
"""Confinement of this process to a part of the file system, by Linux's Landlock.

landlock(7); structures and numbers are those of linux/landlock.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Iterable

# The same on every architecture but those that number on from a base of their own.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_OTHER_NUMBERS = ("alpha", "mips")

_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h

# LANDLOCK_ACCESS_FS_*, and by the version of the interface that brought them
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE = 1 << 4, 1 << 5
_MAKE_CHAR, _MAKE_DIR, _MAKE_REG, _MAKE_SOCK = 1 << 6, 1 << 7, 1 << 8, 1 << 9
_MAKE_FIFO, _MAKE_BLOCK, _MAKE_SYM = 1 << 10, 1 << 11, 1 << 12
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_KNOWN_FILE_RIGHTS = {1: _REFER - 1, 2: _TRUNCATE - 1, 3: _IOCTL_DEV - 1, 5: _IOCTL_DEV * 2 - 1}
_BIND_TCP, _CONNECT_TCP = 1 << 0, 1 << 1  # since 4
_SCOPE_ABSTRACT_UNIX_SOCKET, _SCOPE_SIGNAL = 1 << 0, 1 << 1  # since 6

_READ = _READ_FILE | _READ_DIR
_MAKE = _MAKE_REG | _MAKE_DIR | _MAKE_SYM
_KEEP_FILES = _READ | _WRITE_FILE | _TRUNCATE | _MAKE | _REMOVE_FILE | _REMOVE_DIR | _REFER
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV  # the rest: directories


class LandlockError(Exception):
    """The process is not confined, for the reason given in a few words."""


def version() -> int:
    """The version of the kernel's interface, from 1 on. LandlockError if there is none."""
    if sys.platform != "linux" or platform.machine().startswith(_OTHER_NUMBERS):
        raise LandlockError("this system has no Landlock")
    try:
        return _call(_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            raise LandlockError("Landlock is switched off in this kernel") from None
        raise LandlockError("this kernel has no Landlock") from None


def confine(
    kept: Iterable[str | os.PathLike[str]],
    readable: Iterable[str | os.PathLike[str]] = (),
    *,
    tcp: bool = False,
) -> int:
    """Let this thread, and those that it starts, reach no files but these, and run no program.

    Below the directories ``kept`` files and directories may be made and removed, and files be
    written; below ``readable`` they may be read (what is not there is left out). What is open
    already stays open.
    TCP is closed unless ``tcp``, and so are signals and abstract sockets to others, as far as
    the kernel knows how. Returns the version of its interface; LandlockError if this process
    is not confined.
    """
    known = version()
    rights = next(_KNOWN_FILE_RIGHTS[v] for v in (5, 3, 2, 1) if v <= known)
    attributes = struct.pack(
        "=QQQ",
        rights,
        0 if tcp or known < 4 else _BIND_TCP | _CONNECT_TCP,
        0 if known < 6 else _SCOPE_ABSTRACT_UNIX_SOCKET | _SCOPE_SIGNAL,
    )
    size = 8 if known < 4 else 16 if known < 6 else 24
    try:
        ruleset = _call(_CREATE_RULESET, attributes, size, 0)
        try:
            for path in kept:
                _allow(ruleset, path, _KEEP_FILES & rights)
            for path in readable:
                if os.path.exists(path):
                    _allow(ruleset, path, _READ)
            _forbid_new_privileges()
            _call(_RESTRICT_SELF, ruleset, 0)
        finally:
            os.close(ruleset)
    except OSError as error:
        raise LandlockError(f"Landlock refused: {error.strerror}") from None
    return known


def covered(version: int, *, tcp: bool = False) -> tuple[str, ...]:
    """What the confinement is about, in words, by the version of the kernel's interface."""
    return (
        *("files", "programs"),
        *(("TCP",) if version >= 4 and not tcp else ()),
        *(("signals", "abstract sockets") if version >= 6 else ()),
    )


def _allow(ruleset: int, path: str | os.PathLike[str], rights: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if not os.path.isdir(path):
            rights &= _OF_FILES
        _call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, struct.pack("=Qi", rights, place), 0)
    finally:
        os.close(place)


def _forbid_new_privileges() -> None:
    """What the kernel insists on: a set-user-id program would escape."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0))):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _call(number: int, *arguments: int | bytes | None) -> int:
    """A system call of which the C library knows nothing. OSError if it fails."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    words = [ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a) for a in arguments]
    result: int = libc.syscall(ctypes.c_long(number), *words)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
