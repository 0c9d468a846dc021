# SPDX-License-Identifier: GPL-2.0-or-later
"""A dump surveyed: regions, verdict, and the physical memory that is lost."""

from __future__ import annotations

import struct
import time

from helpers.dumps import Minidump, elf_core
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.dump import survey as module
from scapy_netdump.dump.console import head_of
from scapy_netdump.dump.content import Held
from scapy_netdump.dump.survey import survey
from scapy_netdump.kerneldump.contents import contents_of

PRESENT = [0, 1, 2, 3, 100, 101, 4000]
SAMPLE = Minidump("amd64", 3, PRESENT)
DATA = SAMPLE.build()
PAGES = len(DATA) - 4096 * len(PRESENT)


def surveyed(missing, data=DATA):
    content = Held(data, len(data), missing)
    return survey(content, contents_of(head_of(content), content.size))


def test_a_whole_dump_has_lost_nothing():
    found = surveyed([])
    assert found.lost_memory == []
    assert found.verdict.usable is True
    assert [region["bytes_missing"] for region in found.as_dict()["regions"]] == [0] * 6


def test_lost_memory_is_told_by_address():
    missing = [(PAGES + 4095, PAGES + 8193), (PAGES + 4 * 4096, PAGES + 6 * 4096)]
    found = surveyed(missing)
    assert found.lost_memory == [(0, 3 * 4096), (100 * 4096, 102 * 4096)]
    assert found.as_dict()["verdict"].startswith("usable in kgdb: 5 of 7 memory pages are holes")


def test_full_dumps_too():
    data = elf_core("<", 64, 62, [(0x1000, bytes(8192)), (0x9000, bytes(4096))])
    assert surveyed([(8192, 12289)], data).lost_memory == [(0x2000, 0x3000), (0x9000, 0xA000)]


def test_nothing_is_told_of_what_cannot_be_known():
    assert surveyed([(0, len(DATA))]).lost_memory == []
    assert surveyed([(0, len(DATA))]).verdict.usable is None


def test_many_ranges_are_cut(monkeypatch):
    monkeypatch.setattr(module, "_MOST_RANGES", 2)
    missing = [(PAGES, PAGES + 1), (PAGES + 8192, PAGES + 8193), (PAGES + 16384, PAGES + 16385)]
    assert surveyed(missing).lost_memory == [(0, 4096), (8192, 12288)]


@given(st.sets(st.integers(0, len(PRESENT) - 1)))
def test_the_lost_pages_are_those_with_holes(lost):
    missing = [(PAGES + number * 4096 + 7, PAGES + number * 4096 + 9) for number in sorted(lost)]
    found = surveyed(missing)
    pages = [page for start, end in found.lost_memory for page in range(start, end, 4096)]
    assert pages == [PRESENT[number] * 4096 for number in sorted(lost)]


def test_the_size_of_what_is_lost_takes_no_time() -> None:
    """An ELF core that claims a segment of a pebibyte."""
    began = time.monotonic()
    head = elf_core("<", 64, 62, [(0, b"")])
    segment = struct.pack("<IIQQQQQQ", 1, 7, 4096, 0, 0, 1 << 50, 1 << 50, 4096)
    head = head[:64] + segment + head[64 + len(segment) :]
    found = survey(Held(head, 1 << 50, [(4096, 1 << 50)]), contents_of(head, 1 << 50))
    assert found.lost_memory == [(0, (1 << 50) - 4096)]
    assert time.monotonic() - began < 1


def test_memory_in_many_ranges_takes_no_time() -> None:
    pages = range(0, 1 << 14, 2)
    memory = [(page << 12, page + 1 << 12) for page in pages]
    data = b"".join(Minidump("amd64", 3, list(pages), memory=memory).parts())
    size = len(data) + (len(pages) << 12)
    content = Held(data, size, [(len(data), size)])
    began = time.monotonic()
    found = survey(content, contents_of(head_of(content), size))
    assert found.lost_memory == memory
    assert time.monotonic() - began < 1
