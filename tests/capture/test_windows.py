# SPDX-License-Identifier: GPL-2.0-or-later
"""Windows: every byte once and in order, from a file or a stream, in constant memory."""

from __future__ import annotations

import os
from random import Random

import pytest
from helpers.captures import opened, small_windows
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.capture.source import open_source
from scapy_netdump.capture.windows import Windows

MAPPED = pytest.mark.parametrize("mapped", [True, False], ids=["mapped", "stream"])


@given(
    size=st.integers(1, 5000),
    window=st.integers(64, 900),
    left=st.integers(0, 60),
    mapped=st.booleans(),
)
def test_what_is_not_consumed_comes_again_in_the_next_window(
    size: int, window: int, left: int, mapped: bool
) -> None:
    data = Random(size).randbytes(size)
    taken = b""
    with small_windows(window), opened(data, mapped) as source:
        windows = Windows(source)
        for buffer, begin, end, origin, last in windows:
            content = buffer[begin:end].tobytes()
            assert content == data[origin + begin : origin + end]
            assert origin + begin == len(taken)
            consumed = end if last else max(begin, end - left)
            taken += buffer[begin:consumed].tobytes()
            windows.consumed = consumed
    assert taken == data


@MAPPED
def test_only_the_window_at_the_end_is_the_last(mapped: bool) -> None:
    lasts = []
    with small_windows(1000), opened(bytes(2999), mapped) as source:
        windows = Windows(source)
        for window in windows:
            windows.consumed = window.end
            lasts.append(window.last)
    assert lasts == [False, False, True]


def test_a_streams_buffer_stays_untouched_while_two_more_windows_are_taken() -> None:
    data = Random(0).randbytes(10_000)
    held = []
    with small_windows(1000), opened(data, mapped=False) as source:
        windows = Windows(source)
        for window in windows:
            windows.consumed = window.end
            held.append((window.buffer, window.end, data[window.origin :][: window.end]))
            for buffer, end, content in held[-3:]:
                assert buffer[:end].tobytes() == content


@MAPPED
def test_a_stream_that_ends_where_a_window_does_ends_properly(mapped: bool) -> None:
    seen = b""
    with small_windows(500), opened(bytes(range(250)) * 4, mapped) as source:
        windows = Windows(source)
        for window in windows:
            seen += window.buffer[window.begin : window.end].tobytes()
            windows.consumed = window.end
        assert window.last
    assert seen == bytes(range(250)) * 4


def test_a_file_that_is_cut_while_it_is_read_ends_there(tmp_path) -> None:
    path = tmp_path / "shrinking"
    path.write_bytes(bytes(100_000))
    with small_windows(10_000), open_source(str(path)) as source:
        windows = Windows(source)
        seen = 0
        for window in windows:
            seen = windows.consumed = window.end
            if seen == 30_000:
                os.truncate(path, 34_000)
        assert (seen, window.last) == (34_000, True)
        assert source.problem == "was cut shorter while it was being read"
