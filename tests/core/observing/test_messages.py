# SPDX-License-Identifier: GPL-2.0-or-later
"""decode: from datagrams to columns of messages and acks, against the walk in wire.py."""

from __future__ import annotations

import struct
from random import Random

import numpy as np
import pytest
from helpers.traffic import Datagram, Dump, batch, coalesced, header, snapped
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump import formats, wire
from scapy_netdump.core.observing.messages import (
    MAX_OFFSET,
    Acks,
    Decoded,
    Direction,
    Messages,
    decode,
    payload,
)

DUMP = Dump(vmcore=Random(1).randbytes(20_000), path=b"lab\0", kdh=header(20_000), window=8)


def directions_of(traffic: list[Datagram]) -> np.ndarray:
    """Right for a dump with the usual ports."""
    return np.array(
        [
            Direction.ACKS if flow.dport == formats.ACK_PORT else Direction.MESSAGES
            for flow in batch(traffic).flows
        ],
        np.int64,
    )


def decoded(traffic: list[Datagram], first_order: int = 0) -> Decoded:
    return decode(batch(traffic), first_order, directions_of(traffic))


def as_rows(traffic: list[Datagram], found: Decoded) -> list[tuple[int, int, int, int, bytes]]:
    """Place, type, number, offset and captured payload of each message."""
    buffer = batch(traffic).buffer
    part = found.messages
    return [
        (
            int(part.order[row]),
            int(part.type[row]),
            int(part.seqno[row]),
            int(part.start[row]),
            payload(buffer, part, row),
        )
        for row in range(len(part))
    ]


def walked(traffic: list[Datagram]) -> list[tuple[int, int, int, int, bytes]]:
    """The same by wire.py, one datagram after the other."""
    return [
        (place, message.type, message.seqno, message.offset, seen.kept[message.start : message.end])
        for place, seen in enumerate(traffic)
        if seen.dport != formats.ACK_PORT
        for message in wire.messages(seen.kept, len(seen.payload))
        if message.offset <= MAX_OFFSET
    ]


def acked(traffic: list[Datagram]) -> list[tuple[int, int]]:
    return [
        (place, seqno)
        for place, seen in enumerate(traffic)
        if seen.dport == formats.ACK_PORT
        for seqno in wire.acks(seen.kept, len(seen.payload))
    ]


def test_a_dump_is_decoded_message_by_message_and_ack_by_ack():
    traffic = DUMP.traffic()
    found = decoded(traffic)
    assert as_rows(traffic, found) == walked(traffic)
    assert (found.malformed, found.snapped) == (0, 0)
    assert list(zip(found.acks.order, found.acks.seqno, strict=True)) == acked(traffic)
    assert len(found.acks) == len(found.messages) == 17


def test_places_go_on_from_the_batches_before():
    found = decoded(DUMP.traffic(), first_order=1000)
    assert found.messages.order[0] == 1000
    assert found.acks.order[0] == 1001


def test_super_frames_of_messages_and_of_acks_are_taken_apart():
    single, merged = DUMP.traffic(), coalesced(DUMP.traffic())
    assert len(merged) < len(single) / 3
    found = decoded(merged)
    assert as_rows(merged, found) == walked(merged)
    assert [row[1:] for row in as_rows(merged, found)] == [row[1:] for row in walked(single)]
    assert found.acks.seqno.tolist() == [seqno for _, seqno in acked(single)]
    assert found.malformed == 0


def test_a_payload_knows_how_much_was_sent_though_a_snap_length_cut_it():
    traffic = snapped(DUMP.traffic(), 100)
    found = decoded(traffic)
    vmcore = found.messages[found.messages.type == formats.VMCORE]
    assert (vmcore.end - vmcore.start).tolist() == [76] * 14
    assert (vmcore.sent_end - vmcore.start).tolist() == [1448] * 13 + [20_000 - 13 * 1448]
    assert found.snapped == 15  # and the header
    assert found.malformed == 0


def test_a_header_cut_by_a_snap_length_counts_as_snapped_not_as_malformed():
    found = decoded([DUMP.message(formats.VMCORE, 5, 0, b"data")._replace(captured=20)])
    assert (len(found.messages), found.malformed, found.snapped) == (0, 0, 1)


@pytest.mark.parametrize(
    "damaged",
    [
        wire.header(formats.VMCORE, 1, 0, 5) + b"four",
        wire.header(formats.VMCORE, 1, 0, 3) + b"four",
        wire.header(formats.VMCORE, 1, 0, 0xFFFFFFFF) + b"four",
        wire.header(0, 1, 0, 4) + b"four",
        wire.header(6, 1, 0, 4) + b"four",
        wire.header(formats.VMCORE, 1, MAX_OFFSET + 1, 4) + b"four",
        wire.header(formats.VMCORE, 1, (1 << 64) - 1, 4) + b"four",
        wire.header(formats.VMCORE, 1, 0, 0)[:-1],
        b"runt",
    ],
    ids=lambda damaged: damaged.hex()[:60],
)
def test_what_no_server_would_answer_is_ignored_and_counted(damaged):
    good = DUMP.message(formats.VMCORE, 9, 0, b"good")
    traffic = [good, good._replace(payload=damaged), good]
    found = decoded(traffic)
    assert found.malformed == 1
    assert [row[0] for row in as_rows(traffic, found)] == [0, 2]


def test_an_implausible_offset_in_a_super_frame_is_ignored_and_counted_too():
    far = wire.header(formats.VMCORE, 2, MAX_OFFSET + 1, 4) + b"four"
    near = wire.header(formats.VMCORE, 1, 0, 4) + b"four"
    found = decoded([DUMP.message(formats.VMCORE, 1)._replace(payload=near + far + near)])
    assert found.malformed == 1
    assert found.messages.start.tolist() == [0, 0]


def test_rubbish_behind_good_messages_is_counted():
    good = wire.header(formats.VMCORE, 1, 0, 4) + b"four"
    found = decoded([DUMP.message(formats.VMCORE, 1)._replace(payload=good + bytes(30))])
    assert (len(found.messages), found.malformed) in ((0, 1), (1, 1))


@pytest.mark.parametrize("size", [0, 1, 3, 5, 7])
def test_sizes_that_are_no_multiple_of_four_are_no_acks(size):
    found = decoded([DUMP.ack(7)._replace(payload=bytes(size))])
    assert len(found.acks) == 0


def test_where_both_ways_use_one_pair_of_ports_the_size_tells():
    dump = Dump(vmcore=b"data", server_port=formats.ACK_PORT)
    traffic = [dump.message(formats.VMCORE, 3, 0, b"data"), dump.ack(3)]
    found = decode(batch(traffic), 0, np.array([Direction.BOTH, Direction.BOTH]))
    assert found.messages.seqno.tolist() == [3]
    assert found.acks.seqno.tolist() == [3]


def test_other_flows_are_left_alone():
    traffic = DUMP.traffic()
    found = decode(batch(traffic), 0, np.zeros(len(batch(traffic).flows), np.int64))
    assert (len(found.messages), len(found.acks), found.malformed) == (0, 0, 0)


def test_an_empty_batch_holds_nothing():
    found = decoded([])
    assert (len(found.messages), len(found.acks)) == (0, 0)


def test_columns_are_taken_by_rows_masks_and_slices():
    found = decoded(DUMP.traffic())
    for columns in (found.messages, found.acks):
        assert isinstance(columns, Messages | Acks)
        wanted = columns.order.tolist()[2:5]
        for rows in (slice(2, 5), np.array([2, 3, 4]), np.isin(columns.order, wanted)):
            assert columns[rows].order.tolist() == wanted


payloads = st.one_of(
    st.binary(max_size=80),
    st.lists(
        st.builds(
            lambda kind, seqno, offset, data: wire.header(kind, seqno, offset, len(data)) + data,
            st.integers(0, 6),
            st.integers(0, 2**32 - 1),
            st.one_of(st.integers(0, 1000), st.integers(0, 2**64 - 1)),
            st.binary(max_size=40),
        ),
        min_size=1,
        max_size=3,
    ).map(b"".join),
)


@given(st.lists(st.tuples(payloads, st.one_of(st.none(), st.integers(0, 90))), max_size=12))
def test_any_bytes_are_decoded_as_the_walk_does(seen):
    traffic = [
        DUMP.message(formats.VMCORE, 1)._replace(
            payload=data, captured=None if cut is None else min(cut, len(data))
        )
        for data, cut in seen
    ]
    assert as_rows(traffic, decoded(traffic)) == walked(traffic)


@given(st.lists(st.tuples(st.lists(st.integers(0, 2**32 - 1)), st.integers(0, 3)), max_size=8))
def test_any_acks_are_decoded_as_the_walk_does(seen):
    traffic = [
        DUMP.ack(0)._replace(payload=struct.pack(f"!{len(seqnos)}I", *seqnos) + bytes(rest))
        for seqnos, rest in seen
    ]
    found = decoded(traffic)
    assert list(zip(found.acks.order, found.acks.seqno, strict=True)) == acked(traffic)
