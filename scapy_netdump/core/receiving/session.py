# SPDX-License-Identifier: GPL-2.0-or-later
"""One dump as a server receives it: datagrams in, bytes to the sink, acks out.

Imports only its neighbours and the codec. Nothing is acked before the sink has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from functools import lru_cache

from ... import formats
from ...errors import StoreError
from ...kerneldump.header import HEADER_SIZE as KDH_SIZE
from ...kerneldump.info import RECEIVING
from ...wire import ACK_SIZE, HEADER_SIZE, Buffer, Run, ack, alone, runs
from ..account import Account
from .closing import Closing
from .events import ERROR, INCOMPLETE, Event, HeaderReceived, OffLimits, Progress, WriteFailed
from .incoming_file import IncomingFile, WriteError
from .limits import Limits
from .sinks import Sink

#: pwritev(2) takes so many pieces on all systems (IOV_MAX).
_MOST_PIECES = 1024


class Phase(Enum):
    """What a session is at: it goes from one to a later one, and never back."""

    WAITING = "nothing but HERALDs came"
    RUNNING = "data came"
    LINGERING = "FINISHED came, and what is repeated is acked again"
    OVER = "nothing is acked any more"


class Session:
    """One dump of one client, from its HERALD until it no longer lingers.

    ``number`` is its own, ``client`` and ``client_port`` sent the HERALD to ``server``
    (addresses as text). ``transfer`` says what is here; ``last`` is when the client was
    last heard of.
    """

    def __init__(
        self,
        number: int,
        client: tuple[str, int],
        server: str,
        sink: Sink,
        limits: Limits,
        now: float,
    ) -> None:
        self.number = number
        self.client, self.client_port = client
        self.server = server
        self.sink = sink
        self.account = Account()
        self.phase = Phase.WAITING
        self.first = self.last = now
        self.messages = self.repeated = self.ignored = 0
        self.closing: Closing | None = None
        #: Called with what happens.
        self.tell: Callable[[Event], object] = _ignore
        #: Called when the first data is here, when the dump is finished and when it is over.
        self.changed: Callable[[Session, float], object] = _ignore
        self._limits = limits
        self._told_limit = False
        account = self.account
        self._vmcore = IncomingFile(formats.VMCORE, sink, account.vmcore)
        self._files = {
            formats.VMCORE: self._vmcore,
            formats.KDH: IncomingFile(formats.KDH, sink, account.kdh.extents, account.kdh),
            formats.EKCD_KEY: IncomingFile(
                formats.EKCD_KEY, sink, account.key.extents, account.key
            ),
        }
        self._pieces: list[Buffer] = []
        self._pieces_start = self._pieces_end = -1
        self._pieces_acks: list[bytes] = []

    @property
    def identity(self) -> tuple[int, str, int]:
        """What each event of this dump says first, behind its time."""
        return self.number, self.client, self.client_port

    @property
    def deadline(self) -> float:
        """When it ends unless something comes."""
        limits = self._limits
        if self.phase is Phase.WAITING:
            return self.last + limits.herald_expiry
        return self.last + (limits.linger if self.phase is Phase.LINGERING else limits.expiry)

    @property
    def conflicting_bytes(self) -> int:
        """Bytes that came again with other values, and were not taken."""
        return sum(file.conflicting_bytes for file in self._files.values())

    @property
    def problem(self) -> str:
        """What is wrong with the dump header, in a few words; empty if nothing is."""
        size = self.account.kdh.extents.end
        header = self.account.header
        if header is None:
            return f"dump header of {size} bytes instead of {KDH_SIZE}" if size else ""
        if not header.magic_ok:
            return "dump header with a wrong magic"
        return "" if header.parity_ok else "dump header with a wrong parity"

    def herald(self, now: float) -> None:
        """Take another copy of the HERALD."""
        self.last = now
        self.messages += 1
        self.repeated += 1

    def progress(self, now: float) -> Progress:
        """How far it is."""
        account = self.account
        expected = None if account.trusted_header is None else account.bytes_expected
        here = account.vmcore
        missing = here.end - here.total
        return Progress(now, *self.identity, here.total, expected, missing, now - self.first)

    def receive(self, data: Buffer, now: float, sizes: Sequence[int] | None = None) -> bytes:
        """Take datagrams from the client; returns the acks to send, four bytes each, in order.

        ``data`` is one datagram, or several end to end that have these ``sizes``. The caller
        has checked that they came from the client's address.
        """
        view = memoryview(data)
        acks: list[bytes] = []
        try:
            if (sizes is None or len(sizes) == 1) and (answer := self._take_next(view, now)):
                return answer
            found, malformed = runs(view, (len(view),) if sizes is None else sizes)
            self.ignored += malformed
            for run in found:
                self._take(run, view, now, acks)
            self._flush(now, acks)
        except WriteError as error:
            self._pieces, self._pieces_acks, self._pieces_end = [], [], -1
            self._fail(error, now)
        if acks:
            self.last = now
        return b"".join(acks)

    def end(self, reason: str, cause: str, now: float) -> None:
        """Let it be over: nothing is acked any more. ``cause`` becomes part of the status."""
        self._close(reason, cause, now)
        self.phase = Phase.OVER
        self.changed(self, now)

    def _take_next(self, datagram: memoryview, now: float) -> bytes:
        """Take the message that continues the vmcore, if a datagram is that and nothing else.

        The short way through for clients that wait for each ack, and want it soon; there is
        nothing that it does in another way than `_take`. No ack: `_take` has to see it.
        """
        message = alone(datagram)
        if message is None or message.type != formats.VMCORE or self.phase is not Phase.RUNNING:
            return b""
        start, end = message.offset, message.offset + message.len
        if start != self._vmcore.extents.end or not start < end <= self._limits.dump_size:
            return b""
        self._vmcore.write((datagram[HEADER_SIZE:],), start, end)
        self.messages += 1
        self.last = now
        return ack(message.seqno)

    def _take(self, run: Run, view: memoryview, now: float, acks: list[bytes]) -> None:
        """Take messages of one type. New data is queued, to be written many at a time."""
        if run.type == formats.VMCORE and run.size and self.phase in _RECEIVING:
            here = self._vmcore.extents
            start, end = run.offset, run.offset + run.size * run.number
            if self._pieces and (
                start != self._pieces_end or len(self._pieces) + run.number > _MOST_PIECES
            ):
                self._flush(now, acks)
            in_order = start == max(here.end, self._pieces_end) and end <= self._limits.dump_size
            if in_order or not self._forbids(start, end, now):
                if in_order or not here.overlaps(start, end):
                    self._queue(run, view)
                else:
                    self._flush(now, acks)
                    self._merge(run, view)
                    acks.append(run.seqnos)
                return
        self._flush(now, acks)
        for place in range(run.number):
            start = run.start + place * (HEADER_SIZE + run.size)
            payload = view[start : start + run.size]
            if self._take_one(run.type, run.offset + place * run.size, payload, now):
                acks.append(run.seqnos[place * ACK_SIZE : (place + 1) * ACK_SIZE])
                self.messages += 1
            else:
                self.ignored += 1

    def _queue(self, run: Run, view: memoryview) -> None:
        if not self._pieces:
            self._pieces_start = run.offset
        self._pieces += [view[at] for at in _slices(run.start, run.size, run.number)]
        self._pieces_end = run.offset + run.number * run.size
        self._pieces_acks.append(run.seqnos)

    def _merge(self, run: Run, view: memoryview) -> None:
        """Take messages some bytes of which are here: sent again, as their acks got lost."""
        covers, size = self._vmcore.extents.covers, run.size
        offsets = range(run.offset, run.offset + size * run.number, size)
        self.repeated += sum(covers(offset, offset + size) for offset in offsets)
        data = b"".join([view[at] for at in _slices(run.start, size, run.number)])
        self._vmcore.merge(memoryview(data), run.offset)
        self.messages += run.number

    def _flush(self, now: float, acks: list[bytes]) -> None:
        """Write what is queued, and only then let it be acked."""
        if not self._pieces:
            return
        self._vmcore.write(self._pieces, self._pieces_start, self._pieces_end)
        acks += self._pieces_acks
        self.messages += len(self._pieces)
        self._pieces, self._pieces_acks, self._pieces_end = [], [], -1
        if self.phase is Phase.WAITING:
            self._stored(now)

    def _take_one(self, kind: int, offset: int, payload: memoryview, now: float) -> bool:
        """Take a message by itself; whether it is to be acked."""
        if kind == formats.HERALD or self.phase is Phase.OVER:
            return False  # HERALDs have a port of their own
        if kind == formats.FINISHED:
            self._finish(now)
            return True
        file = self._files[kind]
        end = offset + len(payload)
        if kind == formats.KDH:  # what is longer than a header is acked, and the rest ignored
            end = min(end, KDH_SIZE)
        if self.phase is Phase.LINGERING:
            self.repeated += 1
            return file.extents.covers(offset, end)
        if self._forbids(offset, end, now, kind):
            return False
        if file.merge(payload[: max(0, end - offset)], offset):
            self._stored(now)
            if kind == formats.KDH:
                self._header_changed(now)
        else:
            self.repeated += 1
        return True

    def _stored(self, now: float) -> None:
        if self.phase is Phase.WAITING:
            self.phase = Phase.RUNNING
            self.changed(self, now)

    def _header_changed(self, now: float) -> None:
        problem = self.problem
        status = f"{RECEIVING}; {problem}" if problem else RECEIVING
        try:
            self.sink.update(self.account, status)
        except StoreError as error:
            raise WriteError("info", 0, error) from None
        self.tell(HeaderReceived(now, *self.identity, self.account.header, problem))

    def _forbids(self, start: int, end: int, now: float, kind: int = formats.VMCORE) -> bool:
        """Whether a limit keeps ``[start, end)`` out of a file; says so the first time."""
        limits, extents = self._limits, self._vmcore.extents
        reason = ""
        if kind == formats.EKCD_KEY:
            if end > self.account.key.limit:
                reason = f"the key is longer than {self.account.key.limit} bytes"
        elif kind == formats.VMCORE:
            if end > limits.dump_size:
                reason = f"the dump is larger than {limits.dump_size} bytes"
            elif start - max(extents.end, self._pieces_end) > limits.jump:
                reason = f"an offset leaps by more than {limits.jump} bytes"
            elif len(extents) >= limits.ranges and not extents.overlaps(start - 1, end + 1):
                reason = f"what came is in more than {limits.ranges} ranges"
        if reason and not self._told_limit:
            self._told_limit = True
            self.tell(OffLimits(now, *self.identity, start, end - start, reason))
        return bool(reason)

    def _finish(self, now: float) -> None:
        if self.phase is Phase.LINGERING:
            self.repeated += 1
            return
        self.account.finished = True
        self._close(INCOMPLETE, "", now)
        self.phase = Phase.LINGERING
        self.changed(self, now)

    def _fail(self, error: WriteError, now: float) -> None:
        text = str(error)
        self.tell(WriteFailed(now, *self.identity, error.file, error.offset, text))
        self.end(ERROR, f"{error.file} at offset {error.offset}: {text}", now)

    def _close(self, reason: str, cause: str, now: float) -> None:
        """File it, unless that is done."""
        if self.closing is None:
            self.closing = Closing(
                identity=self.identity,
                sink=self.sink,
                account=self.account,
                reason=reason,
                cause=cause,
                problem=self.problem,
                seconds=now - self.first,
                messages=self.messages,
                repeated=self.repeated,
                ignored=self.ignored,
                conflicting_bytes=self.conflicting_bytes,
            )


_RECEIVING = (Phase.WAITING, Phase.RUNNING)


@lru_cache(maxsize=256)
def _slices(start: int, size: int, number: int) -> list[slice]:
    """Where the payloads of a run are in its buffer. The same runs come again and again."""
    step = HEADER_SIZE + size
    return [slice(at, at + size) for at in range(start, start + number * step, step)]


def _ignore(*_: object) -> None:
    """Nobody wants to know."""
