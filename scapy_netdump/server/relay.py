# SPDX-License-Identifier: GPL-2.0-or-later
"""A loop that goes on in another thread while the disk holds up the one that runs it.

All that the loop does is done under one lock, which is given up only where it waits: for sockets
(`resting`), and for the disk (`outside`). A second thread looks whether the first one has been
outside for long. If so it runs the loop from there on, a third one looks at it, and the first one
ends when it has done what it was at. As long as the disk is fast, none of this costs more than a
lock that nobody else wants.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import TypeVar

from ..errors import NetdumpError

Result = TypeVar("Result")

#: Seconds outside after which another thread runs the loop: longer than a disk cache takes, and
#: much less than a client waits for an ack.
_PATIENCE = 0.02

#: Seconds between two looks of the first thread, in which Python handles all signals, when another
#: one runs the loop.
_LOOK_UP = 0.5


class Relay:
    """Calls ``turn`` again and again, in one thread at a time, until `finish`.

    A thread that was outside may still be at the end of its turn when another one runs the loop:
    what is in use outside, such as a buffer, has to be the thread's own.
    """

    def __init__(self, turn: Callable[[], object]) -> None:
        self._turn = turn
        self._lock = threading.Lock()
        self._holder = 0  # the thread that has the lock, if it is one of these
        self._leader = 0  # the thread that runs the loop
        self._outside = False  # whether that one is outside
        self._turns = 0  # how often it had done all that there was to do
        self._over = False
        self._ended = threading.Event()
        self._watching = threading.Event()
        self._threads: list[threading.Thread] = []
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Run the loop until `finish`; what a turn raises comes out, in whatever thread it was.
        Some thread may still be outside then: see `join`."""
        try:
            self._start_watcher()
        except RuntimeError as error:
            raise NetdumpError(f"no thread for the server's loop: {error}") from None
        with self._inside():
            self._lead()
        while not self._ended.wait(_LOOK_UP):  # for signals that another thread was given
            continue
        if self._failure is not None:
            raise self._failure

    def finish(self) -> None:
        """Have no turn follow the one that runs. Any thread and a signal handler may call this."""
        self._over = True

    def join(self) -> None:
        """Wait until every thread has done what it was at, after `run`."""
        for thread in self._threads:
            thread.join()

    def watch(self, needed: bool) -> None:
        """Whether anything may go outside from now on: else nobody has to look."""
        if needed:
            self._watching.set()
        elif not self._over:
            self._watching.clear()

    def outside(self, call: Callable[..., Result], *arguments: object) -> Result:
        """Call what may wait for the disk, without the lock; with it again after that. A thread
        that is none of these just calls."""
        if self._holder != get_ident():
            return call(*arguments)
        if self._leader == get_ident():
            self._outside = True
        try:
            return self._unlocked(call, *arguments)
        finally:
            if self._leader == get_ident():
                self._outside = False

    def resting(self, call: Callable[..., Result], *arguments: object) -> Result:
        """Call what waits for something to do, without the lock; with it again after that."""
        if self._holder != get_ident():
            return call(*arguments)
        self._turns += 1
        return self._unlocked(call, *arguments)

    def _unlocked(self, call: Callable[..., Result], *arguments: object) -> Result:
        self._holder = 0
        self._lock.release()
        try:
            return call(*arguments)
        finally:
            self._lock.acquire()
            self._holder = get_ident()

    @contextmanager
    def _inside(self) -> Iterator[None]:
        with self._lock:
            self._holder = get_ident()
            try:
                yield
            finally:
                self._holder = 0

    def _lead(self) -> None:
        """Run the loop, until another thread does."""
        me = get_ident()
        self._leader, self._outside = me, False
        try:
            while self._leader == me and not self._over:
                self._turn()
        except BaseException as error:
            self._failure = self._failure or error
            self._over = True
        if self._over:
            self._ended.set()
            self._watching.set()

    def _start_watcher(self) -> None:
        """RuntimeError if the system has no thread for it."""
        thread = threading.Thread(target=self._look, name="netdump-relay", daemon=True)
        thread.start()
        self._threads = [*filter(threading.Thread.is_alive, self._threads), thread]

    def _look(self) -> None:
        """Look at the thread that runs the loop until there is need to do it in its place: it is
        outside, and has not done what it was at in a while, be it at one call or at many."""
        while not self._over:
            self._watching.wait()
            before = self._turns
            time.sleep(_PATIENCE)
            if self._outside and self._turns == before:
                with self._inside():
                    if self._turns != before or self._over:
                        continue
                    try:
                        self._start_watcher()
                    except RuntimeError:  # nobody would look then: this one goes on to do so
                        continue
                    self._lead()
                    return
