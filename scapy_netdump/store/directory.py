# SPDX-License-Identifier: GPL-2.0-or-later
"""A directory held by a descriptor, and all that is done to the files in it.

Files are reached by their name within the directory, never by a path: whoever moves the
directory or puts a symbolic link in its way does not lead a dump elsewhere. What a HERALD
asks for is looked up below it (``below``).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import StoreError
from .beneath import PathRefusedError, open_beneath
from .overwriting import NO_SPACE, overwrite
from .own_names import new_name

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

#: What link(2) answers where it may not or cannot: FAT, some network file systems; and where a
#: second name needs room, as on tmpfs, that another name in place of the first does not.
_NO_LINKS = NO_SPACE | {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV}

#: What flock(2) answers where it cannot lock, not where somebody else has.
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}


class Directory:
    """An open directory. Its methods raise OSError, with the file's full path in it.

    ``path`` is what it was called when it was opened: for people, and to name files.
    """

    def __init__(self, descriptor: int, path: Path, inner: bytes = b"", made: int = 0) -> None:
        """Takes over ``descriptor``. ``inner``: its path below the directory that it was
        looked up in, of which the last ``made`` parts were made then."""
        self.descriptor = descriptor
        self.path = path
        self.inner = inner
        self.made = made

    @classmethod
    def open(cls, path: Path, *, create: bool = False) -> Directory:
        """Open a directory that the user named; with ``create`` make it if it is not there.

        StoreError if that cannot be.
        """
        try:
            if create:
                path.mkdir(parents=True, exist_ok=True)
            return cls(os.open(path, _DIRECTORY), path)
        except OSError as error:
            raise StoreError(f"{path}: cannot be a dump directory: {error.strerror}") from None

    def close(self) -> None:
        """Give the descriptor back. Whoever uses the directory afterwards gets OSError."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):  # it is given back all the same
                os.close(descriptor)

    def below(self, path: bytes | str, *, create: bool = False) -> Directory:
        """The directory at a relative path from a HERALD; beneath.py has the rules.

        With ``create`` what is missing of it is made. PathRefusedError, a StoreError, if
        it is no such directory, or leads out of this one.
        """
        raw = os.fsencode(path)
        try:
            found = open_beneath(self.descriptor, raw, create=create)
        except PathRefusedError as error:
            raise PathRefusedError(f"{self.path}: {error}") from None
        called = self.path / os.fsdecode(found.path)
        return Directory(found.descriptor, called, found.path, found.made)

    def remove_made(self, directory: Directory) -> None:
        """Remove again what ``below`` made for a directory, as far as it is empty."""
        with contextlib.suppress(OSError, PathRefusedError):
            inner = directory.inner
            for _ in range(directory.made):
                inner, _, name = inner.rpartition(b"/")
                above = self.below(inner)
                try:
                    os.rmdir(name, dir_fd=above.descriptor)
                finally:
                    above.close()

    def create(self, name: str, mode: int = 0o600) -> int:
        """A descriptor to write and read a new file; FileExistsError if the name is taken."""
        with self._named(name):
            return os.open(name, _CREATE, mode, dir_fd=self.descriptor)

    def open_file(self, name: str, flags: int = os.O_RDONLY) -> int:
        """A descriptor of a file that is there. A symbolic link is not followed, and
        nothing is waited for, whatever has the name."""
        with self._named(name):
            return os.open(name, flags | _LOOK, dir_fd=self.descriptor)

    def read(self, name: str, limit: int) -> bytes:
        """The first ``limit`` bytes of a small file."""
        descriptor = self.open_file(name)
        try:
            with self._named(name):
                return os.read(descriptor, limit)
        finally:
            os.close(descriptor)

    def read_end(self, name: str, size: int) -> bytes:
        """The last ``size`` bytes of a regular file. Quick, as there may be many to look at."""
        with self._named(name):
            descriptor = os.open(name, _LOOK, dir_fd=self.descriptor)
            try:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise OSError(errno.EINVAL, "Not a regular file")
                return os.pread(descriptor, size, max(0, status.st_size - size))
            finally:
                os.close(descriptor)

    def save(self, name: str, data: bytes, mode: int = 0o600) -> None:
        """Write a new small file; FileExistsError if the name is taken."""
        os.close(self.save_locked(name, data, mode))

    def save_locked(self, name: str, data: bytes, mode: int = 0o600) -> int:
        """``save``, and a descriptor: until it is closed the file counts as ``locked``."""
        descriptor = self.create(name, mode)
        try:
            with self._named(name):
                _lock(descriptor)
                view = memoryview(data)
                while view:
                    view = view[os.write(descriptor, view) :]
        except BaseException:
            os.close(descriptor)
            self.unlink(name)
            raise
        return descriptor

    def replace(self, name: str, data: bytes) -> None:
        """Write a small file so that it is there either as it was or as it is to be."""
        os.close(self.replace_locked(name, data))

    def replace_locked(self, name: str, data: bytes, held: int | None = None) -> int:
        """``replace``, and a descriptor as from ``save_locked``: ``held``, the one that the file
        is locked by, which the caller closes otherwise, or a new one.

        Where there is no room for a second file, the first is overwritten, as it has its blocks.
        """
        new = new_name(name)
        try:
            descriptor = self.save_locked(new, data)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            with self._named(name):
                return self._overwrite(name, data, held, error)
        try:
            self._rename_over(new, name)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _overwrite(self, name: str, data: bytes, held: int | None, why: OSError) -> int:
        """Write over a file, or raise ``why`` it had to be tried."""
        try:
            descriptor = held if held is not None else self.open_file(name, os.O_RDWR)
        except OSError:
            raise why from None
        fits = False
        try:
            fits = overwrite(descriptor, data)
        finally:
            if held is None and not fits:
                os.close(descriptor)
        if not fits:
            raise why
        _lock(descriptor)
        return descriptor

    def claim(self, name: str) -> int | None:
        """A descriptor by which a file is locked, so that others who claim it get none; None if
        somebody has, or the file is gone or another one since. Where nothing can be locked it is
        not."""
        try:
            descriptor = self.open_file(name, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            with self._named(name):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                return None
        there = self.stat(name)
        if there is None or not os.path.samestat(there, os.fstat(descriptor)):
            os.close(descriptor)
            return None
        return descriptor

    def locked(self, name: str) -> bool:
        """Whether somebody holds a lock of the file; a lock ends with its process. True if
        that cannot be told, as on file systems without locks."""
        descriptor = self.open_file(name)
        try:
            return not _lock(descriptor, fcntl.LOCK_SH)  # which others may look at as well
        finally:
            os.close(descriptor)

    def truncate(self, name: str, size: int) -> None:
        """Cut a file to ``size`` bytes."""
        descriptor = self.open_file(name, os.O_RDWR)
        try:
            with self._named(name):
                os.ftruncate(descriptor, size)
        finally:
            os.close(descriptor)

    def rename(self, old: str, new: str) -> None:
        """Give a file a new name; FileExistsError if it is taken, also by a dangling link."""
        at = {"src_dir_fd": self.descriptor, "dst_dir_fd": self.descriptor}
        with self._named(new):
            try:
                os.link(old, new, **at, follow_symlinks=False)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                if self.stat(new) is not None:
                    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
                os.rename(old, new, **at)
            else:
                os.unlink(old, dir_fd=self.descriptor)

    def point(self, link: str, target: str) -> None:
        """Make ``link`` a symbolic link to ``target`` beside it, whatever it was before.

        Where there is no room for a second one, a link goes before it is made anew.
        """
        new = new_name(link)
        with self._named(link):
            try:
                os.symlink(target, new, dir_fd=self.descriptor)
            except OSError as error:
                if error.errno not in NO_SPACE or self.target(link) is None:
                    raise
                os.unlink(link, dir_fd=self.descriptor)
                os.symlink(target, link, dir_fd=self.descriptor)
                return
        self._rename_over(new, link)

    def target(self, link: str) -> str | None:
        """What a symbolic link points to; None if there is no such link."""
        try:
            return os.readlink(link, dir_fd=self.descriptor)
        except OSError:
            return None

    def unlink(self, name: str) -> None:
        """Remove a file, if it is there."""
        with self._named(name), contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.descriptor)

    def names(self) -> list[str]:
        """The names of all that is in it. Safe from several threads at once, as each call
        reads from a descriptor of its own: duplicates share their place in the directory."""
        with self._named("."):
            descriptor = os.open(".", _DIRECTORY, dir_fd=self.descriptor)
            try:
                return os.listdir(descriptor)
            finally:
                os.close(descriptor)

    def stat(self, name: str) -> os.stat_result | None:
        """What a name stands for, links not followed; None if there is nothing."""
        with self._named(name):
            try:
                return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
            except FileNotFoundError:
                return None

    def any_there(self, names: Iterable[str]) -> bool:
        """Whether there is anything that has one of these names."""
        with self._named("."):
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)
                    return True
        return False

    def free_bytes(self) -> int:
        """Bytes that a user who is not root may still fill of the file system."""
        with self._named("."):
            status = os.fstatvfs(self.descriptor)
        return status.f_bavail * status.f_frsize

    def sync(self, *names: str) -> None:
        """Have files of it, and their names, on the disk itself. Slow."""
        for name in names:
            descriptor = self.open_file(name)
            try:
                with self._named(name):
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
        with self._named("."):
            os.fsync(self.descriptor)

    def _rename_over(self, new: str, name: str) -> None:
        try:
            with self._named(name):
                os.replace(new, name, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)
        except BaseException:
            self.unlink(new)
            raise

    @contextlib.contextmanager
    def _named(self, name: str) -> Iterator[None]:
        """Put the file's full path into an OSError."""
        try:
            yield
        except OSError as error:
            number = error.errno or errno.EIO
            raise OSError(number, error.strerror, str(self.path / name)) from None


def _lock(descriptor: int, how: int = fcntl.LOCK_EX) -> bool:
    """Lock a file until the descriptor is closed; False if it is locked or cannot be."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
