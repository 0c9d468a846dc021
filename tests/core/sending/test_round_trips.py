# SPDX-License-Identifier: GPL-2.0-or-later
"""RFC 6298, by its own rules; Karn's rule by a sender that must ignore an ack."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.core.sending.flight import Flight
from scapy_netdump.core.sending.round_trips import MIN_TIMEOUT, RoundTrips


def test_before_anything_is_measured_it_is_the_longest() -> None:
    assert RoundTrips(1.0).timeout == 1.0


def test_the_first_measurement() -> None:
    trips = RoundTrips(10.0)
    trips.measured(0.5)
    assert (trips.smoothed, trips.variation) == (0.5, 0.25)
    assert trips.timeout == pytest.approx(0.5 + 4 * 0.25)


def test_the_next_measurement() -> None:
    trips = RoundTrips(10.0)
    trips.measured(0.5)
    trips.measured(0.9)
    assert trips.variation == pytest.approx(0.75 * 0.25 + 0.25 * 0.4)
    assert trips.smoothed == pytest.approx(0.875 * 0.5 + 0.125 * 0.9)
    assert trips.shortest == 0.5
    assert trips.latest == 0.9


def test_it_doubles_with_each_time_out_until_something_is_answered() -> None:
    trips = RoundTrips(1.0)
    trips.measured(0.001)
    seen = []
    for _ in range(5):
        seen.append(trips.timeout)
        trips.timed_out()
    assert seen == [MIN_TIMEOUT, 2 * MIN_TIMEOUT, 4 * MIN_TIMEOUT, 1.0, 1.0]
    trips.answered()
    assert trips.timeout == MIN_TIMEOUT


@given(st.lists(st.floats(1e-6, 100), max_size=50), st.floats(0.3, 10))
def test_it_stays_within_its_bounds(measured: list[float], longest: float) -> None:
    trips = RoundTrips(longest)
    for number, seconds in enumerate(measured):
        trips.measured(seconds)
        assert MIN_TIMEOUT <= trips.timeout <= longest
        assert trips.shortest == pytest.approx(min(measured[: number + 1]))


def test_what_was_sent_twice_is_not_measured() -> None:
    trips = RoundTrips(1.0)
    flight = Flight(trips)
    flight.sent(1, 2, 0.0)
    flight.give_up_last()
    flight.sent_again([1], 1.0)
    assert flight.acked([1], 1.01) == [1]
    assert trips.shortest == 0.0
    flight.sent(2, 3, 2.0)
    flight.acked([2], 2.25)
    assert trips.smoothed == 0.25
