# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens in a dump server, in words for people: a line an event, and on a terminal a line
for each dump that is running."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TextIO

from ..core.receiving.events import (
    DumpEvent,
    Ended,
    Event,
    HeaderReceived,
    Heralded,
    Listening,
    OffLimits,
    Progress,
    Refused,
    Started,
    Stopped,
    WriteFailed,
)
from ..text import counted, printable

_MOST = 10  # lines of running dumps
_SMOOTHING = 0.3  # the weight of the last interval in the rate that is shown


def line_of(event: Event) -> str | None:
    """An event in a line, made harmless; None for one that is not worth a line."""
    tell = _TELLERS.get(type(event))
    if tell is None:
        return None
    who = f"{event.client} dump {event.dump}: " if isinstance(event, DumpEvent) else ""
    return printable(who + tell(event))


def status_line(event: Progress, rate: float) -> str:
    """How far a dump is, for a terminal; ``rate`` is in bytes a second."""
    done = f"{event.bytes_received >> 20} MiB"
    if event.bytes_expected:
        percent = 100 * event.bytes_received // event.bytes_expected
        done += f" of {event.bytes_expected >> 20}, {percent} %"
    parts = [done, f"{rate / 1e6:.1f} MB/s", _time(event.seconds)]
    if event.bytes_missing:
        parts.append(f"{event.bytes_missing} bytes missing so far")
    return printable(f"{event.client} dump {event.dump}: " + ", ".join(parts))


def _listening(event: Listening) -> str:
    coalescing = ", joined datagrams" if event.coalescing else ""
    buffer = f"receive buffer {event.receive_buffer >> 10} KiB"
    return f"listening on {event.address} port {event.port} ({buffer}{coalescing})"


def _refused(event: Refused) -> str:
    return f"{event.client}: {counted(event.count, 'HERALD')} refused: {event.reason}"


def _heralded(event: Heralded) -> str:
    path = f', path "{event.path}"' if event.path else ""
    others = f", and {counted(event.count - 1, 'HERALD')} of others" if event.count > 1 else ""
    return f"{event.client}: HERALD answered{path}{others}"


def _started(event: Started) -> str:
    path = f', path "{event.path}"' if event.path else ""
    note = f" ({event.note})" if event.note else ""
    return f"begins, {event.name}{path}{note}"


def _header(event: HeaderReceived) -> str:
    if event.kdh is None:
        return f"dump header: {event.problem}"
    problem = f" ({event.problem})" if event.problem else ""
    return (
        f'{event.kdh.hostname}, {event.kdh.architecture}, panic "{event.kdh.panicstring}", '
        f"{event.kdh.dumplength} bytes{problem}"
    )


def _off_limits(event: OffLimits) -> str:
    return f"{event.length} bytes at {event.offset} not taken: {event.reason}"


def _write_failed(event: WriteFailed) -> str:
    return f"{event.file}: cannot write at {event.offset}: {event.error}"


def _ended(event: Ended) -> str:
    rate = event.bytes_received / event.seconds / 1e6 if event.seconds else 0.0
    parts = [
        f"{event.reason}: {event.status}",
        f"{event.bytes_received} bytes in {_time(event.seconds)} ({rate:.1f} MB/s)",
        f"{counted(event.repeated, 'message')} repeated",
    ]
    if event.conflicting_bytes:
        parts.append(f"{counted(event.conflicting_bytes, 'byte')} came again with other values")
    parts += [path for name in ("vmcore", "info") if (path := event.files.get(name))]
    return "; ".join(parts)


def _stopped(event: Stopped) -> str:
    return "stopped"


def _time(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s"


_TELLERS: dict[type[Event], Callable[[Any], str]] = {
    Listening: _listening,
    Refused: _refused,
    Heralded: _heralded,
    Started: _started,
    HeaderReceived: _header,
    OffLimits: _off_limits,
    WriteFailed: _write_failed,
    Ended: _ended,
    Stopped: _stopped,
}


class StatusLines:
    """Lines at the bottom of a terminal, one for each dump that is running."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._dumps: dict[int, tuple[Progress, float]] = {}
        self._shown = 0

    def take(self, event: DumpEvent) -> None:
        """Note how far a dump is, or that it is over."""
        if isinstance(event, Progress):
            self._dumps[event.dump] = event, self._rate(event)
        elif isinstance(event, Ended):
            self._dumps.pop(event.dump, None)

    def _rate(self, event: Progress) -> float:
        """Bytes a second, of late."""
        before, rate = self._dumps.get(event.dump, (None, None))
        if before is None or event.now <= before.now:
            return event.bytes_received / event.seconds if event.seconds else 0.0
        last = (event.bytes_received - before.bytes_received) / (event.now - before.now)
        return last if rate is None else rate + _SMOOTHING * (last - rate)

    def clear(self) -> None:
        """Take the lines away, so that something can be printed in their place."""
        if self._shown:
            self._terminal.write(f"\x1b[{self._shown}A\x1b[J")
            self._shown = 0

    def show(self) -> None:
        """Print the lines below everything else, none of them longer than the terminal."""
        width = _width(self._terminal)
        lines = [status_line(event, rate) for event, rate in self._dumps.values()]
        if len(lines) > _MOST:
            lines[_MOST - 1 :] = [f"and {len(lines) - _MOST + 1} more"]
        for line in lines:
            self._terminal.write(line[: width - 1] + "\n")
        self._shown = len(lines)


def _width(terminal: TextIO) -> int:
    try:
        return os.get_terminal_size(terminal.fileno()).columns or 80
    except OSError:
        return 80
