# SPDX-License-Identifier: GPL-2.0-or-later
"""The files of dumps that are being received: each byte is in its file before it is acked.

These are the Sinks and the Sink of core/receiving/sinks.py. Names and contents are those of
recovered dumps (dump_files.py). Pieces of datagrams go to the file with one pwritev(2) and
stay in no buffer of this process: kill it, and the file has all that was acked.

A server that was killed leaves ``vmcore.HOST.N.part`` and an info file that says "being
received". The next one that uses the directory says there that this came to an end; which
bytes of the ``.part`` are holes died with the process, so that it keeps its name and its
number, and nothing calls it whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from ..core.account import Account
from ..core.verdict import Kind, Verdict
from ..errors import StoreError
from ..formats import VMCORE
from ..kerneldump.header import DumpHeader
from ..text import printable
from ..wire import HEADER_SIZE, Buffer
from .abandoned import mark_abandoned
from .directory import Directory
from .dump_files import DumpFiles, reserve, write_message
from .hosts import file_host
from .naming import Published
from .retention import FreeSpace, prune

_MAX_PIECES = os.sysconf("SC_IOV_MAX")


#: The info file is brought up to date when data comes, at this many bytes of the vmcore, and
#: whenever that has doubled.
_SOME = 1 << 20


def _receiving(verdict: Verdict, count: int) -> Verdict:
    """What is true of a dump, also when more has come since."""
    at_least = f"at least {count} bytes of the vmcore are here"
    return Verdict(verdict.kind, f"{verdict.reason}; {at_least}")


class LiveDumps:
    """The dump directory of a server."""

    def __init__(
        self,
        path: Path,
        default: str = "",
        *,
        mkdir: bool = False,
        host_of: Callable[[str], str] | None = None,
        keep: int | None = None,
        min_free: int = 0,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Dumps go to ``default`` below ``path``, or where the HERALD asks below ``path``.

        ``mkdir`` makes directories that are not there. ``host_of`` gives the name of an
        address, or nothing. ``keep``: how many complete dumps of a host stay, all if None.
        ``min_free``: bytes of the file system that stay free. ``tell`` is called, in
        whatever thread, with lines for the log. StoreError if there is no such directory.
        """
        self._base = Directory.open(Path(os.path.abspath(path)), create=mkdir)
        try:
            self._default = self._base.below(default, create=mkdir)
        except BaseException:
            self._base.close()
            raise
        self._mkdir = mkdir
        self._host_of = host_of or (lambda address: "")
        self._keep = keep
        self._min_free = min_free
        self._tell = tell
        self._tidied: set[tuple[int, int]] = set()
        self._tidy(self._default)

    def close(self) -> None:
        """No dump is going to begin."""
        self._default.close()
        self._base.close()

    def begin(self, client: str, path: bytes) -> LiveDump:
        """Take a number for a dump of the client; its info file is there from now on.

        A ``path`` that cannot be used leads to the default one, as netdumpd has it; the
        dump's ``note`` says so. StoreError if there can be no dump.
        """
        try:
            host = file_host(client, self._host_of(client))
        except ValueError as error:
            raise StoreError(printable(str(error))) from None
        note = ""
        if path:
            try:
                return self._begin(path, host, client, note)
            except StoreError as error:
                note = str(error)
        return self._begin(b"", host, client, note)

    def _begin(self, path: bytes, host: str, client: str, note: str) -> LiveDump:
        base = self._base if path else self._default
        directory = base.below(path, create=self._mkdir)
        discarded = partial(base.remove_made, directory)
        try:
            space = FreeSpace(directory, self._min_free)
            if not directory.made:
                self._tidy(directory)
            files = reserve(directory, host, client, _receiving(Verdict.receiving(), 0), live=True)
        except BaseException:
            directory.close()
            discarded()
            raise
        return LiveDump(files, space, note, discarded, self._prune)

    def _tidy(self, directory: Directory) -> None:
        """Correct what a server that was killed left in a directory, at its first use."""
        status = os.fstat(directory.descriptor)
        key = status.st_dev, status.st_ino
        if key not in self._tidied:
            self._tidied.add(key)
            for line in mark_abandoned(directory):
                self._tell(line)

    def _prune(self, files: DumpFiles) -> None:
        """A dump of a host is complete: remove older ones if that was asked for."""
        if self._keep is None:
            return
        try:
            path = files.directory.path
            for number in prune(
                files.directory, files.host, self._keep, files.number, tell=self._tell
            ):
                self._tell(f"{path}: dump {number} of {files.host} removed to keep {self._keep}")
        except StoreError as error:
            self._tell(str(error))


class LiveDump:
    """The files of one dump that is being received."""

    def __init__(
        self,
        files: DumpFiles,
        space: FreeSpace,
        note: str,
        discarded: Callable[[], None],
        completed: Callable[[DumpFiles], None],
    ) -> None:
        """Owns ``files`` and their directory. ``discarded`` is called when no dump came,
        ``completed`` when a whole one has its names."""
        self.name = str(files.directory.path / files.info)
        self.note = note
        self._files = files
        self._space = space
        self._discarded = discarded
        self._completed = completed
        self._descriptors: dict[int, int] = {}
        self._other: int | None = None
        self._header: DumpHeader | None = None
        self._verdict = Verdict.receiving()
        self._count = 0
        self._told = 0

    def write(self, kind: int, pieces: Sequence[Buffer], offset: int) -> None:
        """Store pieces, one behind the other from ``offset`` on, before this returns."""
        size = sum(map(len, pieces))
        end = offset + size
        try:
            if kind not in self._descriptors:
                self._descriptors[kind] = self._files.create(kind)
            self._space.take(size)
            while offset < end:
                written = os.pwritev(self._descriptors[kind], pieces[:_MAX_PIECES], offset)
                if not written:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                offset += written
                if offset < end:
                    pieces = _rest(pieces, written)
        except (OSError, OverflowError, StoreError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            path = getattr(error, "filename", None) or self._files.path(kind)
            raise StoreError(f"{path}: cannot write at offset {offset}: {reason}") from None
        if kind == VMCORE and size:
            self._count += size
            if self._count >= max(2 * self._told, _SOME) or not self._told:
                with contextlib.suppress(OSError):  # the bytes are here all the same
                    self._show()

    def read(self, kind: int, start: int, end: int) -> bytes:
        """The bytes ``[start, end)`` of a file; zeros where nothing was stored."""
        data = b""
        if kind in self._descriptors:
            with self._store_error("read"):
                data = os.pread(self._descriptors[kind], end - start, start)
        return data.ljust(end - start, b"\0")

    def keep_other(self, kind: int, offset: int, data: Buffer) -> None:
        """Store a second version of bytes as the message that it came in, without its number."""
        with self._store_error("written"):
            if self._other is None:
                self._other = self._files.create_other()
            self._space.take(HEADER_SIZE + len(data))
            write_message(self._other, kind, offset, data)

    def update(self, account: Account, verdict: Verdict) -> None:
        """Make the info file say what is known: ``verdict``, and how much is here."""
        self._header, self._verdict = account.header, verdict
        with self._store_error("written"):
            self._show()

    def sync(self) -> None:
        """Wait until the disk has everything. Slow."""
        with self._store_error("written"):
            for descriptor in (*self._descriptors.values(), self._other):
                if descriptor is not None:
                    os.fsync(descriptor)

    def finish(self, account: Account, verdict: Verdict) -> Published:
        """Give the files their final names, and the info file its last line.

        What a write that failed left behind the dump's last byte is cut off. When this
        returns the disk has the names and the small files.
        """
        files = self._files
        try:
            with self._store_error("written"):
                published = files.publish(account, verdict)
                small = (published.info, published.map)
                files.directory.sync(*(path.name for path in small if path is not None))
        except StoreError as error:
            with contextlib.suppress(OSError):
                unfiled = Verdict(Kind.INCOMPLETE, f"could not be filed: {error}")
                files.show(account.header, unfiled)
            raise
        else:
            if verdict.complete:
                self._completed(files)
            return published
        finally:
            self._close()

    def discard(self) -> None:
        """Remove what ``begin`` made: nothing came."""
        try:
            with self._store_error("removed"):
                self._files.discard()
        finally:
            self._close()
        self._discarded()

    def _show(self) -> None:
        self._told = self._count
        self._files.show(self._header, _receiving(self._verdict, self._count))

    def _close(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])
        if self._other is not None:
            os.close(self._other)
            self._other = None
        self._files.release()
        self._files.directory.close()

    @contextlib.contextmanager
    def _store_error(self, done: str) -> Iterator[None]:
        """Turn what the system refuses into a line for people."""
        try:
            yield
        except OSError as error:
            where = error.filename or self._files.path(VMCORE)
            raise StoreError(f"{where}: cannot be {done}: {error.strerror}") from None


def _rest(pieces: Sequence[Buffer], written: int) -> list[Buffer]:
    """What is left to write of pieces."""
    whole = 0
    while whole < len(pieces) and written >= len(pieces[whole]):
        written -= len(pieces[whole])
        whole += 1
    return [memoryview(pieces[whole])[written:], *pieces[whole + 1 :]]
