# SPDX-License-Identifier: GPL-2.0-or-later
"""Minidumps of every architecture: headers, regions, physical pages, console text."""

from __future__ import annotations

import pytest
from helpers.dumps import HEADERS, Minidump
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.kerneldump import minidump as module
from scapy_netdump.kerneldump.minidump import HEAD_SIZE, MinidumpError
from scapy_netdump.kerneldump.msgbuf import MessageBuffer, console_text
from scapy_netdump.kerneldump.pages import PageMap

MEMORY = [(0x100000, 0x180000), (0x400000, 0x440000)]


def sample(name: str, version: int, **options: object) -> Minidump:
    present = [0x101000, 0x102000, 0x17F000, 0x400000, 0x43F000]
    page = int(options.get("page", 4096))  # type: ignore[call-overload]
    numbers = sorted({address // page for address in present})
    return Minidump(name, version, numbers, MEMORY, **options)  # type: ignore[arg-type]


def parsed(data: bytes) -> module.Minidump:
    found = module.Minidump.parse(data[:HEAD_SIZE])
    assert found is not None
    return found


def region(data: bytes, name: str) -> bytes:
    regions = {part.name: part for part in parsed(data).regions(len(data))}
    return data[regions[name].start : regions[name].end]


def page_map(data: bytes) -> PageMap:
    found = parsed(data)
    avail = region(data, "dump_avail") if found.dumpavailsize else b""
    return PageMap(found, region(data, "page bitmap"), avail)


EVERY = pytest.mark.parametrize(("name", "version"), HEADERS)


@EVERY
def test_regions_are_where_the_kernel_puts_them(name, version):
    built = sample(name, version, ring_size=5000)
    header, ring, avail, bitmap, tables = built.parts()
    data = built.build()
    assert region(data, "header") == header
    assert region(data, "message buffer") == ring
    assert region(data, "page bitmap") == bitmap
    assert region(data, "page tables") == tables
    assert region(data, "memory pages") == b"".join(map(built.content, built.present))
    if built.has_ranges:
        assert region(data, "dump_avail") == avail


@EVERY
def test_each_page_of_the_file_has_the_address_of_its_memory(name, version):
    built = sample(name, version)
    pages = page_map(built.build())
    assert pages.known_pages == len(built.present)
    assert list(pages.addresses(0, 99)) == [page * 4096 for page in built.present]


@EVERY
def test_the_console_text_is_read_from_any_place_in_the_ring(name, version):
    for wrote in (100, 4000, 12345):
        built = sample(name, version, text=b"first\nlast\n", wrote=wrote)
        data = built.build()
        found = parsed(data)
        ring = region(data, "message buffer")
        buffer = MessageBuffer.described_by(ring, found.msgbufsize, 0, found.byte_order)
        assert buffer is not None
        assert buffer.size == found.msgbufsize
        text = console_text(ring[start:end] for start, end in buffer.in_order())
        assert text == "first\nlast\n"


def test_arm64_tells_its_page_size():
    built = sample("arm64", 3, page=16384)
    data = built.build()
    assert parsed(data).page == 16384
    assert region(data, "memory pages") == b"".join(map(built.content, built.present))
    assert list(page_map(data).addresses(0, 9)) == [page * 16384 for page in built.present]


def test_the_c_struct_s_members_have_their_names():
    found = parsed(sample("powerpc64", 2).build())
    assert found.architecture == "powerpc64"
    assert found.byte_order == ">"
    assert {"kernend", "hw_direct_map", "startkernel", "dumpavailsize"} <= found.values.keys()
    assert parsed(sample("i386", 1).build()).values["ptesize"] == 2 * 4096


def test_a_little_endian_powerpc64_is_told_by_its_version():
    data = sample("powerpc64", 1).build()
    swapped = bytearray(data[:HEAD_SIZE])
    swapped[64:68] = swapped[64:68][::-1]
    assert parsed(bytes(swapped)).byte_order == "<"


def test_what_is_no_minidump_is_told_from_a_strange_one():
    assert module.Minidump.parse(bytes(HEAD_SIZE)) is None
    assert module.Minidump.parse(b"") is None
    with pytest.raises(MinidumpError, match="unknown architecture, sparc64"):
        module.Minidump.parse(b"minidump FreeBSD/sparc64".ljust(HEAD_SIZE, b"\0"))
    with pytest.raises(MinidumpError, match="damaged"):
        module.Minidump.parse(b"minidump FreeBSD/amd64".ljust(HEAD_SIZE, b"\0"))
    with pytest.raises(MinidumpError, match="damaged"):
        module.Minidump.parse(b"minidump FreeBSD/amd64")


def test_lost_pages_are_told_by_address():
    built = sample("amd64", 3)
    data = built.build()
    start = len(data) - len(built.present) * 4096
    holes = [(start + 4096 + 5, start + 4096 + 6), (start + 4096 + 4000, start + 2 * 4096 + 1)]
    lost = list(page_map(data).lost(start, holes))
    assert lost == [built.present[1] * 4096, built.present[2] * 4096]


def test_pages_behind_a_hole_in_the_bitmap_are_not_guessed():
    built = sample("amd64", 2)
    data = built.build()
    pages = PageMap(parsed(data), region(data, "page bitmap")[:33], b"")
    assert pages.known_pages == 2
    assert list(pages.addresses(0, 9)) == [page * 4096 for page in built.present[:2]]


def test_without_the_ranges_of_memory_no_address_is_guessed():
    data = sample("amd64", 3).build()
    assert PageMap(parsed(data), region(data, "page bitmap"), b"").known_pages == 0


@given(st.sets(st.integers(0, 4095), max_size=60), st.integers(0, 60), st.integers(0, 60))
def test_addresses_of_any_stretch(present, first, last):
    numbers = sorted(present)
    built = Minidump("riscv", 1, numbers)
    found = list(page_map(built.build()).addresses(first, last))
    assert found == [page * 4096 for page in numbers[first:last]]


def test_big_bitmaps_are_counted_block_by_block(monkeypatch):
    monkeypatch.setattr("scapy_netdump.kerneldump.pages._BLOCK", 16)
    built = Minidump("amd64", 2, list(range(0, 4096, 7)))
    pages = page_map(built.build())
    assert list(pages.addresses(30, 300)) == [page * 4096 for page in built.present[30:300]]


@given(st.binary(max_size=300))
def test_any_bytes_are_a_header_or_an_error_of_ours(data):
    for magic in (
        b"",
        b"minidump FreeBSD/amd64\0\0",
        b"minidump FreeBSD/powerpc64".ljust(32, b"\0"),
    ):
        try:
            found = module.Minidump.parse(magic + data)
        except MinidumpError:
            continue
        if found is not None:
            regions = found.regions(1 << 20)
            assert all(part.start < part.end <= 1 << 20 for part in regions)
            assert [part.end for part in regions[:-1]] == [part.start for part in regions[1:]]


def test_control_characters_of_the_console_are_escaped_and_holes_marked():
    text = console_text([b"a\x1b[2J\tb\n\0\0", 5, b"\xff\x07c"])
    assert text == "a\\x1b[2J\tb\n\n[5 bytes missing]\n\\xff\\x07c\n"


def test_a_ring_that_nothing_describes_is_none():
    assert MessageBuffer.described_by(bytes(100), 0, 0, "<") is None
    assert MessageBuffer.described_by(b"", 0, 0, "<") is None
