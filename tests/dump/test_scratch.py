# SPDX-License-Identifier: GPL-2.0-or-later
"""Vmcores that are only looked into: what is stored is what is read, of many dumps in one file."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from random import Random
from unittest.mock import patch

import numpy as np
import pytest
from helpers.traffic import Dump, pcap
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump import reassemble
from scapy_netdump.core.account import Account
from scapy_netdump.dump import scratch as module
from scapy_netdump.dump.scratch import Scratch, Scratches
from scapy_netdump.errors import StoreError

writes = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 300), st.lists(st.binary(min_size=1, max_size=40))),
    max_size=15,
)


@given(writes, st.booleans())
def test_each_dump_reads_what_was_written_to_it(parts, one_by_one):
    with patch.object(module, "_STRETCH", 64):
        scratches = Scratches()
        dumps = [Scratch(Account(), scratches, None) for _ in range(3)]
        models = [bytearray() for _ in dumps]
        for number, offset, pieces in parts:
            data = b"".join(pieces)
            if not data:
                continue
            if one_by_one:
                dumps[number].put(offset, data)
            else:
                lengths = np.array([len(piece) for piece in pieces], np.int64)
                positions = np.cumsum(lengths) - lengths
                dumps[number].write(np.frombuffer(data, np.uint8), positions, lengths, offset)
            model = models[number]
            model.extend(bytes(max(0, offset + len(data) - len(model))))
            model[offset : offset + len(data)] = data
        for dump, model in zip(dumps, models, strict=True):
            assert dump.content.size == len(model)
            assert dump.content.read(0, 1000) == model
            assert dump.content.read(50, 100) == model[50:150]
            assert not model or dump.read(0, len(model)) == model


def test_what_is_beyond_the_limit_is_not_kept_and_not_made_up():
    scratch = Scratch(Account(), Scratches(), 100)
    scratch.put(0, b"x" * 100)
    scratch.put(100, b"y" * 100)
    assert scratch.read(0, 100) == b"x" * 100
    assert scratch.read(50, 150) is None


def test_a_capture_may_show_more_dumps_than_files_may_be_open(tmp_path: Path) -> None:
    vmcores = {f"10.1.{n // 100}.{n % 100}": Random(n).randbytes(2000) for n in range(150)}
    dumps = [Dump(client=client, vmcore=vmcore) for client, vmcore in vmcores.items()]
    capture = tmp_path / "many.pcap"
    capture.write_bytes(pcap([seen for dump in dumps for seen in dump.traffic()]))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = len(os.listdir("/proc/self/fd")) + 30
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, hard))
    try:
        found = list(reassemble(str(capture)))
        assert {dump.transfer.client: dump.read(0, 2000) for dump in found} == vmcores
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_file_goes_when_all_contents_are_closed():
    scratches = Scratches()
    dumps = [Scratch(Account(), scratches, None) for _ in range(3)]
    for dump in dumps[:2]:
        dump.put(0, b"data")
    contents = [dump.content for dump in dumps]
    for content in contents[1:]:
        getattr(content, "close", lambda: None)()
    assert contents[0].read(0, 4) == b"data"
    contents[0].close()
    with pytest.raises(StoreError, match="closed"):
        contents[0].read(0, 4)
    contents[0].close()
    assert scratches.file._finalize is not None
    assert not scratches.file._finalize.alive


def test_a_byte_far_away_takes_no_room_before_it():
    scratches = Scratches()
    scratch = Scratch(Account(), scratches, None)
    scratch.put(0, b"near")
    scratch.put(1 << 43, b"far")
    assert scratch.read(1 << 43, (1 << 43) + 3) == b"far"
    assert scratches.file.length <= 3 << 26


@pytest.mark.parametrize("size", [0, 1])
def test_a_dump_without_data_opens_no_file(size):
    scratches = Scratches()
    scratch = Scratch(Account(), scratches, None)
    assert scratch.content.read(0, size) == b""
    assert scratches._file is None
