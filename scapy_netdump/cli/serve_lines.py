# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens in a dump server, in words for people: a line an event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.receiving.events import (
    Discarded,
    DumpEvent,
    Ended,
    Event,
    HeaderReceived,
    Listening,
    OffLimits,
    Progress,
    Refused,
    Started,
    Stopped,
    WriteFailed,
)
from ..text import counted, printable


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


def _discarded(event: Discarded) -> str:
    return f"nothing followed its HERALD; {event.name} is removed"


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
    Started: _started,
    HeaderReceived: _header,
    OffLimits: _off_limits,
    WriteFailed: _write_failed,
    Discarded: _discarded,
    Ended: _ended,
    Stopped: _stopped,
}
