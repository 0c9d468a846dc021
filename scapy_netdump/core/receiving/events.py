# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens in a dump server: facts for its log, for programs and for the handler.

Text in events comes from the network as it is:
whoever shows it escapes it (text.printable; JSON does by itself).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from ...kerneldump.header import DumpHeader
from ..extents import Range

#: Why a dump ended; the handler's first argument. ``success``: its verdict is that it is complete.
#: ``incomplete``: FINISHED, but bytes are missing. ``contradicted``: what came of it cannot all be
#: true, however it ended. ``limit``: the server did not take all that came, because of a limit.
SUCCESS = "success"
INCOMPLETE = "incomplete"
CONTRADICTED = "contradicted"
TIMEOUT = "timeout"
ERROR = "error"
INTERRUPTED = "interrupted"
LIMIT = "limit"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at ``now``, in seconds by the server's monotonic clock."""

    kind: ClassVar[str]
    now: float

    def as_dict(self) -> dict[str, Any]:
        """The event as JSON takes it: its kind as ``event``, and its fields but ``now``."""
        values: dict[str, Any] = {"event": self.kind}
        for item in fields(self):
            value = getattr(self, item.name)
            values[item.name] = value.as_dict() if isinstance(value, DumpHeader) else value
        del values["now"]
        return values


@dataclass(frozen=True, slots=True)
class Listening(Event):
    """A socket waits for HERALDs. ``receive_buffer``: bytes that the system granted for a
    dump's socket; ``coalescing``: whether it joins datagrams (UDP_GRO)."""

    kind: ClassVar[str] = "listening"
    address: str
    port: int
    receive_buffer: int
    coalescing: bool


@dataclass(frozen=True, slots=True)
class Refused(Event):
    """A HERALD was not answered, or ``count`` of them since the last such event."""

    kind: ClassVar[str] = "refused"
    client: str
    reason: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Heralded(Event):
    """A HERALD was answered, or ``count`` of them since the last such event. ``path``: what the
    client asks for. ``server``: the address it called. Nothing is kept for it before data comes."""

    kind: ClassVar[str] = "heralded"
    client: str
    client_port: int
    server: str
    path: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class DumpEvent(Event):
    """Something about one dump: its number in this server's life, and its client."""

    dump: int
    client: str
    client_port: int


@dataclass(frozen=True, slots=True)
class Started(DumpEvent):
    """The first data of a dump is here. ``name``: of its info file. ``path``: what the client
    asked for. ``note``: why it did not get that, or nothing. ``server``: the address it called."""

    kind: ClassVar[str] = "started"
    server: str
    name: str
    path: str
    note: str


@dataclass(frozen=True, slots=True)
class HeaderReceived(DumpEvent):
    """The dump header is here. ``problem``: what is wrong with it, or nothing."""

    kind: ClassVar[str] = "kdh"
    kdh: DumpHeader | None
    problem: str


@dataclass(frozen=True, slots=True)
class Progress(DumpEvent):
    """How far a dump is. ``bytes_expected`` is None as long as no header tells it;
    ``bytes_missing`` are those that did not come although some behind them did."""

    kind: ClassVar[str] = "progress"
    bytes_received: int
    bytes_expected: int | None
    bytes_missing: int
    seconds: float


@dataclass(frozen=True, slots=True)
class OffLimits(DumpEvent):
    """Data was not stored and not acked, because of a limit. Told once a dump."""

    kind: ClassVar[str] = "off_limits"
    offset: int
    length: int
    reason: str


@dataclass(frozen=True, slots=True)
class WriteFailed(DumpEvent):
    """Bytes could not be written at ``offset`` of the file; they were not acked."""

    kind: ClassVar[str] = "write_error"
    file: str
    offset: int
    error: str


@dataclass(frozen=True, slots=True)
class Ended(DumpEvent):
    """A dump is over and its files have their final names.

    ``reason``: one of the words above. ``verdict``: complete, incomplete, contradicted or
    unknown; ``status``: the last line of its info file, which says why. ``files``: the paths of
    its files by kind, None for those it lacks.
    ``missing``: ``[start, end)`` ranges of the vmcore. ``repeated`` counts messages that
    brought nothing new, ``ignored`` datagrams that no server would answer,
    ``conflicting_bytes`` those that came again with other values, which are kept beside it.
    """

    kind: ClassVar[str] = "ended"
    reason: str
    verdict: str
    status: str
    complete: bool
    files: dict[str, str | None]
    bytes_received: int
    bytes_expected: int
    missing: list[Range]
    messages: int
    repeated: int
    ignored: int
    conflicting_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Stopped(Event):
    """The server received a request to stop, and has ended all dumps."""

    kind: ClassVar[str] = "stopped"
