# SPDX-License-Identifier: GPL-2.0-or-later
"""pcapng: sections, interfaces, kinds of packet blocks, damage, and where reading goes on."""

from __future__ import annotations

import struct
from random import Random

import pytest
from helpers.captures import (
    CUSTOM,
    ENHANCED,
    INTERFACE,
    NAMES,
    SECTION,
    STATISTICS,
    block,
    cut_at,
    enhanced,
    frames_in,
    interface,
    old_packet,
    option,
    section,
    simple,
    small_windows,
)
from helpers.traffic import Dump, header, pcapng
from hypothesis import given
from hypothesis import strategies as st

BEGINNING = bytes(12) + b"\x08\x00"


def frame(number: int, size: int = 90) -> bytes:
    return BEGINNING + struct.pack(">I", number) + Random(number).randbytes(size - 18)


def packets(numbers: range) -> bytes:
    return b"".join(enhanced(frame(number), number) for number in numbers)


def contents(data: bytes, careful: bool = False, mapped: bool = True) -> list[bytes]:
    return [one.data for one in frames_in(data, careful=careful, mapped=mapped)[0]]


def expected(*numbers: range) -> list[bytes]:
    return [frame(number) for some in numbers for number in some]


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("careful", [False, True])
def test_all_kinds_of_packet_blocks_are_read(order: str, careful: bool) -> None:
    data = (
        section(order)
        + interface(order=order)
        + enhanced(b"enhanced", 3_000_000, original=100, order=order)
        + old_packet(b"old", 5_000_000, order=order)
        + simple(b"simple", order=order)
    )
    seen, problems = frames_in(data, careful=careful)
    assert problems == []
    assert [tuple(one) for one in seen] == [
        (3.0, b"enhanced", 100, 1),
        (5.0, b"old", 3, 1),
        (5.0, b"simple", 6, 1),  # has no time of its own
    ]


def test_a_simple_packet_is_cut_to_the_snap_length_of_the_first_interface() -> None:
    data = section() + interface(snaplen=4) + interface(snaplen=2) + simple(b"abcd", original=90)
    seen, problems = frames_in(data)
    assert (seen[0].data, seen[0].original, problems) == (b"abcd", 90, [])


def test_sections_may_differ_in_byte_order_and_interfaces() -> None:
    data = b"".join(
        section(order) + interface(link, order=order) + enhanced(text, order=order)
        for order, link, text in [("<", 1, b"one"), (">", 113, b"two"), ("<", 101, b"three")]
    )
    seen, problems = frames_in(data)
    assert [(one.data, one.link) for one in seen] == [(b"one", 1), (b"two", 113), (b"three", 101)]
    assert problems == []


RESOLUTIONS = {
    "default": (b"", 1e6),
    "milliseconds": (option(9, b"\x03"), 1e3),
    "nanoseconds": (option(9, b"\x09"), 1e9),
    "binary": (option(9, b"\x94"), 2.0**20),
}


@pytest.mark.parametrize("kind", RESOLUTIONS)
@pytest.mark.parametrize("lanes", [False, True])
def test_time_is_told_in_the_interfaces_resolution(kind: str, lanes: bool) -> None:
    options, ticks = RESOLUTIONS[kind]
    data = section() + interface(options=options)
    data += b"".join(enhanced(frame(number), int((1000 + number) * ticks)) for number in range(60))
    with small_windows(1 << 16, lane_spacing=100, min_lanes=2 if lanes else 1 << 30):
        seen, _ = frames_in(data)
    assert [one.time for one in seen] == [1000.0 + number for number in range(60)]


def test_interfaces_are_told_apart_on_both_paths() -> None:
    data = section() + interface(1) + interface(113, options=option(9, b"\x03"))
    data += interface(101, options=option(14, struct.pack("<q", 1000)))
    data += b"".join(enhanced(frame(number), 5_000, number % 3) for number in range(90))
    with small_windows(1 << 12, lane_spacing=100, min_lanes=2):
        seen, problems = frames_in(data)
    assert (seen, problems) == frames_in(data, careful=True)
    assert [(one.link, one.time) for one in seen] == 30 * [(1, 0.005), (113, 5.0), (101, 1000.005)]


@pytest.mark.parametrize("ticks", [0, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_any_time_is_the_same_on_both_paths(ticks: int) -> None:
    data = section() + interface() + b"".join(enhanced(frame(n), ticks) for n in range(60))
    with small_windows(1 << 16, lane_spacing=100, min_lanes=2):
        assert frames_in(data) == frames_in(data, careful=True)


def test_options_comments_and_unknown_blocks_are_skipped() -> None:
    comment = option(1, b"a comment") + option(0, b"")
    data = (
        section(options=option(2, b"hardware") + comment)
        + block(CUSTOM, b"\0\0\x7f\xffanything")
        + interface(options=option(2, b"em0") + option(9, b"\x06") + comment)
        + block(NAMES, bytes(8))
        + enhanced(b"packet", options=comment)
        + block(0x80001234, b"local use")
        + block(STATISTICS, bytes(12))
        + block(10, b"decryption secrets" * 1000)
        + simple(b"another")
    )
    assert frames_in(data)[1] == []
    assert contents(data) == [b"packet", b"another"]


@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "stream"])
@pytest.mark.parametrize("careful", [False, True])
def test_a_capture_cut_at_any_byte_yields_exactly_the_blocks_before(
    mapped: bool, careful: bool
) -> None:
    data = section() + interface()
    ends = [0, len(section()), len(data)]
    whole = [frame(number, size) for number, size in enumerate((60, 19, 77, 100))]
    for content in whole:
        data += enhanced(content)
        ends.append(len(data))
    for cut in range(4, len(data) + 1):
        seen, problems = frames_in(data[:cut], careful=careful, mapped=mapped)
        complete = sum(end <= cut for end in ends) - 1
        assert [one.data for one in seen] == whole[: max(0, complete - 2)]
        rest = cut - ends[complete]
        assert problems == (cut_at(ends[complete], rest) if rest else [])


def damaged(data: bytes, position: int, word: int) -> bytes:
    return data[:position] + struct.pack("<I", word) + data[position + 4 :]


HEAD = section() + interface()
DAMAGE = {
    "a length that is no multiple of four": (4, 0x7D),
    "a length of nothing": (4, 0),
    "a length beyond measure": (4, 0xFFFFFFFC),
    "a length beyond the end": (4, 0x100000),
    "another length at its end": (-4, 0x44),
}
CONTRADICTIONS = {
    "a packet longer than its block": (20, 0x1000),
    "an interface that was never described": (8, 7),
}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("way", ["careful", "slow", "lanes"])
def test_packets_after_a_damaged_block_are_found_again(kind: str, way: str) -> None:
    position, word = DAMAGE[kind]
    bad = enhanced(frame(30), 30)
    bad = damaged(bad, position % len(bad), word)
    data = HEAD + packets(range(30)) + bad + packets(range(31, 60))
    with small_windows(1 << 16, lane_spacing=100, min_lanes=2 if way == "lanes" else 1 << 30):
        seen, problems = frames_in(data, careful=way == "careful")
    assert [one.data for one in seen] == expected(range(30), range(31, 60))
    assert f"at byte {len(HEAD + packets(range(30)))}" in problems[0]


@pytest.mark.parametrize("kind", CONTRADICTIONS)
@pytest.mark.parametrize("way", ["careful", "slow", "lanes"])
def test_a_packet_block_that_contradicts_itself_is_left_out_alone(kind: str, way: str) -> None:
    bad = damaged(enhanced(frame(30), 30), *CONTRADICTIONS[kind])
    data = HEAD + packets(range(30)) + bad + packets(range(31, 60))
    with small_windows(1 << 16, lane_spacing=100, min_lanes=2 if way == "lanes" else 1 << 30):
        seen, problems = frames_in(data, careful=way == "careful")
    assert [one.data for one in seen] == expected(range(30), range(31, 60))
    assert problems == ["1 block left out for contradicting what they say of themselves"]


@pytest.mark.parametrize("careful", [False, True])
def test_bytes_lost_or_added_do_not_hide_the_blocks_after_them(careful: bool) -> None:
    for extra in (b"x", b"xy", b"xyz", b"xyzt" * 2):
        data = HEAD + packets(range(10)) + extra + packets(range(10, 20))
        assert contents(data, careful) == expected(range(20))


@pytest.mark.parametrize("careful", [False, True])
def test_a_section_of_the_other_byte_order_is_found_after_damage(careful: bool) -> None:
    other = section(">") + interface(order=">") + enhanced(b"other order", order=">")
    data = HEAD + packets(range(5)) + b"\xff" * 40 + other
    assert contents(data, careful) == [*expected(range(5)), b"other order"]


@pytest.mark.parametrize("careful", [False, True])
def test_a_damaged_byte_order_magic_is_damage_and_forgets_nothing(careful: bool) -> None:
    data = HEAD + packets(range(5)) + damaged(section(), 8, 0x12345678) + packets(range(5, 9))
    seen, problems = frames_in(data, careful=careful)
    assert [one.data for one in seen] == expected(range(9))
    assert "byte-order magic" in problems[0]


@pytest.mark.parametrize("careful", [False, True])
@pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "stream"])
def test_damage_that_spans_windows_is_got_over(mapped: bool, careful: bool) -> None:
    data = HEAD + packets(range(100)) + b"\xff" * 50_000 + packets(range(100, 200))
    with small_windows(4096):
        seen, problems = frames_in(data, careful=careful, mapped=mapped)
    assert [one.data for one in seen] == expected(range(200))
    assert len(problems) == 1
    assert problems[0].endswith(": 50000 bytes skipped")


@pytest.mark.parametrize("careful", [False, True])
def test_packets_of_an_interface_whose_description_was_lost_cost_no_others(careful: bool) -> None:
    lost = b"".join(enhanced(frame(n), number=1) for n in range(20_000))
    data = HEAD + packets(range(5)) + lost + packets(range(5, 9))
    assert contents(data, careful) == expected(range(9))


def test_a_length_of_nothing_within_a_lane_ends_the_lane() -> None:
    """What a lane follows may be a payload's bytes: four zeros must not hold it for ever."""
    bait = BEGINNING + block(ENHANCED, bytes(20) + BEGINNING)[:4] + bytes(24) + BEGINNING
    data = HEAD + b"".join(enhanced(bait * 3, number=0) for _ in range(60))
    with small_windows(1 << 14, lane_spacing=50, min_lanes=2):
        assert frames_in(data) == frames_in(data, careful=True)


@given(
    sizes=st.lists(st.integers(18, 300), min_size=20, max_size=120),
    window=st.integers(400, 5000),
    order=st.sampled_from("<>"),
    mapped=st.booleans(),
    others=st.booleans(),
)
def test_many_lanes_find_what_one_finds_wherever_windows_cut(
    sizes: list[int], window: int, order: str, mapped: bool, others: bool
) -> None:
    whole = [frame(number, size) for number, size in enumerate(sizes)]
    data = section(order) + interface(order=order)
    for number, content in enumerate(whole):
        data += enhanced(content, number, order=order)
        if others and number % 7 == 0:
            data += block(STATISTICS, bytes(12), order)
    with small_windows(window, lane_spacing=100, min_lanes=2):
        seen, problems = frames_in(data, mapped=mapped)
    assert [one.data for one in seen] == whole
    assert problems == []


@given(seed=st.integers(0, 1 << 32), mapped=st.booleans())
def test_payloads_full_of_frame_beginnings_and_blocks_do_not_mislead_the_lanes(
    seed: int, mapped: bool
) -> None:
    random = Random(seed)
    baits = [BEGINNING, enhanced(BEGINNING), bytes(28) + BEGINNING, section(">"), interface(101)]
    whole = [
        BEGINNING + b"".join(random.choices(baits, k=random.randrange(8)))
        for _ in range(random.randrange(20, 100))
    ]
    data = HEAD + b"".join(map(enhanced, whole))
    with small_windows(2000, lane_spacing=60, min_lanes=2):
        seen, problems = frames_in(data, mapped=mapped)
    assert [one.data for one in seen] == whole
    assert problems == []


@given(seed=st.integers(0, 1 << 32), count=st.integers(1, 6), lanes=st.booleans())
def test_damaged_bytes_never_raise_and_both_ways_agree_on_what_is_left(
    seed: int, count: int, lanes: bool
) -> None:
    random = Random(seed)
    data = bytearray(pcapng(Dump(vmcore=random.randbytes(8000), kdh=header(8000)).traffic()))
    for _ in range(count):
        data[random.randrange(4, len(data))] = random.randrange(256)
    with small_windows(1 << 16, lane_spacing=100 if lanes else 1 << 14, min_lanes=2):
        assert frames_in(bytes(data)) == frames_in(bytes(data), careful=True)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([SECTION, INTERFACE, 2, 3, NAMES, STATISTICS, ENHANCED, CUSTOM]),
            st.binary(max_size=60),
        ),
        max_size=8,
    ),
    st.sampled_from("<>"),
)
def test_blocks_of_noise_never_raise(blocks: list[tuple[int, bytes]], order: str) -> None:
    frames_in(section(order) + b"".join(block(kind, body, order) for kind, body in blocks))
