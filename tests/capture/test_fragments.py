# SPDX-License-Identifier: GPL-2.0-or-later
"""The limits of the Defragmenter: age, bytes, number, and fragments that contradict others."""

from __future__ import annotations

import pytest

from scapy_netdump.capture.fragments import Defragmenter, Fragment, Payload

UDP = 17
FIRST = Fragment(0, 16, False, UDP, b"0123456789abcdef")
LAST = Fragment(16, 4, True, UDP, b"last")
WHOLE = Payload(UDP, 20, b"0123456789abcdeflast")


def collect(defragmenter: Defragmenter, *arrivals: tuple[Fragment, float]) -> list[Payload]:
    """What fragments with the same key, each at its time, are put together to."""
    payloads = [defragmenter.add("key", fragment, time) for fragment, time in arrivals]
    return [payload for payload in payloads if payload]


def test_two_fragments_make_a_payload() -> None:
    assert collect(Defragmenter(), (FIRST, 0), (LAST, 0)) == [WHOLE]
    assert collect(Defragmenter(), (LAST, 0), (FIRST, 0)) == [WHOLE]


def test_a_fragment_that_comes_too_late_finds_nothing_to_join() -> None:
    defragmenter = Defragmenter(max_seconds=2)
    assert collect(defragmenter, (FIRST, 0), (LAST, 3)) == []
    assert defragmenter.dropped == 2


def test_time_that_runs_backwards_counts_as_too_late() -> None:
    assert collect(Defragmenter(max_seconds=2), (FIRST, 1000), (LAST, 0)) == []


@pytest.mark.parametrize("order", [(FIRST, FIRST, LAST, LAST), (FIRST, LAST, FIRST, LAST)])
def test_a_mirror_port_that_doubles_each_frame_doubles_no_datagram(
    order: tuple[Fragment, ...],
) -> None:
    defragmenter = Defragmenter()
    assert collect(defragmenter, *((fragment, 0) for fragment in order)) == [WHOLE]
    assert defragmenter.dropped == 0


def test_a_late_duplicate_does_not_become_part_of_the_next_datagram_with_its_id() -> None:
    other = FIRST._replace(data=b"FEDCBA9876543210"), 0.1
    end = LAST._replace(data=b"next"), 0.1
    found = collect(Defragmenter(), (FIRST, 0), (FIRST, 0), (LAST, 0), (LAST, 0), other, end)
    assert found == [WHOLE, Payload(UDP, 20, b"FEDCBA9876543210next")]


def test_the_first_fragment_names_the_protocol() -> None:
    [payload] = collect(Defragmenter(), (LAST._replace(protocol=6), 0), (FIRST, 0))
    assert payload.protocol == UDP


@pytest.mark.parametrize(
    "unsound",
    [
        FIRST._replace(length=0, data=b""),
        FIRST._replace(length=-5),
        FIRST._replace(length=15),
        LAST._replace(offset=65_528, length=8),
    ],
    ids=["empty", "negative", "not in eights", "beyond 64 KiB"],
)
def test_an_unsound_fragment_is_dropped_and_changes_nothing(unsound: Fragment) -> None:
    defragmenter = Defragmenter()
    assert collect(defragmenter, (unsound, 0), (FIRST, 0), (unsound, 0), (LAST, 0)) == [WHOLE]
    assert defragmenter.dropped == 2


@pytest.mark.parametrize(
    "contradiction",
    [
        Fragment(0, 8, True, UDP, b"too soon"),
        Fragment(16, 8, False, UDP, b"too long"),
        Fragment(16, 6, True, UDP, b"longer"),
    ],
)
def test_a_fragment_that_contradicts_the_end_is_dropped(contradiction: Fragment) -> None:
    middle = Fragment(8, 8, False, UDP, b"89abcdef")
    start = Fragment(0, 8, False, UDP, b"01234567")
    defragmenter = Defragmenter()
    found = collect(defragmenter, (LAST, 0), (middle, 0), (contradiction, 0), (start, 0))
    assert found == [WHOLE]
    assert defragmenter.dropped == 1


def test_the_oldest_make_room_when_there_are_too_many_bytes() -> None:
    defragmenter = Defragmenter(max_bytes=100)
    for key in range(100):
        defragmenter.add(key, FIRST, 0)
    assert defragmenter.add(0, LAST, 0) is None
    assert defragmenter.add(99, LAST, 0) == WHOLE


def test_the_oldest_make_room_when_there_are_too_many_fragments() -> None:
    defragmenter = Defragmenter(max_fragments=10)
    for key in range(100):
        defragmenter.add(key, FIRST, 0)
    assert defragmenter.add(0, LAST, 0) is None
    assert defragmenter.add(99, LAST, 0) == WHOLE


def test_datagrams_already_put_together_take_no_room_for_ever() -> None:
    defragmenter = Defragmenter(max_fragments=10)
    for key in range(1000):
        assert defragmenter.add(key, FIRST, 0) is None
        assert defragmenter.add(key, LAST, 0) == WHOLE
    assert defragmenter.reassembled == 1000
    assert defragmenter.dropped == 0
