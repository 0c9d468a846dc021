# SPDX-License-Identifier: GPL-2.0-or-later
"""A bad network on purpose: as often as asked for, the same for the same seed."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump import wire
from scapy_netdump.core.sending.faults import Faults, Rates
from scapy_netdump.formats import VMCORE

SIZE = 100
MANY = 20_000


def numbered(count: int) -> bytes:
    return b"".join(number.to_bytes(SIZE, "big") for number in range(count))


def passed(faults: Faults, data: bytes, size: int = SIZE, burst: int = 40) -> list[bytes]:
    """Each datagram that comes out, sent in bursts."""
    runs = []
    for start in range(0, len(data), burst * size):
        runs += [
            (bytes(run.datagrams), run.size)
            for run in faults.through(data[start : start + burst * size], size)
        ]
    runs += [(bytes(run.datagrams), run.size) for run in faults.release()]
    return [data[at : at + size] for data, size in runs for at in range(0, len(data), size)]


def numbers(datagrams: list[bytes]) -> list[int]:
    return [int.from_bytes(datagram, "big") for datagram in datagrams]


def test_without_faults_a_burst_goes_through_as_it_is() -> None:
    data = numbered(44) + b"short"
    (run,) = Faults(Rates(), Random(0).random).through(data, SIZE)
    assert (run.datagrams, run.size) == (data, SIZE)


@pytest.mark.parametrize("rate", [0.01, 0.2])
def test_each_fault_is_as_frequent_as_asked_for(rate: float) -> None:
    faults = Faults(Rates(rate, rate, rate, rate), Random(1).random)
    passed(faults, numbered(MANY))
    for count in (faults.dropped, faults.reordered, faults.duplicated, faults.corrupted):
        assert count == pytest.approx(rate * MANY, rel=0.2)


def test_the_same_seed_makes_the_same_faults_however_bursts_are_cut() -> None:
    rates = Rates(0.0, 0.0, 0.1, 0.0)
    one, other = (
        passed(Faults(rates, Random(4).random), numbered(1000), burst=burst) for burst in (7, 40)
    )
    assert one == other
    assert one != passed(Faults(rates, Random(5).random), numbered(1000))


def test_loss_drops_and_changes_nothing_else() -> None:
    faults = Faults(Rates(loss=0.1), Random(2).random)
    arrived = numbers(passed(faults, numbered(1000)))
    assert arrived == sorted(set(arrived))
    assert len(arrived) == 1000 - faults.dropped


def test_duplicates_come_twice_in_a_row() -> None:
    faults = Faults(Rates(duplicate=0.1), Random(2).random)
    arrived = numbers(passed(faults, numbered(1000)))
    assert arrived == sorted(arrived)
    assert len(arrived) == 1000 + faults.duplicated
    assert sorted(set(arrived)) == list(range(1000))


def test_reordered_ones_are_overtaken_by_up_to_eight() -> None:
    faults = Faults(Rates(reorder=0.05), Random(2).random)
    arrived = numbers(passed(faults, numbered(1000)))
    assert sorted(arrived) == list(range(1000))
    late = [at for at, number in enumerate(arrived) if any(n > number for n in arrived[:at])]
    assert len(late) == pytest.approx(faults.reordered, abs=3)
    overtaken = [sum(n > arrived[at] for n in arrived[:at]) for at in late]
    assert max(overtaken) <= 8
    assert min(overtaken) >= 1


def test_what_is_held_back_comes_out_when_nothing_follows() -> None:
    faults = Faults(Rates(reorder=1.0), Random(0).random)
    assert faults.through(numbered(1), SIZE) == []
    assert faults.held == 1
    assert [bytes(run.datagrams) for run in faults.release()] == [numbered(1)]
    assert faults.held == 0


@given(st.integers(0, 1 << 32), st.integers(0, 1500))
def test_a_damaged_message_is_no_message(seed: int, length: int) -> None:
    message = wire.header(VMCORE, 7, 1 << 33, length) + bytes(length)
    (damaged,) = passed(Faults(Rates(corrupt=0.9999), Random(seed).random), message, len(message))
    if damaged != message:
        assert wire.messages(damaged) == []


@given(st.integers(0, 1 << 32))
def test_a_damaged_ack_is_no_ack(seed: int) -> None:
    (damaged,) = passed(Faults(Rates(corrupt=0.9999), Random(seed).random), wire.ack(7), 4)
    if damaged != wire.ack(7):
        assert wire.acks(damaged) == ()
        assert damaged


@given(
    st.builds(Rates, *[st.floats(0, 0.25)] * 4),
    st.integers(0, 1 << 32),
    st.integers(0, 500),
    st.integers(1, SIZE),
)
def test_nothing_is_lost_but_what_is_counted(
    rates: Rates, seed: int, count: int, last: int
) -> None:
    faults = Faults(rates, Random(seed).random)
    arrived = passed(faults, numbered(count) + bytes(last))
    assert len(arrived) == count + 1 - faults.dropped + faults.duplicated
