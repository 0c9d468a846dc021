# SPDX-License-Identifier: GPL-2.0-or-later
"""wire.runs: many datagrams at once, against each by itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump import wire
from scapy_netdump.formats import EKCD_KEY, FINISHED, VMCORE
from scapy_netdump.wire import ACK_SIZE, HEADER_SIZE, Run, runs

Row = tuple[int, bytes, int, int, int]


def together(datagrams: list[bytes]) -> tuple[list[Row], int]:
    """Messages as `runs` finds them: type, seqno, offset, and where the payload is."""
    found, malformed = runs(memoryview(b"".join(datagrams)), [len(data) for data in datagrams])
    return [row for run in found for row in rows(run)], malformed


def rows(run: Run) -> list[Row]:
    step = HEADER_SIZE + run.size
    assert len(run.seqnos) == ACK_SIZE * run.number
    return [
        (
            run.type,
            run.seqnos[place * ACK_SIZE : (place + 1) * ACK_SIZE],
            run.offset + place * run.size,
            run.start + place * step,
            run.start + place * step + run.size,
        )
        for place in range(run.number)
    ]


def apart(datagrams: list[bytes]) -> tuple[list[Row], int]:
    """The same, one datagram after the other, by `messages`: none of them holds two."""
    found: list[Row] = []
    bad = position = 0
    for data in datagrams:
        each = wire.messages(data)
        if len(each) != 1 or wire.malformed(each, data):
            each = []
        bad += not each
        found += [
            (m.type, wire.ack(m.seqno), m.offset, position + m.start, position + m.end)
            for m in each
        ]
        position += len(data)
    return found, bad


def series(kind: int, first: int, offset: int, size: int, number: int) -> list[bytes]:
    return [
        wire.header(kind, (first + i) % 2**32, offset + i * size, size) + bytes(size)
        for i in range(number)
    ]


numbers = st.sampled_from([0, 1, 2**32 - 30, 2**32 - 1])
offsets = st.sampled_from([0, 4096, 2**32 - 64, 2**40, 2**63 - 4, 2**64 - 90])
some_series = st.builds(
    series,
    st.sampled_from([VMCORE, EKCD_KEY, FINISHED, 9]),
    numbers,
    offsets.filter(lambda offset: offset < 2**64 - 80 * 20) | st.integers(0, 2**40),
    st.integers(0, 20),
    st.integers(1, 70),
)


@st.composite
def traffic(draw: st.DrawFn) -> list[bytes]:
    """Series of messages, some coalesced, some spoiled, some in the wrong order."""
    datagrams: list[bytes] = []
    for _ in range(draw(st.integers(1, 4))):
        part = draw(some_series)
        match draw(st.integers(0, 4)):
            case 0:
                part = [b"".join(part)]
            case 1:
                part = [b"".join(part) + draw(st.binary(max_size=60))]
            case 2:
                place = draw(st.integers(0, len(part) - 1))
                part[place] = draw(st.binary(min_size=len(part[place]), max_size=len(part[place])))
            case 3:
                part = draw(st.permutations(part))
        datagrams += part
    return datagrams


@given(traffic())
def test_runs_are_the_messages_of_each_datagram(datagrams):
    assert together(datagrams) == apart(datagrams)


@given(st.lists(st.binary(max_size=80), max_size=20))
def test_any_bytes_are_walked_as_each_datagram_by_itself(datagrams):
    assert together(datagrams) == apart(datagrams)


def test_datagrams_in_order_are_few_runs():
    datagrams = series(VMCORE, 2, 0, 1448, 45)
    found, _ = runs(memoryview(b"".join(datagrams)), [len(data) for data in datagrams])
    assert [(run.offset, run.size, run.number) for run in found] == [(0, 1448, 45)]


@given(st.binary(max_size=80) | some_series.flatmap(st.sampled_from) | some_series.map(b"".join))
def test_a_message_is_alone_if_it_is_all_that_a_walk_finds(data):
    found = wire.messages(data)
    one = len(found) == 1 and not wire.malformed(found, data)
    assert wire.alone(memoryview(data)) == (found[0] if one else None)


def test_a_hole_or_a_message_out_of_order_costs_no_more_than_another_run():
    sent = series(VMCORE, 2, 0, 1448, 44)
    late = [*sent[:10], *sent[11:30], sent[10], *sent[30:]]
    expected = [(0, 10), (11 * 1448, 19), (10 * 1448, 1), (30 * 1448, 14)]
    found, _ = runs(memoryview(b"".join(late)), [len(data) for data in late])
    assert [(run.offset, run.number) for run in found] == expected


def test_a_bad_datagram_among_others_costs_itself_alone():
    sent = series(VMCORE, 2, 0, 1000, 10)
    sent[1] = sent[1][:16] + b"\0\0\3\xe7" + sent[1][20:]  # its len is 999
    found, malformed = runs(memoryview(b"".join(sent)), [len(data) for data in sent])
    assert sum(run.number for run in found) == 9
    assert malformed == 1
