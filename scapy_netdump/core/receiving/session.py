# SPDX-License-Identifier: GPL-2.0-or-later
"""One dump as a server receives it: datagrams in, bytes to the sink, acks out.

Nothing is acked before the sink has it. Bytes that are here stay; other bytes for the same place
are kept beside them. Only after a repeated HERALD do they mean that the client began again, and
that another session is to go on with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from functools import lru_cache

from ... import formats
from ...errors import StoreError
from ...kerneldump.header import HEADER_SIZE as KDH_SIZE
from ...wire import ACK_SIZE, HEADER_SIZE, Buffer, Run, ack, alone, runs
from ..account import Account
from ..extents import pieces
from ..verdict import Verdict
from .closing import Closing
from .events import (
    ERROR,
    INCOMPLETE,
    LIMIT,
    TIMEOUT,
    Event,
    HeaderReceived,
    OffLimits,
    Progress,
    WriteFailed,
)
from .incoming import IncomingFile, WriteError
from .limits import Limits
from .order import Order
from .restart import DOUBT, Restart
from .sinks import Sink

#: pwritev(2) takes so many pieces on all systems (IOV_MAX).
_MOST_PIECES = 1024


class Phase(Enum):
    """What a session is at: it goes from one to a later one, and never back."""

    WAITING = "nothing but HERALDs came"
    RUNNING = "data came"
    LINGERING = "FINISHED came, and what is repeated is acked again"
    OVER = "nothing is acked any more"


class BeganAgainError(Exception):
    """A client whose HERALD was repeated sends other bytes than before: it sends another dump."""


class Session:
    """One dump of one client, from its first data until it no longer lingers.

    ``number`` is its own, ``client`` and ``client_port`` sent the HERALD to ``server``
    (addresses as text) with the number ``heralded``, and data to the data port of ``slot``.
    ``account`` says what is here; ``last`` is when the client was last heard of, ``moved`` when
    the dump had gained another STRIDE bytes. ``busy``: messages of it are being taken, perhaps
    in another thread that waits for the disk; nothing else is to touch it then.
    """

    #: See ``moved``.
    STRIDE = 1 << 16

    #: So many seconds apart the sink is told what is here, while anything comes.
    NOTED_EVERY = 1.0

    def __init__(
        self,
        number: int,
        client: tuple[str, int],
        server: str,
        sink: Sink,
        limits: Limits,
        now: float,
        heralded: int = 0,
        slot: int = 0,
    ) -> None:
        self.number = number
        self.heralded = heralded
        self.slot = slot
        self.client, self.client_port = client
        self.server = server
        self.sink = sink
        self.account = Account()
        self.phase = Phase.WAITING
        self.first = self.last = self.moved = now
        self.busy = False
        self.messages = self.repeated = self.ignored = 0
        self.closing: Closing | None = None
        #: Called with what happens.
        self.tell: Callable[[Event], object] = _ignore
        #: Why the dump is not where the client asked for.
        self.note = ""
        #: Called when it is at another phase, with the one before.
        self.changed: Callable[[Session, Phase, float], object] = _ignore
        #: Called when the client began again: gives the session of the dump that it sends now,
        #: or None if there can be none.
        self.succeed: Callable[[Session, float], Session | None] = _nobody
        #: The session of the dump that the client sends now, if it began again.
        self.successor: Session | None = None
        self._restart: Restart | None = None
        self._order = Order(heralded)
        self._limits = limits
        self._over_limit = ""
        #: Why the last bytes that came could not be stored.
        self.trouble = ""
        self._told_trouble = -_TROUBLE_EVERY
        self._ending: tuple[str, str] | None = None
        self._next_stride = 1
        self._noted = now
        account = self.account
        header, key = account.headers.versions[0], account.key
        self._vmcore = IncomingFile(formats.VMCORE, sink, account.vmcore, account.conflicts)
        self._files = {
            formats.VMCORE: self._vmcore,
            formats.KDH: IncomingFile(
                formats.KDH, sink, header.extents, account.headers.conflicts, header
            ),
            formats.EKCD_KEY: IncomingFile(
                formats.EKCD_KEY, sink, key.extents, account.key_conflicts, key
            ),
        }
        self._room_for_others = limits.other
        self._others: set[int] = set()
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
        return self.last + (limits.linger if self.phase is Phase.LINGERING else limits.expiry)

    def heralded_again(self, now: float) -> None:
        """The client was heard to say HERALD again, and all that it sent here before was taken:
        whether it only repeats it, or began again, what comes will tell."""
        self._settle_restart()
        self._restart = Restart(self.account, now)

    def progress(self, now: float) -> Progress:
        """How far it is."""
        account = self.account
        expected = None if account.sound_header is None else account.bytes_expected
        here = account.vmcore
        missing = here.end - here.total
        return Progress(now, *self.identity, here.total, expected, missing, now - self.first)

    def receive(self, data: Buffer, now: float, sizes: Sequence[int] | None = None) -> bytes:
        """Take datagrams from the client; returns the acks to send, four bytes each, in order.

        ``data`` is one datagram, or several end to end that have these ``sizes``. The caller
        has checked that they came from the client's address.
        """
        if self.successor is not None:
            return self.successor.receive(data, now, sizes)
        if self.busy:  # it comes again
            return b""
        view = memoryview(data)
        self.busy = True
        try:
            if (sizes is None or len(sizes) == 1) and (answer := self._take_next(view, now)):
                return answer
            found, malformed = runs(view, (len(view),) if sizes is None else sizes)
            self.ignored += malformed
            acks = self._take_all(found, view, now)
            if acks:
                self.last = now
            return b"".join(acks)
        except WriteError as error:
            self._fail(error, now)
            return b""
        finally:
            self._rest(now)

    def inherit(self, other: Session, now: float) -> None:
        """Go on with what comes to the port of another session: take what both dumps have in
        common. StoreError if that cannot be stored."""
        self.busy = True
        try:
            self._inherit(other, now)
        finally:
            self._rest(now)

    def _inherit(self, other: Session, now: float) -> None:
        for part in other._restart.again if other._restart is not None else ():
            for start, end in pieces(*part):
                data = other.sink.read(formats.VMCORE, start, end)
                self.sink.write(formats.VMCORE, [data], start)
                self.account.vmcore.add(start, end)
        self.account.add_doubt(DOUBT)
        if other.closing is None:
            other.account.add_doubt(DOUBT)
        if self.account.vmcore.total:
            self._stored(now)

    def end(self, reason: str, cause: str, now: float) -> None:
        """Let it be over: nothing is acked any more. ``cause`` becomes part of the status. One
        that is busy ends when it no longer is."""
        if self.busy:
            self._ending = reason, cause
            return
        if self.phase is Phase.OVER:
            return
        self._close(reason, cause, now)
        self._go_on_to(Phase.OVER, now)

    def _go_on_to(self, phase: Phase, now: float) -> None:
        before, self.phase = self.phase, phase
        self.changed(self, before, now)

    def _rest(self, now: float) -> None:
        """Be no longer busy. One that has nothing does not end, as it never began."""
        self.busy = False
        if self._ending is not None and self.phase is not Phase.WAITING:
            self.end(*self._ending, now)

    def _take_next(self, datagram: memoryview, now: float) -> bytes:
        """Take the message that continues the vmcore, if a datagram is that and nothing else.

        The short way through for clients that wait for each ack, and want it soon; there is
        nothing that it does in another way than `_take`. No ack: `_take` has to see it.
        """
        message = alone(datagram)
        if message is None or message.type != formats.VMCORE or self.phase is not Phase.RUNNING:
            return b""
        if self._restart is not None:
            return b""
        start, end = message.offset, message.offset + message.len
        if start != self._vmcore.extents.end or not start < end <= self._limits.dump_size:
            return b""
        self._vmcore.write((datagram[HEADER_SIZE:],), start, end)
        self.messages += 1
        self.last = now
        self._order.took(message.seqno)
        self.trouble = ""
        if end >= self._next_stride or now - self._noted >= self.NOTED_EVERY:
            self._gained(now)
        return ack(message.seqno)

    def _take_all(self, found: Sequence[Run], view: memoryview, now: float) -> list[bytes]:
        """Take the messages of some datagrams, here or in the session that follows this one."""
        acks: list[bytes] = []
        try:
            for place, run in enumerate(found):
                try:
                    self._take(run, view, now, acks)
                except BeganAgainError:
                    self.successor = self.succeed(self, now)
                    self._restart = None
                    if self.successor is not None:
                        return acks + self.successor._go_on(found[place:], view, now)
                    self._take(run, view, now, acks)
            self._flush(now, acks)
        except WriteError as error:
            self._pieces, self._pieces_acks, self._pieces_end = [], [], -1
            self._fail(error, now)
        return acks

    def _go_on(self, found: Sequence[Run], view: memoryview, now: float) -> list[bytes]:
        """Take the messages that come after those of the session before."""
        self.busy = True
        try:
            return self._take_all(found, view, now)
        finally:
            self._rest(now)

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
                    return
                self._flush(now, acks)
                if self._merge(run, view, now):
                    acks.append(run.seqnos)
                    return
        self._flush(now, acks)
        self._check_same_dump(run, view, now)
        if self.phase in _RECEIVING:
            last = int.from_bytes(run.seqnos[-ACK_SIZE:], "big")
            self._order.check(run.type, last, self.account, self._restart is not None)
        for place in range(run.number):
            start = run.start + place * (HEADER_SIZE + run.size)
            payload = view[start : start + run.size]
            seqno = run.seqnos[place * ACK_SIZE : (place + 1) * ACK_SIZE]
            if self._take_one(run.type, run.offset + place * run.size, payload, now):
                acks.append(seqno)
                self.messages += 1
                if run.type in (formats.VMCORE, formats.EKCD_KEY):
                    self._order.took(int.from_bytes(seqno, "big"))
            else:
                self.ignored += 1

    def _queue(self, run: Run, view: memoryview) -> None:
        if not self._pieces:
            self._pieces_start = run.offset
        self._pieces += [view[at] for at in _slices(run.start, run.size, run.number)]
        self._pieces_end = run.offset + run.number * run.size
        self._pieces_acks.append(run.seqnos)
        self._order.took(int.from_bytes(run.seqnos[-ACK_SIZE:], "big"))

    def _merge(self, run: Run, view: memoryview, now: float) -> bool:
        """Take messages some bytes of which are here: sent again, as their acks got lost. False,
        and nothing is taken, if any byte differs."""
        covers, size = self._vmcore.extents.covers, run.size
        data = self._joined(run, view)
        if not self._vmcore.agrees(data, run.offset):
            return False
        offsets = range(run.offset, run.offset + size * run.number, size)
        self.repeated += sum(covers(offset, offset + size) for offset in offsets)
        self._note(run.offset, run.offset + len(data))
        self._vmcore.add(data, run.offset)
        self.messages += run.number
        self._order.took(int.from_bytes(run.seqnos[-ACK_SIZE:], "big"))
        self._stored(now)
        return True

    def _note(self, start: int, end: int) -> None:
        """Note that bytes of the vmcore are about to be stored, or came again."""
        if self._restart is not None:
            self._restart.note(start, end, self._vmcore.extents)

    def _check_same_dump(self, run: Run, view: memoryview, now: float) -> None:
        """BeganAgainError if messages bring other bytes than are here, and that means that the
        client sends another dump; nothing of them is taken then."""
        file = self._files.get(run.type)
        if self._restart is None or file is None or self.phase is Phase.OVER:
            return
        if self._restart.over(now):
            self._settle_restart()
            return
        data = self._joined(run, view)
        differs = not file.agrees(data, run.offset)
        if self.phase is Phase.LINGERING:
            if differs or not file.extents.covers(run.offset, run.offset + len(data)):
                raise BeganAgainError
            return
        if differs and self._restart.means_another_dump(run.size * run.number):
            raise BeganAgainError

    def _settle_restart(self) -> None:
        """The client is no longer expected to begin again."""
        if self._restart is not None and self.closing is None:
            self._restart.doubt(self.account, self._limits.in_flight)
        self._restart = None

    def _joined(self, run: Run, view: memoryview) -> memoryview:
        """The payloads of a run, one behind the other."""
        return memoryview(b"".join([view[at] for at in _slices(run.start, run.size, run.number)]))

    def _flush(self, now: float, acks: list[bytes]) -> None:
        """Write what is queued, and only then let it be acked."""
        if not self._pieces:
            return
        self._note(self._pieces_start, self._pieces_end)
        self._vmcore.write(self._pieces, self._pieces_start, self._pieces_end)
        acks += self._pieces_acks
        self.messages += len(self._pieces)
        self._pieces, self._pieces_acks, self._pieces_end = [], [], -1
        self._stored(now)

    def _take_one(self, kind: int, offset: int, payload: memoryview, now: float) -> bool:
        """Take a message by itself; whether it is to be acked."""
        if kind == formats.HERALD or self.phase is Phase.OVER:
            return False  # HERALDs have a port of their own
        if kind == formats.FINISHED:
            self._finish(now)
            return True
        file = self._files[kind]
        if kind == formats.KDH:  # what is longer than a header is acked, and the rest ignored
            payload = payload[: max(0, KDH_SIZE - offset)]
        end = offset + len(payload)
        if self.phase is Phase.LINGERING:
            self.repeated += 1
            return self._has(file, payload, offset)
        if self._forbids(offset, end, now, kind):
            return False
        if not file.agrees(payload, offset):
            return self._take_other(file, payload, offset, now)
        if kind == formats.VMCORE:
            self._note(offset, end)
        elif kind == formats.EKCD_KEY and self._restart is not None:
            self._restart.note_key(offset, end)
        if file.add(payload, offset):
            self._stored(now)
            if kind == formats.KDH:
                self._header_changed(now)
        else:
            self.repeated += 1
        return True

    def _has(self, file: IncomingFile, payload: memoryview, offset: int) -> bool:
        """Whether a message to a dump that is being filed brings what is here."""
        covered = file.extents.covers(offset, offset + len(payload))
        return covered and file.agrees(payload, offset)

    def _take_other(self, file: IncomingFile, payload: memoryview, offset: int, now: float) -> bool:
        """Take a message some bytes of which are here with other values; whether it is stored."""
        version = hash((file.kind, offset, bytes(payload)))
        if version in self._others:
            self.repeated += 1
            return True
        if len(payload) + HEADER_SIZE > self._room_for_others:
            self._tell_limit(
                offset, len(payload), f"more than {self._limits.other} bytes differ", now
            )
            return False
        if file.kind == formats.KDH and not self.account.headers.take(offset, bytes(payload)):
            self._tell_limit(offset, len(payload), "too many dump headers that differ", now)
            return False
        file.keep_other(payload, offset)
        self._room_for_others -= len(payload) + HEADER_SIZE
        self._others.add(version)
        if file.kind == formats.KDH:
            self._header_changed(now)
        else:
            file.add_around(payload, offset)
        self._stored(now)
        return True

    def _stored(self, now: float) -> None:
        """Bytes are in their file."""
        self.trouble = ""
        if self.phase is Phase.WAITING:
            self._go_on_to(Phase.RUNNING, now)
        total = self.account.vmcore.total
        if total >= self._next_stride or now - self._noted >= self.NOTED_EVERY:
            self._gained(now)

    def _gained(self, now: float) -> None:
        """The vmcore has grown by another stride, or it is time to note what is here."""
        here = self.account.vmcore
        if here.total >= self._next_stride:
            self.moved = now
            self._next_stride = here.total + self.STRIDE
        if now - self._noted >= self.NOTED_EVERY:
            self._noted = now
            self.sink.note_here(list(here.missing(0, here.end)), here.end)

    def _header_changed(self, now: float) -> None:
        problem = self.account.header_problem
        try:
            self.sink.update(self.account, Verdict.receiving(problem))
        except StoreError as error:  # the header is stored all the same
            self._tell_trouble(WriteError("info", 0, error), now)
        self.tell(HeaderReceived(now, *self.identity, self.account.header, problem))

    def _forbids(self, start: int, end: int, now: float, kind: int = formats.VMCORE) -> bool:
        """Whether a limit keeps ``[start, end)`` out of a file; says so the first time."""
        reason = ""
        if kind == formats.EKCD_KEY and end > self.account.key.limit:
            reason = f"the key is longer than {self.account.key.limit} bytes"
        elif kind == formats.VMCORE:
            extents = self._vmcore.extents
            reason = self._limits.forbids(start, end, extents, self._pieces_end)
        if reason:
            self._tell_limit(start, end - start, reason, now)
        return bool(reason)

    def _tell_limit(self, start: int, size: int, reason: str, now: float) -> None:
        if not self._over_limit:
            self._over_limit = reason
            self.tell(OffLimits(now, *self.identity, start, size, reason))

    def _finish(self, now: float) -> None:
        if self.phase is Phase.LINGERING:
            self.repeated += 1
            return
        try:
            here = self.account.vmcore
            self.sink.note_finished(list(here.missing(0, here.end)), here.end)
        except StoreError as error:
            raise WriteError(_FINISHED, 0, error) from None
        if self.trouble.startswith(_FINISHED):  # it came again
            self.trouble = ""
        self.account.finish(self._order.unseen)
        self._close(INCOMPLETE, "", now)
        self._go_on_to(Phase.LINGERING, now)

    def _fail(self, error: WriteError, now: float) -> None:
        """Nothing of it is acked: the client sends it again, and the disk may take it then."""
        self.trouble = f"{error.file} at offset {error.offset}: {error}"
        self._tell_trouble(error, now)

    def _tell_trouble(self, error: WriteError, now: float) -> None:
        if self.phase is not Phase.WAITING and now - self._told_trouble >= _TROUBLE_EVERY:
            self._told_trouble = now
            self.tell(WriteFailed(now, *self.identity, error.file, error.offset, str(error)))

    def _close(self, reason: str, cause: str, now: float) -> None:
        """File it, unless that is done."""
        self._settle_restart()
        if self.trouble:
            reason, cause = ERROR, self.trouble
        elif self._over_limit:
            reason = LIMIT if reason in (INCOMPLETE, TIMEOUT) else reason
            cause = "; ".join(filter(None, (cause, f"cut off by a limit: {self._over_limit}")))
        if self.closing is None:
            self.closing = Closing(
                identity=self.identity,
                sink=self.sink,
                account=self.account,
                reason=reason,
                cause=cause,
                seconds=now - self.first,
                messages=self.messages,
                repeated=self.repeated,
                ignored=self.ignored,
            )


#: What stands for a file where FINISHED could not be remembered, or not be synced.
_FINISHED = "FINISHED"

#: Seconds between two events that tell of a disk that does not take what comes.
_TROUBLE_EVERY = 1.0

_RECEIVING = (Phase.WAITING, Phase.RUNNING)


@lru_cache(maxsize=256)
def _slices(start: int, size: int, number: int) -> list[slice]:
    """Where the payloads of a run are in its buffer. The same runs come again and again."""
    step = HEADER_SIZE + size
    return [slice(at, at + size) for at in range(start, start + number * step, step)]


def _ignore(*_: object) -> None:
    """Nobody wants to know."""


def _nobody(*_: object) -> None:
    """Nobody goes on with the dump."""
