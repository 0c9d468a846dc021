# SPDX-License-Identifier: GPL-2.0-or-later
"""The bulk codec: datagrams to messages and acks and back, without a Scapy packet for each."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from struct import Struct, unpack_from
from typing import NamedTuple, TypeAlias

from .formats import ACK_FORMAT, MESSAGE_TYPES, NETDUMP_FIELDS, NETDUMP_FORMAT

Buffer: TypeAlias = bytes | bytearray | memoryview

_HEADER = Struct(NETDUMP_FORMAT)
_ACK = Struct(ACK_FORMAT)
HEADER_SIZE = _HEADER.size
ACK_SIZE = _ACK.size


class Message(NamedTuple):
    """A client message within a datagram.

    `type`, `seqno`, `offset` (of the payload in the file that the type stands for, in
    bytes) and `len` (payload bytes as sent) are the header's. The payload that was
    captured is [start, end) of the datagram, which is shorter than `len` if a snap length
    cut it.
    """

    type: int
    seqno: int
    offset: int
    len: int
    start: int
    end: int


def messages(payload: Buffer, length: int | None = None) -> list[Message]:
    """The messages of a datagram, in their order.

    `length` is the size of the UDP payload as sent, of which `payload` may be a part: the
    part that was captured. There is one message in a datagram, except in super-frames of
    hosts that coalesce UDP. The walk ends before the first message that is malformed: of
    unknown type, or ending neither where the datagram ends nor where another begins.
    A server ignores those (netdumpd checks `len` against the bytes received).
    `malformed` tells whether there was one.
    """
    if length is None:
        length = len(payload)
    captured = min(len(payload), length)
    found = []
    start = HEADER_SIZE
    while start <= captured:
        kind, seqno, offset, size, _ = _HEADER.unpack_from(payload, start - HEADER_SIZE)
        after = start + size
        if kind not in MESSAGE_TYPES or (after != length and not _followed(payload, after, length)):
            break
        found.append(Message(kind, seqno, offset, size, start, min(after, captured)))
        start = after + HEADER_SIZE
    return found


def _followed(payload: Buffer, after: int, length: int) -> bool:
    """Whether another message begins at `after`, as far as was captured."""
    if after + HEADER_SIZE > length:
        return False
    return after + 4 > len(payload) or unpack_from("!I", payload, after)[0] in MESSAGE_TYPES


def malformed(found: list[Message], payload: Buffer, length: int | None = None) -> bool:
    """Whether `messages`, which found these, came upon something that is no message."""
    if length is None:
        length = len(payload)
    after = found[-1].start + found[-1].len if found else 0
    snapped = after + HEADER_SIZE > len(payload) and len(payload) < length
    return after != length and not snapped


class Run(NamedTuple):
    """Messages of one type and size that follow each other, in a buffer and in their file.

    The first payload is `size` bytes at `start` of the buffer, and belongs at `offset` of
    the file; there are `number`, each with its header before it. `seqnos` are theirs, as the
    acks have them, four bytes each.
    """

    type: int
    offset: int
    start: int
    size: int
    number: int
    seqnos: bytes


def runs(data: memoryview, sizes: Sequence[int]) -> tuple[list[Run], int]:
    """The messages of datagrams that lie end to end in `data` and have these `sizes`.

    A datagram is one message, as for netdumpd: these are exact sizes, and none is a super-frame's.
    The number is of datagrams that are anything else.
    """
    found: list[Run] = []
    bad = index = start = 0
    while index < len(sizes):
        size = sizes[index]
        alike = 1
        first = len(sizes) - (sizes[-1] != size)
        if not index and sizes.count(size) == first:  # as nearly all bursts come
            alike = min(_MOST, first)
        while alike < _MOST and index + alike < len(sizes) and sizes[index + alike] == size:
            alike += 1
        index += alike
        alikes = _uniform(data, start, size, alike) if alike >= _FEWEST else ()
        if alikes:
            found += alikes
            start += alike * size
            continue
        for _ in range(alike):
            message = alone(data[start : start + size])
            if message is None:
                bad += 1
            else:
                kind, _, offset, length, _, _ = message
                seqno = data[start + 4 : start + 8].tobytes()
                found.append(Run(kind, offset, start + HEADER_SIZE, length, 1, seqno))
            start += size
    return found, bad


#: As many messages as are decoded at once, and as make that worth while.
_MOST, _FEWEST = 64, 2


def _uniform(data: memoryview, start: int, step: int, count: int) -> Sequence[Run]:
    """So many messages of `step` bytes each, header included: one run, or a few where some are
    missing or out of order; none if they are not all messages of one type and size."""
    size = step - HEADER_SIZE
    if size <= 0:
        return ()
    headers, seqnos = _layouts(step, count)
    values = headers.unpack_from(data, start)
    fields = len(NETDUMP_FIELDS)
    kind, offsets = values[0], values[2::fields]
    if (
        kind not in MESSAGE_TYPES
        or values[0::fields] != (kind,) * count
        or values[3::fields] != (size,) * count
    ):
        return ()
    acks = seqnos.pack(*values[1::fields])
    offset = offsets[0]
    if offsets == tuple(range(offset, offset + count * size, size)):
        return (Run(kind, offset, start + HEADER_SIZE, size, count, acks),)
    leaps = [n for n in range(1, count) if offsets[n] != offsets[n - 1] + size]
    return [
        Run(
            kind,
            offsets[first],
            start + first * step + HEADER_SIZE,
            size,
            after - first,
            acks[first * ACK_SIZE : after * ACK_SIZE],
        )
        for first, after in pairwise([0, *leaps, count])
    ]


@lru_cache(maxsize=2 * _MOST)
def _layouts(step: int, count: int) -> tuple[Struct, Struct]:
    """The headers of `count` messages of `step` bytes each, and their seqnos as acks."""
    header = NETDUMP_FORMAT + f"{step - HEADER_SIZE}x"
    return Struct("!" + header.lstrip("!") * count), Struct("!" + ACK_FORMAT.lstrip("!") * count)


def alone(datagram: memoryview) -> Message | None:
    """The message of a datagram that holds one and nothing else; None of any other datagram."""
    if len(datagram) < HEADER_SIZE:
        return None
    kind, seqno, offset, size, _ = _HEADER.unpack_from(datagram)
    after = HEADER_SIZE + size
    if kind not in MESSAGE_TYPES or after != len(datagram):
        return None
    return Message(kind, seqno, offset, size, HEADER_SIZE, after)


def acks(payload: Buffer, length: int | None = None) -> tuple[int, ...]:
    """The sequence numbers of a datagram to the client: one, or several in a super-frame.

    `length` as for `messages`. A size that is no multiple of four holds no acks.
    """
    if length is None:
        length = len(payload)
    if length % ACK_SIZE:
        return ()
    count = min(len(payload), length) // ACK_SIZE
    seqnos: tuple[int, ...] = unpack_from(f"!{count}{ACK_FORMAT.lstrip('!')}", payload)
    return seqnos


def header(kind: int, seqno: int, offset: int, length: int) -> bytes:
    """The 24 bytes that go before a payload of `length` bytes; struct.error if one is too big."""
    return _HEADER.pack(kind, seqno, offset, length, 0)


def ack(seqno: int) -> bytes:
    """The four bytes that acknowledge the message of this number."""
    return _ACK.pack(seqno)
