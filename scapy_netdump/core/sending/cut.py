# SPDX-License-Identifier: GPL-2.0-or-later
"""A dump cut into messages, in the kernel's order.

HERALD, the key, the vmcore, the header, FINISHED; sequence numbers rise by one per message
from 1 on (PROTOCOL.md, "One dump by the kernel client").
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

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

    def next(self, most: int) -> Frame | None:
        """The next frame, of at most `most` bytes of payload, but of one message at least; None
        behind FINISHED."""
        self._most = max(most, self._step)
        return next(self._frames, None)

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
