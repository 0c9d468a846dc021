# SPDX-License-Identifier: GPL-2.0-or-later
"""A dump cut into messages, in the kernel's order.

HERALD, the key, the vmcore, the header, FINISHED; sequence numbers rise by one per message
from 1 on (PROTOCOL.md, "One dump by the kernel client").
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from ...errors import NetdumpError
from ...formats import EKCD_KEY, FINISHED, HERALD, KDH, VMCORE
from ...wire import HEADER_SIZE, Buffer, header

_MAX_SEQNO = (1 << 32) - 1


class Dump(Protocol):
    """What is sent. The vmcore is read once, from its start to its end, and `kdh` after that:
    only then the length of a compressed dump is known."""

    @property
    def key(self) -> bytes:
        """The key blob; empty for a dump that is not encrypted."""

    @property
    def kdh(self) -> bytes:
        """The dump header; empty to send none."""

    def read(self, offset: int, size: int) -> Buffer:
        """Bytes of the vmcore as it is sent; fewer than `size` only at its end."""


class Piece(NamedTuple):
    """A part of a file that is to be cut into messages."""

    kind: int
    offset: int
    data: Buffer


class Frame:
    """Messages of one file with rising sequence numbers, end to end as they are sent.

    All have `size` bytes but the last, which may be shorter. `unacked` is how many of them
    wait for their ack.
    """

    __slots__ = ("after", "data", "first", "kind", "offset", "size", "unacked")

    def __init__(self, kind: int, first: int, offset: int, payload: Buffer, step: int) -> None:
        self.kind = kind
        self.first = first
        self.offset = offset
        self.size = HEADER_SIZE + step
        length = len(payload)
        count = max(1, -(-length // step))
        self.after = first + count
        if self.after > _MAX_SEQNO:
            raise NetdumpError(
                "the dump has more messages than there are sequence numbers (2^32): send it with "
                "a larger --mtu, or compressed"
            )
        self.unacked = count
        self.data = memoryview(_packed(kind, first, offset, payload, step))

    def __len__(self) -> int:
        return self.after - self.first

    @property
    def payload(self) -> int:
        """Bytes of payload in all messages together."""
        return len(self.data) - len(self) * HEADER_SIZE

    def message(self, seqno: int) -> memoryview:
        """The message of this number as it is sent, each time."""
        start = (seqno - self.first) * self.size
        return self.data[start : start + self.size]

    def offset_of(self, seqno: int) -> int:
        """Where that message's payload stands in the file."""
        return self.offset + (seqno - self.first) * (self.size - HEADER_SIZE)

    def pieces(self, seqnos: Sequence[int]) -> list[Piece]:
        """What the messages of these numbers carry, which rise; as few pieces as possible."""
        found: list[Piece] = []
        start = 0
        for at, seqno in enumerate(seqnos):
            if at + 1 == len(seqnos) or seqnos[at + 1] != seqno + 1:
                payloads = [self.message(number)[HEADER_SIZE:] for number in seqnos[start : at + 1]]
                found.append(Piece(self.kind, self.offset_of(seqnos[start]), b"".join(payloads)))
                start = at + 1
        return found


def _packed(kind: int, seqno: int, offset: int, payload: Buffer, step: int) -> bytes:
    """The messages end to end. (One join is twice as fast as filling a buffer.)"""
    source = memoryview(payload)
    length = len(source)
    pieces: list[Buffer] = []
    for start in range(0, length or 1, step):
        piece = source[start : start + step]
        pieces += (header(kind, seqno, offset + start, len(piece)), piece)
        seqno += 1
    return b"".join(pieces)


class Frames:
    """The messages of a dump, frame after frame.

    `payload` is the most that a message carries. `path` goes into the HERALD: below the
    server's directory, undecoded and without its NUL.
    """

    def __init__(self, dump: Dump, path: bytes, payload: int) -> None:
        self._dump = dump
        self._path = path + b"\0" if path else b""
        if len(self._path) > payload:
            raise NetdumpError(
                f"a path of {len(path)} bytes does not fit into the HERALD, whose payload is "
                f"{payload} bytes at this --mtu: choose a shorter path"
            )
        self._step = payload
        self._seqno = 1
        self._frames = self._in_order()
        self._most = 0
        self._again: deque[Piece] = deque()  # to be cut before all else

    def next(self, most: int) -> Frame | None:
        """The next frame, of at most `most` bytes of payload, but of one message at least; None
        behind FINISHED."""
        self._most = max(most, self._step)
        if not self._again:
            return next(self._frames, None)
        kind, offset, data = self._again.popleft()
        if rest := data[self._most :]:
            self._again.appendleft(Piece(kind, offset + self._most, rest))
        return self._frame(kind, offset, data[: self._most])

    def cut_to(self, payload: int, again: Sequence[Piece] = ()) -> None:
        """From now on a message carries so much; these pieces are to be cut again, under new
        numbers, as one number stands for one message (PROTOCOL.md, "Retransmission")."""
        self._step = payload
        self._again.extendleft(reversed(again))

    def _in_order(self) -> Iterator[Frame]:
        yield self._frame(HERALD, 0, self._path)
        yield from self._file(EKCD_KEY, self._dump.key)
        offset = 0
        while data := self._dump.read(offset, self._most):
            yield self._frame(VMCORE, offset, data)
            offset += len(data)
        yield from self._file(KDH, self._dump.kdh)
        yield self._frame(FINISHED, 0, b"")

    def _file(self, kind: int, data: bytes) -> Iterator[Frame]:
        offset = 0
        while piece := data[offset : offset + self._most]:
            yield self._frame(kind, offset, piece)
            offset += len(piece)

    def _frame(self, kind: int, offset: int, payload: Buffer) -> Frame:
        frame = Frame(kind, self._seqno, offset, payload, self._step)
        self._seqno = frame.after
        return frame
