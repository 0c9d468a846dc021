# SPDX-License-Identifier: GPL-2.0-or-later
"""The dumps that are in captures: files, pipes or a network interface, read as one.

Where the bytes of a dump go is the business of whoever wants them: a directory, memory, nowhere.
"""

from __future__ import annotations

from collections.abc import Callable

from ..capture.datagrams import DatagramFinder
from ..capture.live import LiveCapture, live_batches
from ..capture.reader import CaptureReader
from ..capture.source import Source, open_source
from ..core.observing.attribution import MAX_DUMPS
from ..core.observing.batch import Batch, Storage
from ..core.observing.disputes import Prefer
from ..core.observing.observed_dump import ObservedDump
from ..core.observing.observer import Observer
from ..core.observing.selection import Selection
from ..core.observing.watcher import Watcher
from ..errors import UsageError
from ..store.hosts import address_bytes
from ..text import counted

#: Bytes that may be left in a pipe, and in the buffers of whoever writes into it.
_LEFT_IN_PIPE = 1 << 21

_MAX_PORT = 0xFFFF

#: Told how many bytes of a capture have been read, and of how many (None: not known).
Progress = Callable[[str, int, int | None], None]


def selection(
    client: str | None = None, server: str | None = None, port: int | None = None
) -> Selection:
    """The dumps that are wanted: of a client, to a server, addresses both, and with a port.
    UsageError for what is no address and no port."""
    if port is not None and not 0 < port <= _MAX_PORT:
        raise UsageError(f"there is no port {port}")
    try:
        return Selection(
            client=None if client is None else address_bytes(client),
            server=None if server is None else address_bytes(server),
            port=port,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


class Captures:
    """Reads captures, one after the other, and finds the dumps in them.

    ``frames`` counts what was read; ``problems`` says, a line each, what could not be read,
    ``notes`` what else is worth knowing.
    """

    def __init__(
        self,
        storage_for: Callable[[ObservedDump], Storage],
        selection: Selection | None = None,
        *,
        careful: bool = False,
        prefer: Prefer = Prefer.ACKED,
        watcher: Watcher | None = None,
        turn: Callable[[], None] = lambda: None,
    ) -> None:
        """``storage_for`` is asked once a dump where its vmcore goes, and ``turn`` is called when
        a batch was read. ``prefer`` tells which of different payloads is kept. ``careful``
        decodes frame by frame, to compare with. ``watcher`` looks on."""
        self.frames = 0
        self.problems: list[str] = []
        self.notes: list[str] = []
        selection = selection or Selection()
        self._finder = DatagramFinder(selection.port, careful)
        self._careful = careful
        self._observer = Observer(storage_for, selection, prefer, watcher)
        self._turn = turn
        self._count = 0
        self._source: Source | None = None
        self._opening = False
        self._stopping = False

    def read(self, path: str, progress: Progress | None = None) -> None:
        """Read a capture file, ``-`` for standard input.

        CaptureError if it is none, StoreError if a dump cannot be written.
        """
        source = self._open(path)
        if source is None:
            self.problems.append(f"{path}: interrupted before it was read")
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
                        self.problems.append(f"{source.name}: interrupted")
                        break
            self.frames += reader.frames
            self.problems += reader.problems

    def watch(self, capture: LiveCapture) -> None:
        """Read from a network interface until ``capture`` is stopped."""
        self._begin_capture()
        for batch in live_batches(capture, self._finder):
            self._observe(batch)
        if capture.problem:
            self.problems.append(capture.problem)
        if capture.dropped:
            self.problems.append(f"{capture.dropped} frames were lost by the system")

    def stop(self) -> None:
        """Read no more; a signal handler may call this. Of a pipe, what its writer leaves in
        it is read first, as an interrupt usually ends the writer too."""
        self._stopping = True
        if self._opening:
            raise KeyboardInterrupt
        if self._source is not None:
            self._source.stop()

    def finish(self) -> list[ObservedDump]:
        """No more is to be read: the dumps that the captures show."""
        self._observer.finish()
        self._note(self._observer.snapped, "message", "cut short by a snap length")
        self._note(self._observer.malformed, "message", "that no server would answer, ignored")
        self._note(self._observer.refused, "message", f"of dumps beyond {MAX_DUMPS}, ignored")
        return self._observer.dumps

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
        if self._count:
            self._observer.new_capture()
        self._count += 1

    def _observe(self, batch: Batch) -> None:
        self._observer.observe(batch)
        self._turn()

    def _note(self, count: int, noun: str, what: str) -> None:
        if count:
            self.notes.append(f"{counted(count, noun)} {what}")
