# SPDX-License-Identifier: GPL-2.0-or-later
"""From captures to the files of the dumps in them. Wiring only.

Captures are read in the order given, as if they were one: what a later one shows of a
dump fills the holes that an earlier one left.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .capture.datagrams import DatagramFinder
from .capture.live import LiveCapture
from .capture.live_reader import live_batches
from .capture.reader import CaptureReader
from .capture.source import Source, open_source
from .core.attribution import MAX_DUMPS
from .core.batch import Batch
from .core.extents import Range
from .core.observed_dump import ObservedDump
from .core.observer import Observer
from .core.selection import Selection
from .core.storage import Storage
from .kerneldump.header import DumpHeader
from .store.directory import Directory
from .store.dump_files import DumpFiles, HostFullError, Published, reserve
from .store.hosts import address_text, host_name
from .store.nowhere import Nowhere
from .store.vmcore_file import VmcoreFile
from .store.writer import Writer
from .text import counted

#: Bytes that may be left in a pipe, and in the buffers of whoever writes into it.
_LEFT_IN_PIPE = 1 << 21

#: Told how many bytes of a capture have been read, and of how many (None: not known).
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True, slots=True)
class RecoveredDump:
    """A dump that captures show.

    ``complete``: every byte up to the header's dumplength is here; without a header,
    FINISHED was seen and nothing below the highest byte is missing. ``status`` is the last
    line of its info file. ``missing`` are
    ``[start, end)`` ranges of the vmcore file. Sizes are in bytes, times in seconds since
    1970. ``retransmitted`` counts messages that brought nothing new in the capture that
    showed them, ``conflicting_bytes`` bytes that were seen with different values.
    """

    client: str
    client_port: int
    server: str
    server_port: int
    path: str
    heralded: bool
    finished: bool
    complete: bool
    status: str
    kdh: DumpHeader | None
    bytes_expected: int
    bytes_received: int
    missing: list[Range]
    messages: int
    retransmitted: int
    conflicting_bytes: int
    first_time: float
    last_time: float
    files: Published

    def as_dict(self) -> dict[str, Any]:
        """The dump as ``netdump recover --json`` prints it."""
        values = {name: getattr(self, name) for name in self.__slots__}
        values["kdh"] = self.kdh.as_dict() if self.kdh is not None else None
        values["files"] = self.files.as_dict()
        return values


@dataclass(slots=True)
class Recovery:
    """What was found. ``problems`` says, a line each, what could not be read or kept;
    ``notes`` what else is worth knowing."""

    dumps: list[RecoveredDump] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    frames: int = 0

    @property
    def complete(self) -> bool:
        """Whether there are dumps, all of them whole, and all captures could be read."""
        return bool(self.dumps) and not self.problems and all(dump.complete for dump in self.dumps)


class Recoverer:
    """Reads captures, and files the dumps in them in a directory. To be used in ``with``."""

    def __init__(
        self,
        directory: Path | None,
        selection: Selection | None = None,
        *,
        names: bool = False,
        careful: bool = False,
    ) -> None:
        """``directory`` None stores nothing; of ``conflicting_bytes`` only copies that came close
        together are known then.

        ``names`` asks reverse DNS what to call clients in file names. ``careful`` decodes
        frame by frame, to compare with. StoreError if the directory cannot be used.
        """
        self.recovery = Recovery()
        selection = selection or Selection()
        self._finder = DatagramFinder(selection.port, careful)
        self._careful = careful
        self._directory = Directory.open(directory, create=True) if directory is not None else None
        self._host_of = host_name if names else str
        self._stored: dict[ObservedDump, tuple[DumpFiles, VmcoreFile]] = {}
        self._writer = Writer()
        self._observer = Observer(self._storage_for, selection)
        self._captures = 0
        self._source: Source | None = None
        self._opening = False
        self._stopping = False

    def __enter__(self) -> Recoverer:
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()
        if self._directory is not None:
            self._directory.close()

    def read(self, path: str, progress: Progress | None = None) -> None:
        """Read a capture file, ``-`` for standard input.

        CaptureError if it is none, StoreError if a dump cannot be written.
        """
        source = self._open(path)
        if source is None:
            self.recovery.problems.append(f"{path}: interrupted before it was read")
            return
        with source:
            reader = CaptureReader(source, self._finder, self._careful)
            self._begin_capture()
            last = None
            for batch in reader:
                self._observe(batch)
                if progress is not None:
                    progress(source.name, reader.position, source.size)
                if self._stopping:
                    last = last or reader.position + _LEFT_IN_PIPE
                    if reader.position >= last and not reader.ended:
                        self.recovery.problems.append(f"{source.name}: interrupted")
                        break
            self.recovery.frames += reader.frames
            self.recovery.problems += reader.problems

    def watch(self, capture: LiveCapture) -> None:
        """Read from a network interface until ``capture`` is stopped."""
        self._begin_capture()
        for batch in live_batches(capture, self._finder):
            self._observe(batch)
        if capture.problem:
            self.recovery.problems.append(capture.problem)
        if capture.dropped:
            self.recovery.problems.append(f"{capture.dropped} frames were lost by the system")

    def stop(self) -> None:
        """Read no more; a signal handler may call this. Of a pipe, what its writer leaves in
        it is read first, as an interrupt usually ends the writer too."""
        self._stopping = True
        if self._opening:
            raise KeyboardInterrupt
        if self._source is not None:
            self._source.stop()

    def finish(self) -> Recovery:
        """Give the files of all dumps their final names, and say what there is."""
        self._observer.finish()
        for dump, (_, vmcore) in self._stored.items():
            vmcore.finish(dump.transfer.vmcore)
        self._writer.drain()
        for dump in self._observer.dumps:
            stored = self._stored.get(dump)
            published = Published()
            if stored is not None:
                published = stored[0].publish(dump.transfer, dump.transfer.status)
            self.recovery.dumps.append(_recovered(dump, published))
        self._note(self._observer.snapped, "message", "cut short by a snap length")
        self._note(self._observer.malformed, "message", "that no server would answer, ignored")
        self._note(self._observer.refused, "message", f"of dumps beyond {MAX_DUMPS}, ignored")
        return self.recovery

    def _open(self, path: str) -> Source | None:
        """A capture's source; None after ``stop``, also while a pipe's writer has not begun."""
        self._opening = True
        try:
            self._source = None if self._stopping else open_source(path)
        except KeyboardInterrupt:
            if not self._stopping:
                raise
            self._source = None
        finally:
            self._opening = False
        return self._source

    def _begin_capture(self) -> None:
        if self._captures:
            self._observer.new_capture()
        self._captures += 1

    def _observe(self, batch: Batch) -> None:
        self._observer.observe(batch)
        self._writer.turn()

    def _storage_for(self, dump: ObservedDump) -> Storage:
        if self._directory is None:
            return Nowhere()
        address = address_text(dump.peer.client)
        try:
            files = reserve(self._directory, self._host_of(address), address)
        except HostFullError as error:
            self.recovery.problems.append(str(error))
            return Nowhere()
        vmcore = VmcoreFile(files.directory, files.part, self._writer)
        self._stored[dump] = files, vmcore
        return vmcore

    def _note(self, count: int, noun: str, what: str) -> None:
        if count:
            self.recovery.notes.append(f"{counted(count, noun)} {what}")


def _recovered(dump: ObservedDump, files: Published) -> RecoveredDump:
    transfer = dump.transfer
    return RecoveredDump(
        client=address_text(dump.peer.client),
        client_port=dump.peer.client_port,
        server=address_text(dump.peer.server),
        server_port=dump.server_port,
        path=transfer.path.decode(errors="backslashreplace"),
        heralded=transfer.heralded,
        finished=transfer.finished,
        complete=transfer.complete,
        status=transfer.status,
        kdh=transfer.header,
        bytes_expected=transfer.bytes_expected,
        bytes_received=transfer.bytes_received,
        missing=transfer.missing,
        messages=dump.messages,
        retransmitted=dump.retransmitted,
        conflicting_bytes=dump.conflicting_bytes,
        first_time=dump.first_time,
        last_time=dump.last_time,
        files=files,
    )


def recover(captures: Sequence[str], directory: str | os.PathLike[str]) -> Recovery:
    """Rebuild the dumps in some captures, read as one, into ``directory``.

    CaptureError if one is no capture, StoreError if the directory cannot be written to.
    """
    with Recoverer(Path(directory)) as recoverer:
        for capture in captures:
            recoverer.read(capture)
        return recoverer.finish()
