# SPDX-License-Identifier: GPL-2.0-or-later
"""From captures to the files of the dumps in them. Wiring only.

Captures are read in the order given, as if they were one: what a later one shows of a
dump fills the holes that an earlier one left.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ..capture.datagrams import DatagramFinder
from ..capture.live import LiveCapture
from ..capture.live_reader import live_batches
from ..capture.reader import CaptureReader
from ..capture.source import Source, open_source
from ..core.observing.attribution import MAX_DUMPS
from ..core.observing.batch import Batch
from ..core.observing.disputes import Prefer
from ..core.observing.observed_dump import ObservedDump
from ..core.observing.observer import Observer
from ..core.observing.selection import Selection
from ..core.observing.storage import Storage
from ..core.observing.watcher import Watcher
from ..store.dump_files import HostFullError
from ..store.hosts import host_name
from ..store.naming import Published
from ..store.nowhere import Nowhere
from ..text import counted
from .filing import Filed, Filing, RefusedError
from .result import RecoveredDump as RecoveredDump
from .result import Recovery as Recovery
from .result import recovered_dump

#: Bytes that may be left in a pipe, and in the buffers of whoever writes into it.
_LEFT_IN_PIPE = 1 << 21

#: Told how many bytes of a capture have been read, and of how many (None: not known).
Progress = Callable[[str, int, int | None], None]


class Recoverer:
    """Reads captures, and files the dumps in them in a directory. To be used in ``with``."""

    def __init__(
        self,
        directory: Path | None,
        selection: Selection | None = None,
        *,
        names: bool = False,
        careful: bool = False,
        prefer: Prefer = Prefer.ACKED,
        savecore: bool = False,
        into: bool = False,
        watcher: Watcher | None = None,
    ) -> None:
        """``directory`` None stores nothing; of ``conflicting_bytes`` only copies that came close
        together are known then.

        ``names`` asks reverse DNS what to call clients in file names, ``savecore`` gives files
        savecore(8)'s names. ``prefer`` tells which of different payloads is kept. ``into``:
        what is found is to continue dumps that are in the directory. ``careful`` decodes
        frame by frame, to compare with. ``watcher`` looks on, and says where vmcores go
        without a directory. StoreError if the directory cannot be used.
        """
        self.recovery = Recovery()
        selection = selection or Selection()
        self._finder = DatagramFinder(selection.port, careful)
        self._careful = careful
        self._prefer = prefer
        self._filing = None
        if directory is not None:
            host_of = host_name if names else str
            self._filing = Filing(directory, host_of, prefer, savecore=savecore, into=into)
        self._watcher = watcher
        self._observer = Observer(self._storage_for, selection, prefer, watcher)
        self._captures = 0
        self._source: Source | None = None
        self._opening = False
        self._stopping = False

    def __enter__(self) -> Recoverer:
        return self

    def __exit__(self, *_: object) -> None:
        if self._filing is not None:
            self._filing.close()

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
        if self._filing is not None:
            self._filing.finish()
        for dump in self._observer.dumps:
            self._file(dump)
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
        if self._filing is not None:
            self._filing.turn()

    def _storage_for(self, dump: ObservedDump) -> Storage:
        if self._filing is None:
            return Nowhere() if self._watcher is None else self._watcher.storage_for(dump)
        try:
            return self._filing.storage_for(dump)
        except HostFullError as error:
            self.recovery.problems.append(str(error))
            return Nowhere()

    def _file(self, dump: ObservedDump) -> None:
        filed = Filed(dump.account, Published())
        try:
            if self._filing is not None:
                filed = self._filing.file(dump)
        except RefusedError as error:
            self.recovery.problems.append(str(error))
            self.recovery.refused += 1
            return
        if filed.note:
            self.recovery.notes.append(filed.note)
        self.recovery.dumps.append(
            recovered_dump(dump, self._prefer, filed.account, filed.files, filed.filled)
        )

    def _note(self, count: int, noun: str, what: str) -> None:
        if count:
            self.recovery.notes.append(f"{counted(count, noun)} {what}")


def recover(captures: Sequence[str], directory: str | os.PathLike[str]) -> Recovery:
    """Rebuild the dumps in some captures, read as one, into ``directory``.

    CaptureError if one is no capture, StoreError if the directory cannot be written to.
    """
    with Recoverer(Path(directory)) as recoverer:
        for capture in captures:
            recoverer.read(capture)
        return recoverer.finish()
