# SPDX-License-Identifier: GPL-2.0-or-later
"""The bulk codec: single messages, super-frames, snapped and malformed datagrams."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump import wire
from scapy_netdump.formats import FINISHED, HERALD, KDH, MESSAGE_TYPES, VMCORE

u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
whole_messages = st.tuples(st.sampled_from(sorted(MESSAGE_TYPES)), u32, u64, st.binary(max_size=60))


def encode(kind: int, seqno: int, offset: int, payload: bytes) -> bytes:
    return wire.header(kind, seqno, offset, len(payload)) + payload


def test_the_header_is_laid_out_as_the_manual_page_says() -> None:
    assert wire.header(VMCORE, 2, 4096, 1448) == struct.pack("!IIQII", 3, 2, 4096, 1448, 0)
    assert (wire.HEADER_SIZE, wire.ACK_SIZE) == (24, 4)


@given(whole_messages)
def test_a_message_decodes_to_what_was_encoded(parts: tuple[int, int, int, bytes]) -> None:
    data = encode(*parts)
    (message,) = wire.messages(data)
    assert (message.type, message.seqno, message.offset) == parts[:3]
    assert data[message.start : message.end] == parts[3]
    assert message.len == len(parts[3])
    assert not wire.malformed([message], data)


@given(st.lists(whole_messages, min_size=2, max_size=6))
def test_a_super_frame_decodes_to_its_messages(parts: list[tuple[int, int, int, bytes]]) -> None:
    data = b"".join(encode(*part) for part in parts)
    found = wire.messages(data)
    assert [(m.type, m.seqno, m.offset, data[m.start : m.end]) for m in found] == parts
    assert not wire.malformed(found, data)


@given(st.lists(whole_messages, min_size=1, max_size=4), st.data())
def test_a_snapped_datagram_gives_what_was_captured(
    parts: list[tuple[int, int, int, bytes]], data: st.DataObject
) -> None:
    sent = b"".join(encode(*part) for part in parts)
    captured = sent[: data.draw(st.integers(0, len(sent)))]
    found = wire.messages(captured, len(sent))
    assert not wire.malformed(found, captured, len(sent))
    assert found == [
        m._replace(end=min(m.end, len(captured)))
        for m in wire.messages(sent)
        if m.start <= len(captured)
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"runt",
        bytes(24),
        struct.pack("!IIQII", 6, 1, 0, 0, 0),
        struct.pack("!IIQII", VMCORE, 1, 0, 5, 0) + b"four",
        struct.pack("!IIQII", VMCORE, 1, 0, 3, 0) + b"four",
        struct.pack("!IIQII", VMCORE, 1, 0, 3, 0) + b"123" + bytes(24),
        struct.pack("!IIQII", VMCORE, 1, 0, 2**32 - 1, 0) + b"four",
    ],
    ids=[
        "empty",
        "runt",
        "type 0",
        "type 6",
        "len above",
        "len below",
        "no message behind",
        "huge",
    ],
)
def test_what_a_server_ignores_is_no_message(data: bytes) -> None:
    assert wire.messages(data) == []
    assert wire.malformed([], data) == bool(data)


def test_messages_before_a_malformed_one_count() -> None:
    data = encode(VMCORE, 1, 0, b"good") + struct.pack("!IIQII", VMCORE, 2, 4, 9, 0) + b"four"
    found = wire.messages(data)
    assert [m.seqno for m in found] == [1]
    assert wire.malformed(found, data)


@given(st.binary(max_size=200), st.integers(0, 300))
def test_any_bytes_are_walked_within_their_bounds(data: bytes, length: int) -> None:
    found = wire.messages(data, length)
    wire.malformed(found, data, length)
    position = 0
    for message in found:
        assert message.type in MESSAGE_TYPES
        assert message.start == position + wire.HEADER_SIZE
        assert message.start <= message.end <= len(data)
        position = message.start + message.len
        assert position <= length


def test_frame_padding_behind_the_datagram_is_not_looked_at() -> None:
    data = encode(FINISHED, 9, 0, b"")
    assert wire.messages(data + bytes(100), len(data)) == wire.messages(data)


@given(st.lists(u32, max_size=40))
def test_acks_decode_to_their_seqnos(seqnos: list[int]) -> None:
    data = b"".join(map(wire.ack, seqnos))
    assert wire.acks(data) == tuple(seqnos)
    assert wire.acks(data + bytes(18), len(data)) == tuple(seqnos)


def test_a_size_that_is_no_multiple_of_four_holds_no_acks() -> None:
    assert wire.acks(b"12345") == ()


def test_snapped_acks_are_those_that_are_whole() -> None:
    assert wire.acks(wire.ack(1) + wire.ack(2)[:3], 12) == (1,)


def test_buffers_of_other_kinds_decode_too() -> None:
    data = encode(HERALD, 1, 0, b"lab\0") + encode(KDH, 2, 0, b"")
    assert wire.messages(memoryview(data)) == wire.messages(bytearray(data)) == wire.messages(data)
    assert wire.acks(memoryview(b"\0\0\0\7")) == (7,)
