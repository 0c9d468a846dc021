# SPDX-License-Identifier: GPL-2.0-or-later
"""Account: what a dump's length is, what it takes to be complete, and its small files."""

from __future__ import annotations

import gzip
from random import Random

import numpy as np
import pytest
from helpers.dumps import Minidump, ustar
from helpers.traffic import header
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.core.account import MAX_STRAY, STRAY_GAP, Account
from scapy_netdump.core.seqnos import unseen_before
from scapy_netdump.core.small_files import MAX_HEADERS, MAX_KEY_SIZE, Headers, MemoryFile
from scapy_netdump.core.verdict import Kind
from scapy_netdump.kerneldump.header import HEADER_SIZE
from scapy_netdump.kerneldump.key import DumpKey


def account(*ranges: tuple[int, int], kdh: bytes = b"", finished: bool = False) -> Account:
    dump = Account()
    for start, end in ranges:
        dump.vmcore.add(start, end)
    if kdh:
        dump.headers.take(0, kdh)
    dump.finished = finished
    return dump


def holding(data: bytes, kdh: bytes = b"", finished: bool = False) -> Account:
    """An account of a dump that has these bytes, and was looked into."""
    dump = account((0, len(data)), kdh=kdh, finished=finished)
    dump.examine(lambda start, end: data[start:end])
    return dump


def test_a_new_account_knows_nothing():
    dump = account()
    assert (dump.heralded, dump.finished, dump.path, dump.header) == (False, False, b"", None)
    assert (dump.bytes_expected, dump.bytes_received, dump.missing) == (0, 0, [])
    assert not dump.complete


@pytest.mark.parametrize("finished", [True, False])
def test_every_byte_up_to_the_dumplength_is_complete_whatever_finished_says(finished):
    assert account((0, 8192), kdh=header(8192), finished=finished).complete


def test_finished_does_not_make_a_dump_with_a_hole_complete():
    dump = account((0, 4096), (5000, 8192), kdh=header(8192), finished=True)
    assert not dump.complete
    assert dump.missing == [(4096, 5000)]
    assert dump.bytes_received == 8192 - 904


def test_bytes_missing_at_the_end_are_known_from_the_header():
    dump = account((0, 4096), kdh=header(8192), finished=True)
    assert dump.missing == [(4096, 8192)]
    assert not dump.complete


def test_the_padding_of_a_compressed_dump_is_neither_expected_nor_received():
    dump = account((0, 8192), kdh=header(5000, compression=2))
    assert (dump.bytes_expected, dump.bytes_received) == (5000, 5000)
    assert dump.complete


def test_without_a_header_finished_and_no_hole_is_complete():
    assert account((0, 5000), finished=True).complete
    assert not account((0, 5000)).complete
    assert not account((0, 100), (200, 5000), finished=True).complete
    assert not account((100, 5000), finished=True).complete


def test_without_a_header_finished_alone_is_nothing():
    assert not account(finished=True).complete


@pytest.mark.parametrize(
    ("kdh", "problem"),
    [
        (header(1 << 40, parity=1), "dump header with a wrong parity"),
        (header(1 << 40, magic=b"Linux Kernel Dump"), "dump header with a wrong magic"),
    ],
)
def test_a_header_with_wrong_parity_or_magic_tells_no_length_and_makes_no_dump_complete(
    kdh, problem
):
    dump = account((0, 5000), kdh=kdh, finished=True)
    assert dump.header is not None
    assert dump.sound_header is None
    assert dump.bytes_expected == 5000
    assert (dump.verdict.kind, dump.verdict.reason) == (Kind.CONTRADICTED, problem)


def test_where_nothing_came_nothing_is_complete_whatever_a_header_says():
    assert str(account(kdh=header(0), finished=True).verdict) == "Dump incomplete: no data received"


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_every_version_of_the_header_tells_the_length(version):
    assert account(kdh=header(12345, version)).bytes_expected == 12345


def test_part_of_a_header_is_none():
    dump = account(kdh=header(8192)[: HEADER_SIZE - 1])
    assert dump.header is None
    assert dump.bytes_expected == 0
    dump.vmcore.add(0, 100)
    dump.finished = True
    assert str(dump.verdict) == "Dump incomplete: dump header of 511 bytes instead of 512"


def test_bytes_announced_but_not_captured_are_expected():
    dump = account((0, 5000), finished=True)
    dump.announce(6000)
    assert dump.missing == [(5000, 6000)]
    assert not dump.complete


# Lengths are claims


STREAM = gzip.compress(Random(4).randbytes(5000), mtime=0)


def gzip_header(length: int, **fields: int) -> bytes:
    return header(length, compression=1, dumpextent=5000, **fields)


def test_nothing_but_padding_is_surplus():
    length = len(STREAM)
    padded = STREAM + bytes(8192 - length)
    assert holding(padded, gzip_header(length)).surplus == 8192 - length
    assert holding(padded, gzip_header(length)).file_size == length
    assert holding(padded, header(length)).surplus == 0
    assert holding(padded, gzip_header(4000)).surplus == 0  # a whole block more
    assert holding(padded, gzip_header(8192)).surplus == 0


def test_nothing_is_cut_that_nobody_looked_at():
    dump = account((0, 8192), kdh=gzip_header(len(STREAM)))
    assert (dump.surplus, dump.file_size) == (0, 8192)
    dump.examine(lambda start, end: None)
    assert (dump.surplus, dump.file_size) == (0, 8192)


def test_zeros_are_kept_where_the_stream_does_not_tell_that_it_ends():
    length = len(STREAM)
    data = STREAM + bytes(8192 - length)
    dump = account((0, length - 2), (length, 8192), kdh=gzip_header(length))
    dump.examine(lambda start, end: data[start:end])
    assert (dump.surplus, dump.file_size, dump.bytes_expected) == (0, 8192, length)
    dump.vmcore.add(0, length)
    dump.examine(lambda start, end: data[start:end])
    assert (dump.surplus, dump.file_size, dump.complete) == (8192 - length, length, True)


@pytest.mark.parametrize("missing", [(1000, 2000), (len(STREAM) + 1, len(STREAM) + 50)])
def test_data_in_the_padding_is_found_wherever_a_hole_is(missing):
    """Of a range that is not here whole, each byte that is counts."""
    length = len(STREAM)
    data = STREAM + bytes(100) + b"stray" + bytes(8192 - 105 - length)
    dump = account((0, missing[0]), (missing[1], 8192), kdh=gzip_header(length))
    dump.examine(lambda start, end: data[start:end])
    assert dump.surplus == 0
    assert f"{8192 - length} bytes behind its length of {length} are no padding" in str(
        dump.verdict
    )


def test_a_short_length_with_a_hole_before_it_cuts_nothing():
    data = gzip.compress(Random(1).randbytes(60_000))
    dump = account((0, 1000), (2000, len(data)), kdh=gzip_header(512, blocksize=65_536))
    dump.examine(lambda start, end: data[start:end])
    assert (dump.surplus, dump.bytes_received) == (0, len(data) - 1000)
    assert dump.verdict.kind is Kind.CONTRADICTED


@pytest.mark.parametrize("short", [1, 2, 3])
def test_a_length_that_cuts_zeros_off_a_stream_is_contradicted_by_it(short):
    data = gzip.compress(bytes(3))  # the last three bytes of its trailer are zeros
    dump = holding(data, header(len(data) - short, compression=1), finished=True)
    assert (dump.surplus, dump.verdict.kind) == (0, Kind.CONTRADICTED)
    dump = holding(data[:-short], header(len(data) - short, compression=1))
    assert str(dump.verdict) == "Dump incomplete: its gzip stream does not end"


def test_what_follows_an_encrypted_dump_cannot_be_told_from_data_and_is_kept():
    key = DumpKey(2, bytes(32), bytes(256)).pack(4096)
    fields = {"dumpkeysize": 4096, "compression": 2}
    dump = holding(b"x" * 8192, header(5000, **fields))
    assert (dump.surplus, str(dump.verdict)) == (0, "Dump incomplete: its key is missing")
    dump.key.add(0, key)
    assert (dump.surplus, dump.file_size, dump.complete) == (0, 8192, True)
    for came in ([(0, 8000)], [(0, 5500), (6000, 8192)]):
        cut = account(*came, kdh=header(5000, **fields))
        cut.key.add(0, key)
        cut.examine(lambda start, end: b"x" * (end - start))
        assert str(cut.verdict) == "Dump incomplete: its last block is cut short"
        assert cut.missing == []
    assert (cut.file_size, cut.file_holes) == (8192, [(5500, 6000)])


def test_a_few_first_bytes_tell_no_compression():
    dump = account((0, 1), kdh=gzip_header(len(STREAM)))
    dump.examine(lambda start, end: STREAM[start:end])
    assert dump.verdict.kind is Kind.INCOMPLETE


TEXT = b"".join(ustar(name, b"x" * 700) for name in ("config.txt", "msgbuf.txt"))


def test_a_textdump_has_a_length_only_where_something_else_tells_it():
    first = len(TEXT) // 2
    for whole in (TEXT, TEXT[:first], TEXT + bytes(1024)):
        assert holding(whole).verdict.kind is Kind.UNKNOWN
        assert holding(whole, finished=True).complete
        assert holding(whole, header(len(whole))).complete
    assert str(holding(TEXT[:first], header(len(TEXT))).verdict) == (
        f"Dump incomplete: {first} of {len(TEXT)} bytes missing in 1 range"
    )
    for finished in (False, True):
        cut = holding(TEXT[:-600], finished=finished)
        assert cut.missing == [(len(TEXT) - 600, len(TEXT))]
    assert str(holding(TEXT, header(1024)).verdict).startswith("Dump contradicted: ")
    assert "its header tells 1024 bytes, its textdump 3072 at least" in str(
        holding(TEXT[:1024], header(1024)).verdict
    ).replace(str(first), "3072")


@pytest.mark.parametrize("ahead", [0, -1, -500, 1, 2])
def test_finished_tells_a_length_only_by_its_number(ahead):
    dump = account((0, 5000))
    dump.finish(unseen_before({1000 + ahead}, 1000))
    if ahead == 1:
        assert dump.complete
    else:
        assert dump.verdict.kind is Kind.UNKNOWN
    assert account((0, 5000), kdh=header(5000)).complete


def test_of_several_finished_the_one_that_tells_most_counts():
    for numbers, left in (((None, 3, 0), 0), ((3, None), 3), ((None, None), None)):
        dump = account((0, 5000))
        for unseen in numbers:
            dump.finish(unseen)
        assert dump.unseen == left


@pytest.mark.parametrize(
    ("length", "compression"), [(512, 1), (0, 0), (0, 2), (1, 0), (4096, 0), (1 << 63, 0)]
)
def test_a_forged_length_cuts_nothing_and_is_no_complete_dump(length, compression):
    dump = account((0, 1_000_000), kdh=header(length, compression=compression), finished=True)
    assert dump.surplus == 0
    assert dump.bytes_expected >= 1_000_000
    assert dump.bytes_received == 1_000_000
    assert not dump.complete
    assert dump.set_stray_aside() == []


def test_bytes_beyond_the_length_contradict_it():
    dump = account((0, 8192), kdh=header(8000), finished=True)
    assert str(dump.verdict) == "Dump contradicted: 192 bytes came beyond its length of 8000"


def test_a_block_size_without_sense_is_no_leave_to_cut():
    kdh = header(512, compression=1, blocksize=1 << 31)
    dump = account((0, 1_000_000), kdh=kdh)
    assert dump.surplus == 0
    assert dump.verdict.kind is Kind.CONTRADICTED


def test_a_dump_that_broke_off_has_the_length_that_its_bitmap_tells():
    data = Minidump("amd64", 3, list(range(10))).build()
    whole = holding(data, finished=True)
    assert whole.complete
    broken = holding(data[:-9000])
    assert broken.length == len(data)
    assert broken.missing == [(len(data) - 9000, len(data))]
    assert str(broken.verdict) == (f"Dump incomplete: 9000 of {len(data)} bytes missing in 1 range")


def test_with_neither_header_nor_finished_its_own_structure_makes_a_dump_complete():
    assert holding(Minidump("amd64", 3, list(range(10))).build()).complete
    assert holding(b"no structure at all").verdict.kind is Kind.UNKNOWN


def test_finished_does_not_shorten_what_the_dump_says_of_itself():
    data = Minidump("amd64", 3, list(range(10))).build()
    dump = holding(data[:-4096], finished=True)
    assert dump.missing == [(len(data) - 4096, len(data))]


def test_a_header_and_a_bitmap_that_differ_contradict_each_other_and_all_is_kept():
    data = Minidump("amd64", 3, list(range(10))).build()
    for length in (len(data) - 4096, len(data) + 4096):
        dump = holding(data, header(length))
        assert dump.length == len(data)
        assert (dump.missing, dump.surplus) == ([], 0)
        assert str(dump.verdict) == (
            f"Dump contradicted: its header tells {length} bytes, its minidump {len(data)}"
        )


def test_a_header_tells_another_compression_than_the_bytes():
    dump = holding(b"plain bytes" * 100, header(1100, compression=1))
    assert str(dump.verdict) == (
        "Dump contradicted: its header tells compression gzip, its first bytes none"
    )
    assert holding(b"\x1f\x8b" + bytes(1098), header(1100, compression=1)).complete


def test_an_encrypted_dump_is_not_looked_into_and_needs_its_key():
    data = Minidump("amd64", 3, list(range(10))).build()
    dump = holding(data, header(5000, dumpkeysize=4096))
    assert dump.own is None
    short = account((0, 5000), kdh=header(5000, dumpkeysize=4096))
    assert str(short.verdict) == "Dump incomplete: its key is missing"
    blob = DumpKey(2, bytes(32), bytes(256)).pack(4096)
    short.key.add(0, blob[:200])
    assert str(short.verdict) == "Dump incomplete: its key is cut short"
    short.key.add(200, blob[200:])
    assert short.complete


def test_of_two_headers_the_one_that_fits_counts():
    small, right = header(100, panicstring=b"one"), header(5000, panicstring=b"two")
    for first, second in ((small, right), (right, small)):
        dump = account((0, 5000), finished=True)
        assert dump.headers.take(0, first)
        assert dump.headers.take(0, second)
        assert (dump.kdh, dump.other_headers) == (right, [small])
        assert (dump.bytes_expected, dump.missing) == (5000, [])
        assert dump.verdict.reason.startswith("2 dump headers that differ")


def test_of_two_headers_the_one_that_the_dump_bears_out_counts():
    data = Minidump("amd64", 3, list(range(10))).build()
    wrong, right = header(5000), header(len(data))
    dump = account((0, 5000))
    dump.headers.take(0, wrong)
    dump.headers.take(0, right)
    dump.vmcore.add(0, len(data) - 4096)
    dump.examine(lambda start, end: data[start:end])
    assert dump.kdh == right
    assert dump.bytes_expected == len(data)


def test_a_damaged_header_does_not_stand_in_the_way_of_a_sound_one():
    dump = account((0, 5000), kdh=header(5000, parity=1))
    dump.headers.take(0, header(5000))
    assert dump.sound_header is not None
    assert dump.other_headers == [header(5000, parity=1)]
    assert dump.verdict.kind is Kind.CONTRADICTED


def test_conflicting_bytes_are_never_silent():
    dump = account((0, 5000), kdh=header(5000))
    dump.conflicts.compare(7, b"ab", b"ax")
    assert str(dump.verdict) == "Dump contradicted: 1 byte came with different values"


def test_a_file_of_which_nobody_noted_the_holes_is_not_known_to_be_complete():
    dump = account((0, 5000), kdh=header(5000))
    dump.holes_known = False
    assert str(dump.verdict) == (
        "Dump not known to be complete: nothing is known to be missing, but zeros may be holes"
    )
    dump.vmcore.remove(4000, 5000)
    assert dump.verdict.kind is Kind.INCOMPLETE


@pytest.mark.parametrize("compression", [1, 2, 3, 255])
def test_a_header_that_the_bytes_belie_cuts_nothing(compression):
    data = b"no stream" * 30_000
    dump = holding(data, header(len(data) - 60_000, compression=compression, blocksize=65_536))
    assert (dump.surplus, dump.bytes_expected) == (0, len(data))
    assert dump.verdict.kind is Kind.CONTRADICTED


def test_what_is_no_padding_is_not_cut():
    data = b"\x1f\x8b" + bytes(998) + b"data!" * 100
    dump = holding(data, header(1000, compression=1, blocksize=4096))
    assert dump.surplus == 0
    assert "500 bytes behind its length of 1000 are no padding" in str(dump.verdict)
    padded = holding(data[:1000] + bytes(500), header(1000, compression=1, blocksize=4096))
    assert (padded.surplus, padded.complete) == (500, True)


def test_an_encrypted_dump_without_its_header_has_no_known_length():
    dump = account((0, 5000), finished=True)
    dump.key.add(0, DumpKey(2, bytes(32), bytes(256)).pack(4096))
    assert dump.verdict.kind is Kind.UNKNOWN


def test_a_piece_of_another_header_is_kept():
    dump = account((0, 5000))
    dump.headers.take(0, b"x" * 100)
    dump.headers.take(0, header(5000))
    assert dump.kdh == header(5000)
    assert dump.other_headers == [(b"x" * 100).ljust(512, b"\0")]


# Stray bytes


def test_a_stray_byte_far_behind_the_end_is_set_aside_and_said():
    far = 1 << 40
    dump = account((0, 300_000), (far, far + 1448), kdh=header(300_000), finished=True)
    assert dump.set_stray_aside() == [(far, far + 1448)]
    assert (dump.vmcore.end, dump.bytes_expected, dump.missing) == (300_000, 300_000, [])
    assert str(dump.verdict) == (
        f"Dump contradicted: 1448 stray bytes set aside, the first at {far}"
    )


@pytest.mark.parametrize(
    ("ranges", "length"),
    [
        ([(0, 1000), (1000 + STRAY_GAP - 1, 1000 + STRAY_GAP)], 1000),  # near
        ([(0, 512), (1 << 20, (1 << 20) + 513)], 512),  # more than the dump
        ([(0, 1 << 26), (1 << 30, (1 << 30) + MAX_STRAY + 1)], 1 << 26),  # much
        ([(0, 1000), (1000, 2000)], 1000),  # no gap
    ],
)
def test_what_is_near_or_much_is_no_stray(ranges, length):
    dump = account(*ranges, kdh=header(length))
    assert dump.set_stray_aside() == []
    assert dump.verdict.kind is Kind.CONTRADICTED


def test_just_far_enough_and_just_little_enough_is_stray():
    at = 1000 + STRAY_GAP
    assert account((0, 1000), (at, at + 1000), kdh=header(1000)).set_stray_aside()


def test_without_a_length_nothing_is_stray():
    assert account((0, 1000), (1 << 40, (1 << 40) + 1), finished=True).set_stray_aside() == []


# Properties

claims = st.one_of(
    st.none(),
    st.tuples(st.integers(0, 300), st.sampled_from([0, 0, 1, 2]), st.sampled_from([0, 1, 64])),
)
spans = st.lists(
    st.tuples(st.integers(0, 300), st.integers(1, 100)).map(lambda pair: (pair[0], sum(pair))),
    max_size=6,
)


@given(spans, claims, claims, st.booleans())
def test_whatever_is_claimed_complete_means_whole_and_only_padding_is_cut(
    ranges, first, second, finished
):
    dump = account(*ranges, finished=finished)
    for claim in filter(None, (first, second)):
        length, compression, block = claim
        dump.headers.take(0, header(length, compression=compression, blocksize=block))
    present = {at for start, end in dump.vmcore for at in range(start, end)}
    end = dump.vmcore.end
    assert 0 <= dump.surplus < 64
    assert dump.surplus == 0 or dump.compression
    assert dump.file_size >= end - dump.surplus
    missing = {at for start, last in dump.missing for at in range(start, last)}
    assert missing == set(range(dump.bytes_expected)) - present
    if dump.complete:
        assert dump.length is not None
        assert present >= set(range(dump.length))
        assert end - dump.length < 64
        assert len({claim for claim in (first, second) if claim}) <= 1


versions = st.lists(
    st.tuples(st.sampled_from([0, 100, 500]), st.sampled_from([b"a", b"b"]), st.integers(1, 512)),
    max_size=8,
)


@given(versions)
def test_each_version_of_a_header_is_kept_or_refused(puts):
    headers = Headers()
    for start, fill, size in puts:
        taken = headers.take(start, fill * size)
        data = (fill * size)[: HEADER_SIZE - start]
        held = [version.read(start, start + len(data)) == data for version in headers.versions]
        assert any(held) == taken
    assert len(headers.versions) <= MAX_HEADERS


def test_the_first_path_stays():
    dump = account()
    dump.herald(b"")
    dump.herald(b"lab")
    dump.herald(b"other")
    assert dump.heralded
    assert dump.path == b"lab"


pieces = st.lists(st.tuples(st.integers(0, 80), st.binary(max_size=30)), max_size=12)


@given(pieces, st.integers(0, 100))
def test_a_memory_file_holds_what_was_put_up_to_its_limit(puts, limit):
    file, model = MemoryFile(limit), {}
    for start, data in puts:
        file.put(start, data)
        file.extents.add(start, min(start + len(data), limit))
        model.update((start + at, byte) for at, byte in enumerate(data) if start + at < limit)
    assert file.read(0, limit) == bytes(
        model.get(at, 0) for at in range(max(model, default=-1) + 1)
    )
    first_hole = next(at for at in range(limit + 1) if at not in model)
    assert bytes(file) == bytes(model[at] for at in range(first_hole))


def test_a_memory_file_takes_pieces_from_a_buffer_in_a_row():
    file = MemoryFile(100)
    file.write(
        np.frombuffer(b"..world..hello ", np.uint8), np.array([9, 2]), np.array([6, 5]), offset=3
    )
    assert file.read(0, 100) == b"\0\0\0hello world"


def test_a_far_offset_costs_a_memory_file_no_more_than_its_limit():
    file = MemoryFile(MAX_KEY_SIZE)
    file.put(1 << 43, b"far")
    assert file.read(0, 1 << 44) == b""


def test_doubts_add_up_and_none_replaces_another() -> None:
    dump, other = Account(), Account()
    dump.add_doubt("first")
    other.add_doubt("second")
    for _ in range(2):
        dump.absorb(other)
    assert dump.doubt == "first; second"


# The bounds themselves, in numbers


@pytest.mark.parametrize(
    ("gap", "size"), [(65_536, 16 << 20), (65_536, (16 << 20) + 1), (65_535, 1)]
)
def test_up_to_16_mib_that_lie_64_kib_behind_the_end_are_stray(gap: int, size: int) -> None:
    length = 32 << 20
    dump = account((0, length), (length + gap, length + gap + size), kdh=header(length))
    stray = dump.set_stray_aside()
    assert bool(stray) is (gap >= 65_536 and size <= 16 << 20)
    assert dump.vmcore.total + dump.stray.total == length + size


def test_four_versions_of_a_header_are_kept() -> None:
    headers = Headers()
    assert [headers.take(0, header(size)) for size in range(6)] == [True] * 4 + [False] * 2


def test_a_key_of_a_block_of_64_kib_fits_and_nothing_beyond_128_kib() -> None:
    key = Account().key
    for at in (65_535, (128 << 10) - 1, 128 << 10):
        key.add(at, b"k")
    assert list(key.extents) == [(65_535, 65_536), ((128 << 10) - 1, 128 << 10)]


@pytest.mark.parametrize("padding", [65_535, 65_536])
def test_a_stream_without_a_header_is_padded_with_less_than_64_kib(padding: int) -> None:
    stream = gzip.compress(b"dump" * 1000)
    dump = holding(stream + bytes(padding), finished=True)
    assert dump.length == len(stream)
    assert dump.complete is (padding < 65_536)
