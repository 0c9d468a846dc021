# SPDX-License-Identifier: GPL-2.0-or-later
"""Opening a directory at a path that a stranger chose, and never one that lies elsewhere.

The rules, more strict than netdumpd's (PROTOCOL.md "Observed answers"):

- The path is relative, and shorter than FreeBSD's MAXPATHLEN.
- ``..`` is taken away together with the name before it, as text; what would lead above the
  beginning is refused.
- No part of it is a symbolic link, not even one that stays below: such a link can be
  changed by whoever may write there between any two looks at it.
- What is to be made has few levels, and no name that a file of a dump may come to have: a
  directory called ``bounds.HOST`` or ``info.HOST.last`` would be in the way of that host's
  dumps. What is there already may be entered, whatever it is called.

Linux has openat2(2) with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS since 5.6. Elsewhere, and
where directories are to be made on the way, each part is opened from the one before it with
O_NOFOLLOW.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
import sys
from typing import NamedTuple

from ..errors import StoreError
from ..text import counted, printable
from .own_names import is_own_name

#: FreeBSD's MAXPATHLEN (sys/param.h), the NUL included, and the longest name.
_MAX_PATH = 1024
_MAX_NAME = 255

#: Levels of directories that are made for one path: each takes an inode, and a block.
MAX_MADE = 8

_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

# linux/openat2.h; the number is the same on all machines but Alpha (asm-generic/unistd.h)
_SYS_OPENAT2 = 437
_NO_SYMLINKS, _BENEATH = 0x04, 0x08
_OPEN_HOW = struct.pack("QQQ", _FLAGS, 0, _BENEATH | _NO_SYMLINKS)

#: A kernel that does not have openat2(2), or a sandbox that does not know it.
_NO_SUCH_CALL = {errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG}

_HAS_OPENAT2 = sys.platform == "linux" and os.uname().machine != "alpha"
_libc = ctypes.CDLL(None, use_errno=True)


class PathRefusedError(StoreError):
    """A path of a HERALD that is no directory below the dump directory."""


class Beneath(NamedTuple):
    """An open directory, its path in its plainest form, and how many parts at the end of
    that had to be made."""

    descriptor: int
    path: bytes
    made: int = 0


def open_beneath(descriptor: int, path: bytes, *, create: bool = False) -> Beneath:
    """Open the directory at ``path`` below the one that ``descriptor`` is of.

    ``create`` makes what is missing, for the owner alone. PathRefusedError if the path
    breaks the rules, or there is no such directory.
    """
    names = _names(path)
    plain = b"/".join(names) or b"."
    try:
        if create:
            opened, made = _walk(descriptor, names, create=True)
            return Beneath(opened, plain, made)
        return Beneath(_open(descriptor, plain, names), plain)
    except OSError as error:
        reason = "symbolic link" if error.errno == errno.ELOOP else str(error.strerror)
        raise _refused(path, reason) from None


def _names(path: bytes) -> list[bytes]:
    """The parts of a path, without those that go nowhere or back."""
    if path.startswith(b"/"):
        raise _refused(path, "it is absolute")
    if b"\0" in path:
        raise _refused(path, "it holds a NUL")
    if len(path) >= _MAX_PATH:
        raise _refused(path[:40] + b"...", f"it has {len(path)} bytes")
    names: list[bytes] = []
    for name in path.split(b"/"):
        if name == b"..":
            if not names:
                raise _refused(path, "it leads out of the dump directory")
            names.pop()
        elif len(name) > _MAX_NAME:
            raise _refused(name[:40] + b"...", f"a name of {len(name)} bytes")
        elif name not in (b"", b"."):
            names.append(name)
    return names


def _refused(path: bytes, reason: str) -> PathRefusedError:
    return PathRefusedError(f"path '{_shown(path)}' is refused: {reason}")


def _shown(name: bytes) -> str:
    return printable(name.decode(errors="backslashreplace"))


def _open(descriptor: int, plain: bytes, names: list[bytes]) -> int:
    if _HAS_OPENAT2:
        opened = _openat2(descriptor, plain)
        if opened >= 0:
            return opened
        if -opened not in _NO_SUCH_CALL:
            raise OSError(-opened, os.strerror(-opened))
    return _walk(descriptor, names)[0]


def _openat2(descriptor: int, path: bytes) -> int:
    """A descriptor, or an error's number below 0."""
    how = ctypes.c_char_p(_OPEN_HOW)
    size = ctypes.c_size_t(len(_OPEN_HOW))
    number = ctypes.c_long(_SYS_OPENAT2)
    opened: int = _libc.syscall(number, ctypes.c_int(descriptor), ctypes.c_char_p(path), how, size)
    return opened if opened >= 0 else -ctypes.get_errno()


def _walk(descriptor: int, names: list[bytes], *, create: bool = False) -> tuple[int, int]:
    """Part by part; what was opened is the same directory whatever has its name since. If not
    all can be made, nothing is."""
    made: list[tuple[int, bytes]] = []  # a descriptor of what each was made in
    here = os.open(".", _FLAGS, dir_fd=descriptor)
    try:
        for place, name in enumerate(names):
            above = here
            try:
                here = _enter(name, above)
            except FileNotFoundError:
                if not create:
                    raise
                if not made:
                    _check_new(names, place)
                if _make(name, above):
                    made.append((os.dup(above), name))
                here = _enter(name, above)
            os.close(above)
    except BaseException:
        os.close(here)
        for above, name in reversed(made):
            with contextlib.suppress(OSError):
                os.rmdir(name, dir_fd=above)
        raise
    finally:
        for above, _ in made:
            os.close(above)
    return here, len(made)


def _enter(name: bytes, above: int) -> int:
    return os.open(name, _FLAGS | os.O_NOFOLLOW, dir_fd=above)


def _make(name: bytes, above: int) -> bool:
    """Make a directory; False if somebody else did."""
    try:
        os.mkdir(name, 0o700, dir_fd=above)
    except FileExistsError:
        return False
    return True


def _check_new(names: list[bytes], place: int) -> None:
    """Whether the directories from ``place`` on may be made. PathRefusedError if not."""
    path, new = b"/".join(names), names[place:]
    if len(new) > MAX_MADE:
        levels = counted(len(new), "level")
        raise _refused(path[:40] + b"...", f"{levels} would have to be made, {MAX_MADE} are")
    for name in new:
        if is_own_name(os.fsdecode(name)):
            raise _refused(path, f"'{_shown(name)}' is a name for files of dumps")
