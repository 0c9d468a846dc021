# SPDX-License-Identifier: GPL-2.0-or-later
"""RecentPayloads: only what is still in memory, and exactly that."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.core.observing.messages import Messages
from scapy_netdump.core.observing.recent import RecentPayloads

FILE = bytes(range(256)) * 4


def stored(ranges: list[tuple[int, int]]) -> tuple[np.ndarray, Messages]:
    """A buffer with the payloads of some ranges of FILE, something before each, and their rows."""
    buffer = b""
    positions = []
    for start, end in ranges:
        buffer += b"head"
        positions.append(len(buffer))
        buffer += FILE[start:end]
    start, end = np.array(ranges, np.int64).reshape(-1, 2).T
    zeros = np.zeros(len(ranges), np.int64)
    position = np.array(positions, np.int64)
    messages = Messages(zeros, zeros, zeros, zeros, start, end, end, position)
    return np.frombuffer(buffer, np.uint8), messages


@given(
    st.sets(st.integers(0, 1000), min_size=2, max_size=20), st.integers(0, 1000), st.integers(1, 60)
)
def test_finds_the_bytes_that_one_payload_holds_and_no_others(edges, start, size):
    cuts = sorted(edges)
    ranges = list(zip(cuts[::2], cuts[1::2], strict=False))
    recent = RecentPayloads()
    recent.add(1, *stored(ranges))
    held = any(first <= start and start + size <= last for first, last in ranges)
    assert recent.find(1, start, start + size) == (FILE[start : start + size] if held else None)


def test_a_batch_is_remembered_while_its_buffer_is_valid():
    recent = RecentPayloads()
    recent.add(1, *stored([(0, 100)]))
    assert recent.find(2, 0, 100) == FILE[:100]
    assert recent.find(3, 0, 100) is None


def test_what_was_overwritten_is_not_found():
    recent = RecentPayloads()
    recent.add(1, *stored([(0, 100)]))
    recent.forget()
    assert recent.find(1, 0, 100) is None
