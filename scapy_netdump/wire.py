# SPDX-License-Identifier: GPL-2.0-or-later
"""The bulk codec: datagrams to messages and acks and back, without a Scapy packet for each.

Imports the standard library and the formats that are generated from the Scapy layers.
"""

from struct import Struct, unpack_from
from typing import NamedTuple, TypeAlias

from .formats import ACK_FORMAT, MESSAGE_TYPES, NETDUMP_FORMAT

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


def acks(payload: Buffer, length: int | None = None) -> tuple[int, ...]:
    """The sequence numbers of a datagram to the client: one, or several in a super-frame.

    `length` as for `messages`. A size that is no multiple of four holds no acks.
    """
    if length is None:
        length = len(payload)
    if length % ACK_SIZE:
        return ()
    whole = min(len(payload), length) // ACK_SIZE * ACK_SIZE
    return tuple(seqno for (seqno,) in _ACK.iter_unpack(memoryview(payload)[:whole]))


def header(kind: int, seqno: int, offset: int, length: int) -> bytes:
    """The 24 bytes that go before a payload of `length` bytes; struct.error if one is too big."""
    return _HEADER.pack(kind, seqno, offset, length, 0)


def ack(seqno: int) -> bytes:
    """The four bytes that acknowledge the message of this number."""
    return _ACK.pack(seqno)
