# SPDX-License-Identifier: GPL-2.0-or-later
"""Account: what it takes for a dump to be complete, and the small files it holds."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.traffic import header
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.core.account import MAX_KEY_SIZE, Account, MemoryFile
from scapy_netdump.kerneldump.header import HEADER_SIZE


def account(*ranges: tuple[int, int], kdh: bytes = b"", finished: bool = False) -> Account:
    dump = Account()
    for start, end in ranges:
        dump.vmcore.add(start, end)
    dump.kdh.put(0, kdh)
    dump.kdh.extents.add(0, len(kdh))
    dump.finished = finished
    return dump


def test_a_new_transfer_knows_nothing():
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


def test_a_length_in_a_header_with_wrong_parity_or_magic_is_not_trusted():
    for kdh in (header(1 << 40, parity=1), header(1 << 40, magic=b"Linux Kernel Dump")):
        dump = account((0, 5000), kdh=kdh, finished=True)
        assert dump.header is not None
        assert dump.trusted_header is None
        assert dump.bytes_expected == 5000
        assert dump.complete


def test_an_empty_dump_with_a_header_that_says_so_is_complete():
    assert account(kdh=header(0)).complete


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_every_version_of_the_header_tells_the_length(version):
    assert account(kdh=header(12345, version)).bytes_expected == 12345


def test_part_of_a_header_is_none():
    dump = account(kdh=header(8192)[: HEADER_SIZE - 1])
    assert dump.header is None
    assert dump.bytes_expected == 0


def test_bytes_announced_but_not_captured_are_expected():
    dump = account((0, 5000), finished=True)
    dump.announce(6000)
    assert dump.missing == [(5000, 6000)]
    assert not dump.complete


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
