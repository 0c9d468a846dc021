# SPDX-License-Identifier: GPL-2.0-or-later
"""Capture files as batches: what is counted, what is said, and what never happens."""

from __future__ import annotations

from random import Random

import pytest
from helpers.captures import (
    StreamSource,
    datagrams_in,
    enhanced,
    frames_in,
    interface,
    opened,
    pcap_header,
    record,
    section,
    seen_in,
    small_windows,
)
from helpers.traffic import Dump, header, pcap, pcapng
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.capture.datagrams import DatagramFinder
from scapy_netdump.capture.reader import CaptureReader
from scapy_netdump.errors import CaptureError

DUMP = Dump(vmcore=Random(0).randbytes(100_000), kdh=header(100_000), path=b"lab\0")
PCAP, PCAPNG = pcap(DUMP.traffic()), pcapng(DUMP.traffic())
FORMATS = pytest.mark.parametrize("data", [PCAP, PCAPNG], ids=["pcap", "pcapng"])
MAPPED = pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "stream"])


@FORMATS
@MAPPED
def test_windows_lanes_and_care_make_no_difference(data: bytes, mapped: bool) -> None:
    whole = datagrams_in(data, mapped=mapped)
    assert len(whole) == len(DUMP.traffic())
    assert datagrams_in(data, careful=True, mapped=mapped) == whole
    for window in (1600, 1601, 4096, 50_000):
        with small_windows(window, lane_spacing=3000, min_lanes=2):
            assert datagrams_in(data, mapped=mapped) == whole


@FORMATS
@pytest.mark.parametrize("content", [b"", b"x", b"a file of text\n" * 10, bytes(1000)])
def test_what_is_no_capture_is_refused(content: bytes, data: bytes) -> None:
    """Whether it is empty, text, or a capture without its beginning."""
    for wrong in (content, data[1:]):
        with pytest.raises(CaptureError, match=r"not a capture|empty"):
            frames_in(wrong)


def test_a_link_layer_that_is_not_understood_is_named_once() -> None:
    data = section() + interface(1) + interface(147) + interface(195)
    data += enhanced(b"x" * 60) + enhanced(b"y" * 60, number=1) * 3 + enhanced(b"z", number=2)
    seen, problems = frames_in(data)
    assert len(seen) == 5
    assert problems == ["link type 147 is not understood", "link type 195 is not understood"]


def test_position_and_frames_tell_how_far_it_has_come() -> None:
    with small_windows(4000), opened(PCAP, mapped=True) as source:
        reader = CaptureReader(source, DatagramFinder())
        positions = []
        for _ in reader:
            positions.append(reader.position)
            assert reader.ended == (reader.position + 4000 >= len(PCAP))
    assert positions == sorted(positions)
    assert reader.position == len(PCAP)
    assert reader.frames == len(DUMP.traffic())


@MAPPED
@FORMATS
def test_a_batch_stays_as_it_is_until_two_more_were_taken(data: bytes, mapped: bool) -> None:
    """Also where windows full of noise lie between."""
    half = len(data) // 2
    damaged = data[:half] + b"\xff" * 20_000 + data[half:]
    held = []
    with small_windows(4000), opened(damaged, mapped) as source:
        for batch in CaptureReader(source, DatagramFinder()):
            held = [*held[-2:], (batch, seen_in(batch))]
            for earlier, content in held:
                assert seen_in(earlier) == content


def test_a_damaged_stream_says_what_its_source_says() -> None:
    class BrokenSource(StreamSource):
        problem = "cannot be read any further: Input/output error"

    reader = CaptureReader(BrokenSource(PCAP[:500]), DatagramFinder())
    for _ in reader:
        pass
    assert reader.problems[-1] == "stream: cannot be read any further: Input/output error"


@given(
    seed=st.integers(0, 1 << 32),
    mapped=st.booleans(),
    ng=st.booleans(),
    window=st.sampled_from([2000, 8000, 1 << 16]),
)
def test_noise_put_in_anywhere_costs_at_most_the_records_it_hits(
    seed: int, mapped: bool, ng: bool, window: int
) -> None:
    random = Random(seed)
    contents = [random.randbytes(random.randrange(20, 300)) for _ in range(60)]
    pieces = (
        [section() + interface(), *(enhanced(one) for one in contents)]
        if ng
        else [pcap_header(), *(record(one) for one in contents)]
    )
    place = random.randrange(1, len(pieces))
    noise = random.randbytes(random.randrange(1, 5000))
    data = b"".join([*pieces[:place], noise, *pieces[place:]])
    with small_windows(max(window, 2000)):
        seen, problems = frames_in(data, mapped=mapped)
    found = [one.data for one in seen if one.data in contents]
    assert len(found) >= len(contents) - 4
    assert problems
