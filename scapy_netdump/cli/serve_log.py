# SPDX-License-Identifier: GPL-2.0-or-later
"""The log of a dump server, written by a thread of its own: a reader that stops reading, or a
terminal that was halted, must not delay a client."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeAlias

from ..core.receiving.events import DumpEvent, Event
from ..server.service.system_log import ERROR, INFO, WARNING, SystemLog, SystemLogError
from ..text import printable
from .serve_words import StatusLines, line_of

#: Lines that may wait to be written; more are dropped, and counted.
_WAITING = 10_000

#: Seconds that the end of the server waits for whoever reads the log.
_LAST_WAIT = 5.0

_Item: TypeAlias = "tuple[float, str | None, dict[str, Any], Event | None]"


#: What this program is called in the system's log.
_NAME = "netdump"

#: How the events that are not just told of are called there.
_PRIORITIES = {
    **dict.fromkeys(("error", "write_error"), ERROR),
    **dict.fromkeys(("refused", "off_limits", "lost", "capture"), WARNING),
}


def write_line(text: str, when: float) -> None:
    """Write a line with the time on standard error."""
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))
    print(f"{clock} {text}", file=sys.stderr)


def write_alone(text: str, failed: bool, syslog: bool) -> None:
    """Write a line from another process than the server's, when that is gone, to where people
    look. Nothing can be done if it cannot be written."""
    text = printable(text)
    with suppress(OSError, ValueError, SystemLogError):
        if syslog:
            SystemLog(_NAME).write(time.time(), WARNING if failed else INFO, text)
        else:
            write_line(text, time.time())
            sys.stderr.flush()


class ServeLog:
    """Lines with the time on standard error. With ``as_json`` an object a line on standard output
    instead, with ``syslog`` lines for the system's log. On a terminal there is a line for each
    dump that is running, too."""

    def __init__(self, as_json: bool = False, syslog: bool = False) -> None:
        """SystemLogError if there is no such log."""
        self._items: SimpleQueue[_Item | None] = SimpleQueue()
        self._dropped = self._told = 0
        self._write: Callable[[_Item], None] = (
            _JsonLines() if as_json else _SystemLines() if syslog else _PeoplesLines()
        )
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


class _SystemLines:
    """Lines for the system's log. One that it does not take is lost; the next may be taken."""

    def __init__(self) -> None:
        self._log = SystemLog(_NAME)

    def __call__(self, item: _Item) -> None:
        when, text, values, event = item
        if event is not None:
            text = line_of(event)
        if text is not None:
            with suppress(OSError):
                self._log.write(when, _priority(values), text)


def _priority(values: dict[str, Any]) -> int:
    failed = values.get("complete") is False or values.get("problem")
    return _PRIORITIES.get(values["event"], WARNING if failed else INFO)


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
            write_line(text, when)
        if self._status is not None:
            self._status.show()
        sys.stderr.flush()
