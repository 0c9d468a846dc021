# SPDX-License-Identifier: GPL-2.0-or-later
"""From a batch of datagrams to columns of messages and acks.

The header's layout comes from the generated formats. The usual datagram (one message,
whole) is decoded by numpy; any other one by the walk in wire.py, one at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import NamedTuple, TypeVar

import numpy as np

from ... import formats, wire
from .batch import Batch, Bytes, Ints, Mask, gather

#: The furthest byte of a dump that is believed: 16 TiB, the largest file of ext4. The
#: header has room for 2**64, and one forged message would make a file of that size.
MAX_OFFSET = 1 << 44

#: Bytes of a path that are looked at: PATH_MAX of FreeBSD's sys/syslimits.h.
MAX_PATH = 1024

#: Bytes of a datagram that is a HERALD at most: its path ends in a NUL.
MOST_OF_HERALD = wire.HEADER_SIZE + MAX_PATH + 1

_NUMPY_CODES = {"B": "u1", "H": ">u2", "I": ">u4", "Q": ">u8"}
_HEADER = np.dtype(
    [
        (name, _NUMPY_CODES[code])
        for name, code in zip(
            formats.NETDUMP_FIELDS, formats.NETDUMP_FORMAT.removeprefix("!"), strict=True
        )
    ]
)
_RAW_HEADER = f"V{_HEADER.itemsize}"
_RAW_ACK = f"V{wire.ACK_SIZE}"


class Direction(IntEnum):
    """What a flow of datagrams carries."""

    NEITHER = 0
    MESSAGES = 1
    ACKS = 2
    BOTH = 3  # the same port at both ends: four bytes are an ack, the rest messages


@dataclass(frozen=True, slots=True)
class Messages:
    """Client messages, one row each, in the order of the capture.

    ``order`` numbers the datagrams of all captures read so far. The payload that was
    captured starts at ``position`` of the batch's buffer and belongs to the bytes
    ``[start, end)`` of the file that ``type`` stands for. What was sent goes up to
    ``sent_end``, which is beyond ``end`` where a snap length cut the frame.
    """

    order: Ints
    flow: Ints
    type: Ints
    seqno: Ints
    start: Ints
    end: Ints
    sent_end: Ints
    position: Ints

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, rows: Ints | Mask | slice) -> Messages:
        return Messages(*(getattr(self, column.name)[rows] for column in fields(self)))


@dataclass(frozen=True, slots=True)
class Acks:
    """Server acks, one row each; ``order`` as in Messages."""

    order: Ints
    flow: Ints
    seqno: Ints

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, rows: Ints | Mask | slice) -> Acks:
        return Acks(self.order[rows], self.flow[rows], self.seqno[rows])


Columns = TypeVar("Columns", Messages, Acks)


class Decoded(NamedTuple):
    """What a batch held. ``malformed`` counts messages that netdumpd would not answer,
    ``snapped`` those that a snap length shortened."""

    messages: Messages
    acks: Acks
    malformed: int
    snapped: int


def decode(batch: Batch, first_order: int, directions: Ints) -> Decoded:
    """Decode a batch; ``directions`` holds a Direction for each of its flows."""
    direction = directions[batch.flow]
    four = batch.length == wire.ACK_SIZE
    is_ack = (direction == Direction.ACKS) | ((direction == Direction.BOTH) & four)
    is_message = (direction == Direction.MESSAGES) | ((direction == Direction.BOTH) & ~four)
    messages, malformed, snapped = _messages(batch, np.flatnonzero(is_message), first_order)
    return Decoded(messages, _acks(batch, np.flatnonzero(is_ack), first_order), malformed, snapped)


def _acks(batch: Batch, rows: Ints, first_order: int) -> Acks:
    length = batch.length[rows]
    captured = batch.captured[rows]
    position = batch.start[rows]
    if (length != wire.ACK_SIZE).any() or (captured < wire.ACK_SIZE).any():
        count = np.minimum(captured, length) // wire.ACK_SIZE
        count[length % wire.ACK_SIZE != 0] = 0
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        rows = np.repeat(rows, count)
        position = np.repeat(position, count) + within * wire.ACK_SIZE
    seqno = gather(batch.buffer, position, _RAW_ACK).view(">u4").astype(np.int64)
    return Acks(rows + first_order, batch.flow[rows], seqno)


def _messages(batch: Batch, rows: Ints, first_order: int) -> tuple[Messages, int, int]:
    whole = rows[batch.captured[rows] >= wire.HEADER_SIZE]
    header = gather(batch.buffer, batch.start[whole], _RAW_HEADER).view(_HEADER)
    kind = header["type"].astype(np.int64)
    length = header["len"].astype(np.int64)
    offset = header["offset"]
    plain = (
        (length + wire.HEADER_SIZE == batch.length[whole])
        & (kind >= min(formats.MESSAGE_TYPES))
        & (kind <= max(formats.MESSAGE_TYPES))
        & (offset <= MAX_OFFSET)
    )
    if not plain.all():
        header, kind, length, offset = (part[plain] for part in (header, kind, length, offset))
    taken = whole[plain]
    start = offset.astype(np.int64)
    sent_end = start + length
    captured = batch.captured[taken] - wire.HEADER_SIZE
    cut = captured < length
    snapped = int(np.count_nonzero(cut))
    messages = Messages(
        order=taken + first_order,
        flow=batch.flow[taken],
        type=kind,
        seqno=header["seqno"].astype(np.int64),
        start=start,
        end=np.where(cut, start + captured, sent_end) if snapped else sent_end,
        sent_end=sent_end,
        position=batch.start[taken] + wire.HEADER_SIZE,
    )
    if len(taken) == len(rows):
        return messages, 0, snapped
    odd = np.setdiff1d(rows, taken, assume_unique=True)
    others, malformed, also_snapped = _walk(batch, odd, first_order)
    return _in_order(messages, others), malformed, snapped + also_snapped


def _walk(batch: Batch, rows: Ints, first_order: int) -> tuple[Messages, int, int]:
    """The messages of datagrams that hold several, are cut short, or are not netdump at all."""
    found: list[tuple[int, ...]] = []
    malformed = snapped = 0
    for row in rows.tolist():
        at = int(batch.start[row])
        payload = batch.buffer[at : at + int(batch.captured[row])].data
        length = int(batch.length[row])
        walked = wire.messages(payload, length)
        if wire.malformed(walked, payload, length):
            malformed += 1
        elif len(payload) < length:
            snapped += 1
        for message in walked:
            if message.offset > MAX_OFFSET:
                malformed += 1
                continue
            found.append(
                (
                    row + first_order,
                    int(batch.flow[row]),
                    message.type,
                    message.seqno,
                    message.offset,
                    message.offset + message.end - message.start,
                    message.offset + message.len,
                    at + message.start,
                )
            )
    columns = np.array(found, np.int64).reshape(len(found), len(fields(Messages))).T
    return Messages(*columns), malformed, snapped


def _in_order(some: Messages, others: Messages) -> Messages:
    messages = joined(some, others)
    return messages[np.argsort(messages.order, kind="stable")]


def joined(some: Columns, others: Columns) -> Columns:
    """The rows of both, one behind the other."""
    names = [column.name for column in fields(some)]
    pairs = ((getattr(some, name), getattr(others, name)) for name in names)
    return type(some)(*(np.concatenate(pair) for pair in pairs))


def heralds(buffer: Bytes, start: Ints, captured: Ints, length: Ints) -> Mask:
    """Which datagrams have the form of a HERALD, whatever their ports: ``length``
    bytes of each were sent, and the ``captured`` ones begin at ``start``."""
    whole = (captured >= wire.HEADER_SIZE) & (length <= MOST_OF_HERALD)
    header = gather(buffer, start[whole], _RAW_HEADER).view(_HEADER)
    found = np.zeros(len(start), np.bool_)
    found[whole] = (
        (header["type"] == formats.HERALD)
        & (header["offset"] == 0)
        & (header["len"] == length[whole] - wire.HEADER_SIZE)
    )
    return found


def payload(buffer: Bytes, messages: Messages, row: int) -> bytes:
    """The captured payload of one message."""
    at = int(messages.position[row])
    return buffer[at : at + int(messages.end[row] - messages.start[row])].tobytes()
