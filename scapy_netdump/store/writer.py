# SPDX-License-Identifier: GPL-2.0-or-later
"""Jobs on files, done in a thread of their own while the next part of a capture is read."""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from queue import SimpleQueue

from ..errors import StoreError
from .directory import Directory

Job = Callable[[], None]

#: Files open at once; a capture can hold any number of dumps.
_MAX_OPEN = 64

#: Seconds after which a thread that computes lets the writer go on, between two system
#: calls: at Python's usual 5 ms the disk would wait longer than it works.
_SWITCH_INTERVAL = 1e-5


class Writer:
    """Does jobs one after the other. Files are open only as long as they are in use.

    After a job that fails no other is done; what went wrong is raised, as StoreError, by
    the next ``turn`` or ``drain``.
    """

    def __init__(self) -> None:
        self._turns: SimpleQueue[tuple[list[Job], threading.Event] | None] = SimpleQueue()
        self._added: list[Job] = []
        self._error: Exception | None = None
        self._last_turn = threading.Event()
        self._last_turn.set()
        self._descriptors: OrderedDict[tuple[Directory, str], int] = OrderedDict()
        self._thread: threading.Thread | None = None
        self._switch_interval = 0.0

    def add(self, job: Job) -> None:
        """Have ``job`` done after those before it, from the next ``turn`` or ``drain`` on."""
        self._added.append(job)

    def turn(self) -> None:
        """Begin with what was added since the last turn; wait for what was added before it."""
        done = self._submit()
        self._last_turn.wait()
        self._last_turn = done
        self._raise_error()

    def drain(self) -> None:
        """Wait until all that was added is done."""
        if self._added or not self._last_turn.is_set():
            self._last_turn = self._submit()
            self._last_turn.wait()
        self._raise_error()

    def close(self) -> None:
        """Do what was added, and close all files."""
        self._submit().wait()
        if self._thread is not None:
            self._turns.put(None)
            self._thread.join()
            self._thread = None
            sys.setswitchinterval(self._switch_interval)
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def descriptor(self, directory: Directory, name: str) -> int:
        """A descriptor of an existing file, for a job, or between ``drain`` and the next."""
        descriptor = self._descriptors.pop((directory, name), None)
        if descriptor is None:
            if len(self._descriptors) >= _MAX_OPEN:
                os.close(self._descriptors.popitem(last=False)[1])
            descriptor = directory.open_file(name, os.O_RDWR)
        self._descriptors[directory, name] = descriptor
        return descriptor

    def forget(self, directory: Directory, name: str) -> None:
        """Close a file that is to go, or to be called otherwise; between ``drain`` and the next."""
        descriptor = self._descriptors.pop((directory, name), None)
        if descriptor is not None:
            os.close(descriptor)

    def _submit(self) -> threading.Event:
        done = threading.Event()
        jobs, self._added = self._added, []
        if jobs and self._thread is None:
            self._thread = threading.Thread(target=self._work, name="writer", daemon=True)
            self._switch_interval = sys.getswitchinterval()
            sys.setswitchinterval(_SWITCH_INTERVAL)
            self._thread.start()
        if self._thread is None:
            done.set()
        else:
            self._turns.put((jobs, done))
        return done

    def _work(self) -> None:
        while (turn := self._turns.get()) is not None:
            jobs, done = turn
            try:
                for job in jobs if self._error is None else ():
                    job()
            except Exception as error:  # or who waits for this thread would do so for ever
                self._error = error
            finally:
                done.set()

    def _raise_error(self) -> None:
        if self._error is not None:
            path = getattr(self._error, "filename", None) or "a file of the dump"
            reason = getattr(self._error, "strerror", None) or repr(self._error)
            raise StoreError(f"{path}: cannot write: {reason}") from self._error
