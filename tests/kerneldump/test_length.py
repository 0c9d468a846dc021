# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a dump is by what it says itself: of each kind, whole, cut, with holes, and hostile."""

from __future__ import annotations

import gzip
import struct
from random import Random

import pytest
import zstandard
from helpers.dumps import HEADERS, Minidump, elf_core, ustar
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.kerneldump.length import OwnLength, gzip_stream_of, own_length

PAGES = [0, 1, 5, 300, 4000]


def told(data: bytes, end: int | None = None) -> OwnLength | None:
    return own_length(lambda start, stop: data[start:stop], len(data) if end is None else end)


FILES = (("panic.txt", b"boom"), ("msgbuf.txt", b"x" * 1500), ("version.txt", b""))
TEXT = b"".join(ustar(name, data) for name, data in FILES)
PACKED = Random(1).randbytes(300_000) + bytes(300_000)


@pytest.mark.parametrize(("name", "version"), HEADERS)
def test_a_minidump_of_each_architecture(name, version):
    data = Minidump(name, version, PAGES).build()
    assert told(data) == OwnLength("minidump", len(data))
    assert told(data[: -len(data) // 2]) == OwnLength("minidump", len(data))


def test_a_minidump_whose_bitmap_is_not_there_tells_nothing():
    data = Minidump("amd64", 3, PAGES).build()
    assert told(data[:4096]) == OwnLength("minidump", None)

    def with_a_hole(start: int, end: int) -> bytes | None:
        return None if start < 12_300 < end else data[start:end]

    assert own_length(with_a_hole, len(data)) is None


def test_an_elf_core_ends_with_its_last_segment():
    data = elf_core("<", 64, 62, [(0, b"a" * 4096), (1 << 20, b"b" * 8192)])
    assert told(data) == OwnLength("ELF core", len(data))
    assert told(data[:-5000]) == OwnLength("ELF core", len(data))


def test_a_textdump_is_at_least_as_long_as_its_members():
    """Nothing in it tells which is the last one: no trailer, and behind a trailer may be more."""
    assert told(TEXT) == OwnLength("textdump", None, len(TEXT))
    assert told(TEXT[:-600]) == OwnLength("textdump", None, len(TEXT) - 512)
    assert told(TEXT[:2000]) == OwnLength("textdump", None, 1024 + 512 + 1536)
    assert told(TEXT[:1100]) == OwnLength("textdump", None, 1024 + 512)
    assert told(TEXT + bytes(1024)) == OwnLength("textdump", None, len(TEXT))


def holed(data: bytes, start: int, end: int) -> OwnLength | None:
    """What a dump tells of which the bytes from ``start`` to ``end`` did not come."""

    def read(first: int, last: int) -> bytes | None:
        return None if first < end and start < last else data[first:last]

    return own_length(read, len(data))


def test_a_hole_costs_only_what_is_told_in_it():
    core = elf_core("<", 64, 62, [(0, b"a" * 90_000)])
    assert holed(core, 20_000, 21_000) == OwnLength("ELF core", len(core))
    assert holed(core, 10, 11) is None
    assert holed(TEXT, 1000, 1010) == OwnLength("textdump", None, len(TEXT))
    assert holed(TEXT, 1024, 1025) == OwnLength("textdump", None, 1024)
    for kind, data in packed().items():
        padded = data + bytes(5000)
        assert holed(padded, len(data) + 100, len(data) + 200) == OwnLength(kind, len(data))
        assert holed(padded, 2, 3) is None
    stream = packed()["gzip stream"]
    assert holed(stream, len(stream) - 1, len(stream)) is None


@pytest.mark.parametrize("name", ["gzip stream", "zstd stream"])
def test_a_second_stream_that_is_cut_does_not_end(name):
    data = packed()[name]
    assert told(data + data[:-1]) == OwnLength(name, None)


def test_skippable_frames_are_a_part_of_a_zstd_stream():
    """As tools write them behind a stream that can be sought in: RFC 8878, section 3.1.2."""
    data = packed()["zstd stream"]
    table = b"\x5e\x2a\x4d\x18" + (9).to_bytes(4, "little") + b"x" * 9
    assert told(data + table + bytes(7)) == OwnLength("zstd stream", len(data) + len(table))
    for cut in (1, 9, 10, 13):
        assert told(data + table[:-cut]) == OwnLength("zstd stream", None)


@pytest.mark.parametrize("off", [-30, -1, 0, 1, 3])
def test_the_trailer_of_a_gzip_stream_is_where_its_header_says_or_not(off):
    data = packed()["gzip stream"] + bytes(100)
    length = len(data) - 100

    def read(start: int, end: int) -> bytes:
        return data[start:end]

    told = gzip_stream_of(read, length + off, len(PACKED) + (1 << 32))
    assert told == (None if off else OwnLength("gzip stream", length))
    assert gzip_stream_of(read, 17, 0) is None


def packed() -> dict[str, bytes]:
    one = zstandard.ZstdCompressor(write_checksum=True)
    return {
        "gzip stream": gzip.compress(PACKED),
        "zstd stream": one.compress(PACKED),
    }


@pytest.mark.parametrize("kind", packed())
@pytest.mark.parametrize("padding", [0, 1, 4095])
def test_a_compressed_stream_ends_before_its_padding(kind, padding):
    data = packed()[kind]
    assert told(data + bytes(padding)) == OwnLength(kind, len(data))
    assert told(data * 2 + bytes(padding)) == OwnLength(kind, 2 * len(data))


@pytest.mark.parametrize("kind", packed())
@given(st.data())
def test_a_stream_that_is_cut_has_no_end(kind, data):
    whole = packed()[kind]
    cut = data.draw(st.integers(5, len(whole) - 1))
    assert told(whole[:cut]) == OwnLength(kind, None)


@given(st.binary(max_size=200_000), st.integers(1, 19), st.booleans(), st.booleans())
def test_zstd_frames_of_any_kind(data, level, checksum, size):
    compressor = zstandard.ZstdCompressor(
        level=level, write_checksum=checksum, write_content_size=size
    )
    frame = compressor.compress(data)
    assert told(frame + bytes(100)) == OwnLength("zstd stream", len(frame))


def test_an_elf_header_that_leads_nowhere_is_no_elf_core():
    data = bytearray(elf_core("<", 64, 62, [(0, b"a" * 4096)]))
    data[32:40] = struct.pack("<Q", 2**64 - 1)
    assert told(bytes(data)) is None


def test_streams_that_are_there_to_cost_time_tell_nothing():
    assert told(gzip.compress(b"") * 5000) is None
    empty = b"\x28\xb5\x2f\xfd\x00\x00" + bytes(3 * 100_000) + b"\x01\0\0"
    assert told(empty) is None


def test_other_data_tells_nothing():
    assert told(b"") is None
    assert told(b"nothing of the kind" * 1000) is None
    assert told(Random(3).randbytes(5000)) is None


@given(
    st.sampled_from(
        [
            Minidump("amd64", 3, PAGES).build()[:20_000],
            elf_core("<", 64, 62, [(0, b"a" * 4096)]),
            TEXT,
            *packed().values(),
        ]
    ),
    st.lists(st.tuples(st.integers(0, 600), st.integers(0, 255)), max_size=20),
    st.integers(0, 20_000),
)
def test_whatever_is_damaged_there_is_an_answer(data, changes, end):
    damaged = bytearray(data)
    for at, value in changes:
        damaged[at] = value
    answer = told(bytes(damaged), min(end, len(damaged)))
    assert answer is None or answer.length is None or answer.length >= 0


def test_a_bitmap_of_a_size_without_sense_is_not_read():
    data = bytearray(Minidump("amd64", 3, PAGES).build())
    data[32:36] = struct.pack("<I", 0xFFFFF000)
    asked: list[int] = []

    def read(start: int, end: int) -> bytes:
        asked.append(end - start)
        return bytes(data[start:end])

    assert own_length(read, 1 << 44) is None
    assert sum(asked) < 1 << 17
