# SPDX-License-Identifier: GPL-2.0-or-later
"""The classic capture file: byte orders, resolutions, damage, and where reading goes on."""

from __future__ import annotations

import struct
from random import Random

import pytest
from helpers.captures import ETHERNET, cut_at, frames_in, pcap_header, record, small_windows
from helpers.traffic import Dump, header, pcap
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.errors import CaptureError

SECOND = 1_700_000_000


def frame(number: int, size: int = 90) -> bytes:
    """A frame whose content tells which one it is."""
    return bytes(12) + b"\x08\x00" + struct.pack(">I", number) + Random(number).randbytes(size - 18)


def records(numbers: range, order: str = "<", size: int = 90) -> bytes:
    return b"".join(
        record(frame(number, size), (SECOND, number), order=order) for number in numbers
    )


@pytest.mark.parametrize("nano", [False, True], ids=["microseconds", "nanoseconds"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("careful", [False, True])
def test_both_byte_orders_and_both_resolutions_are_read(
    order: str, nano: bool, careful: bool
) -> None:
    data = pcap_header(order, nano) + record(b"abcd", (SECOND, 250_000), 60, order)
    seen, problems = frames_in(data, careful=careful)
    assert problems == []
    time, content, original, link = seen[0]
    assert time == pytest.approx(SECOND + (0.00025 if nano else 0.25), abs=1e-6)
    assert (content, original, link) == (b"abcd", 60, ETHERNET)


def test_the_link_type_is_the_low_half_of_its_word_the_rest_is_about_checksums() -> None:
    seen, _ = frames_in(pcap_header(link=0x5400_0071) + record(b"abcd"))
    assert seen[0].link == 113


def test_a_capture_without_a_record_is_sound() -> None:
    assert frames_in(pcap_header()) == ([], [])


def test_an_original_length_below_the_included_one_is_raised_to_it() -> None:
    seen, _ = frames_in(pcap_header() + record(b"abcdef", original=2))
    assert seen[0].original == 6


@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "stream"])
@pytest.mark.parametrize("careful", [False, True])
def test_a_capture_cut_at_any_byte_yields_exactly_the_records_before(
    mapped: bool, careful: bool
) -> None:
    whole = [frame(number, size) for number, size in enumerate((60, 18, 77, 100))]
    ends = [24]
    data = pcap_header()
    for content in whole:
        data += record(content)
        ends.append(len(data))
    for cut in range(24, len(data) + 1):
        seen, problems = frames_in(data[:cut], careful=careful, mapped=mapped)
        complete = sum(end <= cut for end in ends) - 1
        assert [one.data for one in seen] == whole[:complete]
        rest = cut - ends[complete]
        assert problems == (cut_at(ends[complete], rest) if rest else [])


@pytest.mark.parametrize("size", range(1, 24))
def test_a_capture_cut_within_its_header_is_no_capture(size: int) -> None:
    with pytest.raises(CaptureError, match="neither pcap nor pcapng"):
        frames_in(pcap_header()[:size])


@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "stream"])
@pytest.mark.parametrize("careful", [False, True])
@pytest.mark.parametrize("claimed", [300_000, 0x7FFFFFFF, 0xFFFFFFFF])
def test_records_after_one_of_impossible_length_are_found_again(
    claimed: int, careful: bool, mapped: bool
) -> None:
    before, after = records(range(10)), records(range(11, 30))
    bad = record(frame(10), (SECOND, 10), included=claimed)
    seen, problems = frames_in(pcap_header() + before + bad + after, careful=careful, mapped=mapped)
    assert [one.data for one in seen] == [frame(number) for number in range(30) if number != 10]
    place = 24 + len(before)
    assert problems == [f"bad record length {claimed} at byte {place}: {len(bad)} bytes skipped"]


@pytest.mark.parametrize("second", [0, SECOND - 10 * 365 * 86_400, 0xFFFFFFFF])
def test_a_damaged_time_before_damage_does_not_hide_what_follows(second: int) -> None:
    odd, bad = record(frame(9), (second, 0)), record(frame(10), included=0xFFFFFFFF)
    data = pcap_header() + records(range(9)) + odd + bad + records(range(11, 30))
    seen, _ = frames_in(data)
    assert [one.data for one in seen] == [frame(number) for number in range(30) if number != 10]


@pytest.mark.parametrize("careful", [False, True])
@pytest.mark.parametrize("left", [1, 2, 3, 4])
def test_even_the_last_few_records_are_found_after_damage(left: int, careful: bool) -> None:
    bad = record(frame(10), included=0xFFFFFFFF)
    data = pcap_header() + records(range(10)) + bad + records(range(11, 11 + left))
    seen, _ = frames_in(data, careful=careful)
    assert [one.data for one in seen[10:]] == [frame(11 + number) for number in range(left)]


@pytest.mark.parametrize("careful", [False, True])
def test_records_are_found_behind_one_that_claims_to_reach_beyond_the_end(careful: bool) -> None:
    bad = record(frame(10), (SECOND, 10), included=200_000)
    data = pcap_header() + records(range(10)) + bad + records(range(11, 30))
    seen, problems = frames_in(data, careful=careful)
    assert [one.data for one in seen] == [frame(number) for number in range(30) if number != 10]
    assert len(problems) == 1
    assert problems[0].endswith(f": {len(bad)} bytes skipped")


@pytest.mark.parametrize("careful", [False, True])
@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "stream"])
def test_damage_that_spans_windows_is_got_over(mapped: bool, careful: bool) -> None:
    noise = b"\xff" * 50_000
    before, after = records(range(200)), records(range(200, 400))
    with small_windows(4096):
        seen, problems = frames_in(
            pcap_header() + before + noise + after, careful=careful, mapped=mapped
        )
    assert [one.data for one in seen] == [frame(number) for number in range(400)]
    assert len(problems) == 1
    assert problems[0].endswith(f": {len(noise)} bytes skipped")


def test_damage_up_to_the_end_is_said_in_full() -> None:
    data = pcap_header() + records(range(10)) + b"\xff" * 2_000_000
    seen, problems = frames_in(data)
    assert len(seen) == 10
    assert len(problems) == 1
    assert problems[0].endswith(": the last 2000000 bytes left out")


@pytest.mark.parametrize("snaplen", [0, 1 << 27, 0x7FFFFFFF, 0xFFFFFFFF])
@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "stream"])
def test_a_record_longer_than_any_window_ends_no_reading(snaplen: int, mapped: bool) -> None:
    data = pcap_header(snaplen=snaplen) + record(b"x" * 40_000_000) + records(range(100))
    seen, problems = frames_in(data, mapped=mapped)
    assert [one.data for one in seen[-100:]] == [frame(number) for number in range(100)]
    assert problems


def test_a_snap_length_above_the_usual_one_allows_longer_records() -> None:
    data = pcap_header(snaplen=1 << 20) + record(b"x" * 1_000_000)
    assert [len(one.data) for one in frames_in(data)[0]] == [1_000_000]


def test_many_places_of_damage_are_counted_not_listed() -> None:
    bad = record(frame(0), included=0xFFFFFFFF)
    data = pcap_header() + b"".join(records(range(10)) + bad for _ in range(50)) + records(range(9))
    seen, problems = frames_in(data)
    assert len(seen) == 50 * 10 + 9
    assert len(problems) < 20
    assert "more" in problems[-1]


# chain: many stretches at once


@given(
    sizes=st.lists(st.integers(18, 300), min_size=20, max_size=120),
    window=st.integers(400, 5000),
    order=st.sampled_from("<>"),
    mapped=st.booleans(),
)
def test_many_lanes_find_what_one_finds_wherever_windows_cut(
    sizes: list[int], window: int, order: str, mapped: bool
) -> None:
    contents = [frame(number, size) for number, size in enumerate(sizes)]
    data = pcap_header(order) + b"".join(
        record(content, (SECOND, number), order=order) for number, content in enumerate(contents)
    )
    with small_windows(window, lane_spacing=100, min_lanes=2):
        seen, problems = frames_in(data, mapped=mapped)
    assert [one.data for one in seen] == contents
    assert problems == []


@given(seed=st.integers(0, 1 << 32), mapped=st.booleans())
def test_payloads_full_of_frame_beginnings_and_records_do_not_mislead_the_lanes(
    seed: int, mapped: bool
) -> None:
    random = Random(seed)
    beginning = bytes(12) + b"\x08\x00"
    baits = [
        beginning,
        record(beginning + bytes(4)),
        record(beginning, included=random.choice([0, 1, 40, 0xFFFFFFF0, 0xFFFFFFFF])),
        bytes(16) + beginning,
    ]
    contents = [
        beginning + b"".join(random.choices(baits, k=random.randrange(8)))
        for _ in range(random.randrange(20, 100))
    ]
    data = pcap_header() + b"".join(map(record, contents))
    with small_windows(2000, lane_spacing=60, min_lanes=2):
        seen, problems = frames_in(data, mapped=mapped)
    assert [one.data for one in seen] == contents
    assert problems == []


@given(seed=st.integers(0, 1 << 32), count=st.integers(1, 6), lanes=st.booleans())
def test_damaged_bytes_never_raise_and_both_ways_agree_on_what_is_left(
    seed: int, count: int, lanes: bool
) -> None:
    random = Random(seed)
    data = bytearray(pcap(Dump(vmcore=random.randbytes(8000), kdh=header(8000)).traffic()))
    for _ in range(count):
        data[random.randrange(24, len(data))] = random.randrange(256)
    with small_windows(1 << 16, lane_spacing=100 if lanes else 1 << 14, min_lanes=2):
        assert frames_in(bytes(data)) == frames_in(bytes(data), careful=True)


@given(st.binary(max_size=400))
def test_noise_behind_a_file_header_never_raises(noise: bytes) -> None:
    frames_in(pcap_header() + noise)
