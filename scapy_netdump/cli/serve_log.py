# SPDX-License-Identifier: GPL-2.0-or-later
"""The log of a dump server, written by a thread of its own: a reader that stops reading, or a
terminal that was halted, must not delay a client."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeAlias

from ..core.receiving.events import DumpEvent, Event
from ..text import printable
from .serve_words import StatusLines, line_of

#: Lines that may wait to be written; more are dropped, and counted.
_WAITING = 10_000

#: Seconds that the end of the server waits for whoever reads the log.
_LAST_WAIT = 5.0

_Item: TypeAlias = "tuple[float, str | None, dict[str, Any], Event | None]"


class ServeLog:
    """Lines with the time on standard error, and with ``as_json`` an object a line on standard
    output instead. On a terminal there is a line for each dump that is running, too."""

    def __init__(self, as_json: bool) -> None:
        self._items: SimpleQueue[_Item | None] = SimpleQueue()
        self._dropped = self._told = 0
        self._write: Callable[[_Item], None] = _JsonLines() if as_json else _PeoplesLines()
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)

    def start(self) -> None:
        """Begin to write what was added, and what will be."""
        self._thread.start()

    def event(self, event: Event) -> None:
        """Add an event of the server."""
        self._add(None, event.as_dict(), event)

    def note(self, text: str, event: str = "note", **values: object) -> None:
        """Add a line of text; as JSON it is an ``event`` with these values beside the text."""
        self._add(printable(text), {"event": event, "text": text, **values}, None)

    def close(self) -> None:
        """Write what is left, if there is anybody who reads it."""
        if not self._thread.is_alive():
            self.start()
        self._items.put(None)
        self._thread.join(_LAST_WAIT)

    def _add(self, text: str | None, values: dict[str, Any], event: Event | None) -> None:
        if self._items.qsize() < _WAITING:
            self._items.put((time.time(), text, values, event))
        else:
            self._dropped += 1

    def _work(self) -> None:
        while (item := self._items.get()) is not None:
            self._try(item)
            if self._items.qsize() < _WAITING // 2:
                self._tell_dropped()
        self._tell_dropped()

    def _try(self, item: _Item) -> None:
        try:
            self._write(item)
        except (OSError, ValueError):  # who read the log is gone; the server goes on
            self._write = _nowhere

    def _tell_dropped(self) -> None:
        """Say how many lines are not here, once there is room again."""
        lost, self._told = self._dropped - self._told, self._dropped
        if lost:
            text = f"{lost} lines of the log were lost: nobody took them in time"
            self._try((time.time(), text, {"event": "lost", "text": text, "lines": lost}, None))


def _nowhere(_: _Item) -> None:
    pass


class _JsonLines:
    def __call__(self, item: _Item) -> None:
        when, _, values, _ = item
        print(json.dumps({"time": round(when, 3), **values}), flush=True)


class _PeoplesLines:
    """Lines on standard error; below them, on a terminal, those of running dumps."""

    def __init__(self) -> None:
        self._status = StatusLines(sys.stderr) if sys.stderr.isatty() else None

    def __call__(self, item: _Item) -> None:
        when, text, _, event = item
        if event is not None:
            text = line_of(event)
        if self._status is not None:
            self._status.clear()
            if isinstance(event, DumpEvent):
                self._status.take(event)
        if text is not None:
            clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
            print(f"{clock} {text}", file=sys.stderr)
        if self._status is not None:
            self._status.show()
        sys.stderr.flush()
