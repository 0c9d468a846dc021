# SPDX-License-Identifier: GPL-2.0-or-later
"""The files of dumps that are being received: each byte is in its file before it is acked.

These are the Sinks and the Sink of core/receiving/sinks.py. Names and contents are those of
recovered dumps (dump_files.py). Pieces of datagrams go to the file with one pwritev(2) and
stay in no buffer of this process: kill it, and the file has all that was acked. What is in the
system's page cache a power cut takes, unless ``sync`` says otherwise.

A server that was killed leaves ``vmcore.HOST.N.part``, a mapfile that tells what of it is here,
and an info file that says "being received". The next one that uses the directory says there that
this came to an end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path

from ..core.account import Account
from ..core.extents import Range
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
from .retention import LEAST_AGE, FreeSpace, prune

_MAX_PIECES = os.sysconf("SC_IOV_MAX")


#: The info file is brought up to date when data comes, at this many bytes of the vmcore, and
#: whenever that has doubled.
_SOME = 1 << 20


class Sync(Enum):
    """What has reached the disk itself, and not only the system's page cache, before an ack."""

    NONE = "none"
    FINISH = "finish"
    ALWAYS = "always"


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
        least_age: float = LEAST_AGE,
        min_free: int = 0,
        sync: Sync = Sync.NONE,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Dumps go to ``default`` below ``path``, or where the HERALD asks below ``path``.

        ``mkdir`` makes directories that are not there. ``host_of`` gives the name of an
        address, or nothing. ``keep``: how many complete dumps of a host stay, all if None;
        none that is younger than ``least_age`` seconds goes.
        ``min_free``: bytes of the file system that stay free. ``sync``: what waits for the disk
        itself: nothing, the ack of FINISHED, or each. ``tell`` is called, in whatever thread,
        with lines for the log. StoreError if there is no such directory.
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
        self._least_age = least_age
        self._min_free = min_free
        self.sync = sync
        self._tell = tell
        self._tidied: set[tuple[int, int]] = set()
        self._tidying = threading.Lock()
        self._bookkeeper = ThreadPoolExecutor(1, "netdump-bookkeeper")
        self._tidy(self._default)

    def close(self) -> None:
        """No dump is going to begin."""
        self._bookkeeper.shutdown()
        self._default.close()
        self._base.close()

    def begin(self, client: str, path: bytes) -> LiveDump:
        """A dump of the client. Its number and its info file it gets with its first byte, where
        ``path`` says, or in the default place, as netdumpd has it, if that cannot be used; the
        dump's ``note`` says so then. StoreError if there can be no dump."""
        try:
            host = file_host(client, self._host_of(client))
        except ValueError as error:
            raise StoreError(printable(str(error))) from None
        return LiveDump(self, client, host, path)

    def open(self, client: str, host: str, path: bytes) -> tuple[DumpFiles, FreeSpace, str]:
        """Take a number for a dump of a host: its files, what may be written, and the note.
        StoreError if that cannot be."""
        note = ""
        if path:
            try:
                return *self._open(path, client, host), ""
            except StoreError as error:
                note = str(error)
        return *self._open(b"", client, host), note

    def _open(self, path: bytes, client: str, host: str) -> tuple[DumpFiles, FreeSpace]:
        base = self._base if path else self._default
        directory = base.below(path, create=self._mkdir)
        try:
            space = FreeSpace(directory, self._min_free)
            if not directory.made:
                self._tidy(directory)
            first = _receiving(Verdict.receiving(), 0)
            return reserve(directory, host, client, first, live=True), space
        except BaseException:
            directory.close()
            self.discarded(directory)
            raise

    def discarded(self, directory: Directory) -> None:
        """Nothing came of a dump: remove what was made for it."""
        self._base.remove_made(directory)

    def later(self, call: Callable[[], None]) -> None:
        """Have something done in another thread, soon."""
        with contextlib.suppress(RuntimeError):  # closed: it is over
            self._bookkeeper.submit(call)

    def _tidy(self, directory: Directory) -> None:
        """Correct what a server that was killed left in a directory, at its first use."""
        status = os.fstat(directory.descriptor)
        key = status.st_dev, status.st_ino
        with self._tidying:
            if key not in self._tidied:
                self._tidied.add(key)
                for line in mark_abandoned(directory):
                    self._tell(line)

    def completed(self, files: DumpFiles) -> None:
        """A dump of a host is complete: remove older ones if that was asked for."""
        if not files.linked:
            path = files.directory.path / files.info
            self._tell(f"{path}: the links to the last dump of {files.host} cannot be set")
        if self._keep is None:
            return
        try:
            path = files.directory.path
            for number in prune(
                files.directory,
                files.host,
                self._keep,
                files.number,
                tell=self._tell,
                least_age=self._least_age,
            ):
                self._tell(f"{path}: dump {number} of {files.host} removed to keep {self._keep}")
        except StoreError as error:
            self._tell(str(error))


class LiveDump:
    """The files of one dump that is being received."""

    def __init__(self, dumps: LiveDumps, client: str, host: str, path: bytes) -> None:
        """There is nothing on the disk before the first call that stores something."""
        self.name = ""
        self.note = ""
        self._dumps = dumps
        self._wanted = client, host, path
        self._opened: DumpFiles | None = None
        self._space: FreeSpace | None = None
        self._descriptors: dict[int, int] = {}
        self._other: int | None = None
        self._header: DumpHeader | None = None
        self._verdict = Verdict.receiving()
        self._count = 0
        self._told = 0
        self._here: tuple[Sequence[Range], int] | None = None
        self._noting = threading.Lock()
        self._finished = self._closed = False

    @property
    def _files(self) -> DumpFiles:
        """Its files: from the first time on there is an info file. StoreError if not."""
        if self._opened is None:
            files, self._space, self.note = self._dumps.open(*self._wanted)
            self._opened = files
            self.name = str(files.directory.path / files.info)
        return self._opened

    def _take(self, size: int) -> None:
        if self._space is not None:
            self._space.take(size)

    def write(self, kind: int, pieces: Sequence[Buffer], offset: int) -> None:
        """Store pieces, one behind the other from ``offset`` on, before this returns."""
        size = sum(map(len, pieces))
        end = offset + size
        files = self._files
        try:
            if kind not in self._descriptors:
                self._descriptors[kind] = files.create(kind)
            self._take(size)
            while offset < end:
                written = os.pwritev(self._descriptors[kind], pieces[:_MAX_PIECES], offset)
                if not written:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                offset += written
                if offset < end:
                    pieces = _rest(pieces, written)
            if self._dumps.sync is Sync.ALWAYS:
                os.fdatasync(self._descriptors[kind])
        except (OSError, OverflowError, StoreError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            path = getattr(error, "filename", None) or files.path(kind)
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
            self._take(HEADER_SIZE + len(data))
            write_message(self._other, kind, offset, data)
            if self._dumps.sync is Sync.ALWAYS:
                os.fdatasync(self._other)

    def update(self, account: Account, verdict: Verdict) -> None:
        """Make the info file say what is known: ``verdict``, and how much is here."""
        self._header, self._verdict = account.header, verdict
        with self._store_error("written"):
            self._show()

    def note_here(self, missing: Sequence[Range], end: int) -> None:
        """Have a mapfile beside the ``.part`` tell what is here, should this process be killed."""
        with self._noting:
            waiting, self._here = self._here, (missing, end)
        if waiting is None:
            self._dumps.later(self._note)

    def _note(self) -> None:
        with self._noting:
            here, self._here = self._here, None
        if here is not None and self._opened is not None:
            with contextlib.suppress(OSError, StoreError):  # the bytes are here all the same
                self._opened.note_part(*here, finished=False)

    def note_finished(self, missing: Sequence[Range], end: int) -> None:
        """FINISHED is about to be acked: remember that, and wait for the disk if that is asked
        for."""
        files = self._files
        with self._noting:
            self._here = None
        with contextlib.suppress(OSError):  # the bytes are here all the same
            files.note_part(missing, end, finished=True)
        if self._dumps.sync is not Sync.NONE:
            self.sync()

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
                self._dumps.completed(files)
            return published
        finally:
            self._over(finished=True)

    def close(self) -> None:
        """Nothing is read any more: give the last descriptor back, once the dump has its names."""
        self._over(closed=True)

    def discard(self) -> None:
        """Remove what there is: nothing came."""
        files = self._opened
        if files is None:
            return
        try:
            with self._store_error("removed"):
                files.discard()
        finally:
            self._close()
        self._dumps.discarded(files.directory)

    def _show(self) -> None:
        self._told = self._count
        self._files.show(self._header, _receiving(self._verdict, self._count))

    def _over(self, finished: bool = False, closed: bool = False) -> None:
        """It has its names, or nothing is read any more. From the first on only its vmcore is
        open, and with both nothing."""
        with self._noting:
            self._finished, self._closed = self._finished or finished, self._closed or closed
            if self._finished:
                self._close(None if self._closed else VMCORE)

    def _close(self, but: int | None = None) -> None:
        for kind in [kind for kind in self._descriptors if kind != but]:
            with contextlib.suppress(OSError):  # what close(2) may tell, fsync(2) told before
                os.close(self._descriptors.pop(kind))
        if self._other is not None:
            with contextlib.suppress(OSError):
                os.close(self._other)
            self._other = None
        if self._opened is not None:
            self._opened.release()
            self._opened.directory.close()

    @contextlib.contextmanager
    def _store_error(self, done: str) -> Iterator[None]:
        """Turn what the system refuses into a line for people."""
        try:
            yield
        except OSError as error:
            where = error.filename or self.name
            raise StoreError(f"{where}: cannot be {done}: {error.strerror}") from None


def _rest(pieces: Sequence[Buffer], written: int) -> list[Buffer]:
    """What is left to write of pieces."""
    whole = 0
    while whole < len(pieces) and written >= len(pieces[whole]):
        written -= len(pieces[whole])
        whole += 1
    return [memoryview(pieces[whole])[written:], *pieces[whole + 1 :]]
