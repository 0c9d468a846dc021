# SPDX-License-Identifier: GPL-2.0-or-later
"""The default way to send a dump: a sliding window.

Messages are sent again one by one: those that later ones have overtaken (flight.py), and,
when nothing comes back at all for a time-out (round_trips.py), the last one as a probe. Behind
the last message of all nothing comes that could overtake it: there the time-out is short.
window_size.py says how many may be on their way, message_size.py how large they are.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import islice

from ...formats import FINISHED, HERALD, HERALD_PORT, VMCORE
from ...wire import ACK_SIZE, HEADER_SIZE, Buffer, acks
from .cut import Dump, Frame, Frames, Piece
from .flight import Flight
from .message_size import MessageSize
from .round_trips import RoundTrips
from .sender import Burst, Counters, GaveUp, Patience
from .window_size import WindowSize

#: Bytes of a burst: the most that one UDP_SEGMENT send takes, 65,507 less a reserve.
_BURST = 65_000
#: Frames that are kept to be sent again, 64 KiB each at most: bounds the memory.
_MAX_FRAMES = 256


class WindowSender:
    """Sends with a window, as fast as acks come back, and steps aside when messages get lost."""

    def __init__(
        self,
        dump: Dump,
        path: bytes,
        payload: int,
        patience: Patience,
        *,
        herald_port: int = HERALD_PORT,
    ) -> None:
        self.counters = Counters(payload=payload)
        self._patience = patience
        self._source = Frames(dump, path, payload)
        self._message_size = MessageSize(payload, patience.total)
        self._round_trips = RoundTrips(patience.interval)
        self._flight = Flight(self._round_trips)
        self._resize()
        self._frames: list[Frame] = []  # those with messages that are not acked, in order
        self._held: Frame | None = None  # FINISHED, until all else is acked
        self._herald_port = herald_port
        self._port = herald_port  # then the one from which the server has answered
        self._port_known = False
        self._done = False
        self._timeout = float("inf")  # when to probe
        self._look_again = float("inf")  # when more may be known to be lost
        self._end = float("inf")  # of the patience

    @property
    def done(self) -> bool:
        return self._done

    @property
    def window(self) -> int:
        """How many messages may be on their way at this time."""
        return self._window.messages

    def deadline(self) -> float:
        return min(self._timeout, self._look_again, self._end, self._message_size.deadline)

    def next_burst(self, now: float) -> Burst | None:
        if self._done:
            return None
        self._watch(now)
        if (question := self._message_size.question(now)) is not None:
            self.counters.retransmissions += 1
            return Burst(question, len(question), self._port)
        room = self._window.messages - len(self._flight)
        pieces = self._again(max(room, 1 if now >= self._timeout else 0), now)
        size = len(pieces[0]) if pieces else self._size
        if size == self._size and (not pieces or len(pieces[-1]) == size):
            frame = self._new(room - len(pieces), self._per_burst - len(pieces), now)
            if frame is not None:
                pieces.append(frame.data)
        if not pieces:
            return None
        data = pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))
        return Burst(data, size, self._port if self._port_known else self._herald_port)

    def receive(self, payload: Buffer, port: int, now: float) -> None:
        """Acks. Until the HERALD's own has come, any sets the server's port (PROTOCOL.md)."""
        if not self._port_known and len(payload) and not len(payload) % ACK_SIZE:
            self._port = port
        if port != self._port:
            return
        seqnos = acks(payload)
        news = self._flight.acked(seqnos, now)
        grows = self._message_size.grows(seqnos, now)
        if grows:
            self._resize()
        if news or grows:
            self._end = now + self._patience.total
            self._message_size.progress(now)
        if news:
            self._note(news)
            self.counters.acks += len(news)
            self._round_trips.answered()
            self._timeout = now + self._round_trips.timeout if self._frames else float("inf")
            self.counters.round_trip = self._round_trips.smoothed
            self._window.acked(len(news))

    def _note(self, news: list[int]) -> None:
        """Tick these messages off, and let go of frames that are through."""
        frame = self._frames[0]
        for seqno in news:
            if not frame.first <= seqno < frame.after:
                frame = self._frame_of(seqno)
            frame.unacked -= 1
            if frame.unacked:
                continue
            self._frames.remove(frame)
            if frame.kind == VMCORE:
                self.counters.acknowledged += frame.payload
            elif frame.kind == HERALD:
                self._port_known = True
            elif frame.kind == FINISHED:
                self._done = True

    def _frame_of(self, seqno: int) -> Frame:
        return self._frames[bisect_right(self._frames, seqno, key=lambda frame: frame.first) - 1]

    def _watch(self, now: float) -> None:
        """See what time and acks tell of losses."""
        if self._end == float("inf"):
            self._end = now + self._patience.total
        if now >= self._end and self._frames:
            oldest = self._flight.waiting[0]
            frame = self._frame_of(oldest)
            raise GaveUp(frame.kind, frame.offset_of(oldest))
        if self._message_size.due(now):
            self._shrink(now)
        lost = len(self._flight.lost)
        self._look_again = self._flight.find_lost(now)
        if len(self._flight.lost) > lost:
            self._window.lost(len(self._flight.lost) - lost)
        if now >= self._timeout and len(self._flight):
            self._round_trips.timed_out()
            if len(self._flight) > 1:
                self._window.timed_out()
            self._flight.give_up_last()

    def _shrink(self, now: float) -> None:
        """Cut what waits into smaller messages, if it is large."""
        waiting = self._flight.waiting
        messages = {seqno: self._frame_of(seqno).message(seqno) for seqno in waiting}
        if not self._message_size.shrink(messages, now):
            return
        pieces: list[Piece] = []
        for frame in self._frames:
            start, after = (bisect_left(waiting, end) for end in (frame.first, frame.after))
            again = frame.pieces(waiting[start:after])
            pieces += again
            if frame.kind == VMCORE:
                acked = frame.payload - sum(len(piece.data) for piece in again)
                self.counters.acknowledged += acked
        if self._held is not None:
            pieces += self._held.pieces([self._held.first])
        self._flight.forget()
        self._frames.clear()
        self._held = None
        self._timeout = self._look_again = float("inf")
        self._resize(pieces)

    def _resize(self, again: Sequence[Piece] = ()) -> None:
        """Make messages as large as they should be, these pieces' before all others."""
        payload = self.counters.payload = self._message_size.payload
        self._source.cut_to(payload, again)
        self._size = payload + HEADER_SIZE
        self._per_burst = max(1, _BURST // self._size)
        self._window = WindowSize(self._size, self._round_trips)

    def _again(self, most: int, now: float) -> list[memoryview]:
        """Lost messages, as many as may be sent now; one that is shorter must be the last."""
        pieces: list[memoryview] = []
        seqnos: list[int] = []
        for seqno in islice(self._flight.lost, min(most, self._per_burst)):
            message = self._frame_of(seqno).message(seqno)
            if pieces and len(message) > len(pieces[0]):
                break
            pieces.append(message)
            seqnos.append(seqno)
            if len(message) < len(pieces[0]):
                break
        if pieces:
            self._flight.sent_again(seqnos, now)
            self._timeout = now + self._round_trips.timeout
            self.counters.retransmissions += len(pieces)
        return pieces

    def _new(self, room: int, most: int, now: float) -> Frame | None:
        """Messages that were not sent before; the HERALD and FINISHED travel alone."""
        if self._frames and (
            self._flight.lost  # they come first, and may fill the burst
            or not most
            or room * 4 < self._window.messages  # few large sends cost less than many small ones
            or not self._port_known
            or len(self._frames) >= _MAX_FRAMES
        ):
            return None
        frame = self._held or self._source.next(min(room, most) * self._message_size.payload)
        self._held = None
        if frame is None:
            return None
        if frame.kind == FINISHED and self._frames:
            self._held = frame
            self._timeout = min(self._timeout, now + self._round_trips.last_timeout)
            return None
        if not len(self._flight):
            self._timeout = now + self._round_trips.timeout
        self._frames.append(frame)
        self._flight.sent(frame.first, frame.after, now)
        self.counters.messages += len(frame)
        return frame
