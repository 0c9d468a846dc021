# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumps of every content, with holes, stray bytes and headers that lie: nothing but zeros is ever
cut, and what is called complete is what was sent.

`pytest -m slow` tries many more.
"""

from __future__ import annotations

import gzip
from random import Random

import pytest
import zstandard
from helpers.dumps import Minidump, elf_core, ustar
from helpers.traffic import header
from hypothesis import given, settings
from hypothesis import strategies as st

from scapy_netdump.core.account import Account
from scapy_netdump.core.seqnos import unseen_before
from scapy_netdump.kerneldump.key import DumpKey

RANDOM = Random(9)
NOISE = RANDOM.randbytes(7000)
BLOCKS = [0, 1, 512, 4096, 65_536, 1 << 31]

#: What says of itself where it ends, with its compression; and what does not.
TOLD = [
    (Minidump("amd64", 3, [0, 1, 5]).build(), 0),
    (elf_core("<", 64, 62, [(0, NOISE)]), 0),
    (gzip.compress(NOISE), 1),
    (gzip.compress(bytes(70_000)), 1),
    (gzip.compress(NOISE * 10), 1),
    (zstandard.compress(NOISE), 2),
    (zstandard.compress(bytes(70_000) + NOISE), 2),
]
UNTOLD = [
    (NOISE, 0),
    (NOISE + bytes(900) + b"end", 0),
    (NOISE + bytes(900), 0),
    (b"".join(ustar(name, NOISE[:1300]) for name in ("ddb.txt", "msgbuf.txt")), 0),
    (ustar("ddb.txt", NOISE[:1300]) + bytes(1024), 0),
]


@st.composite
def told_length(draw: st.DrawFn, length: int) -> int:
    """The true length, or a lie that is near or far from it."""
    near = st.integers(-700, 700).map(lambda off: max(0, length + off))
    return draw(st.just(length) | near | st.integers(0, 2 * length) | st.just(1 << 60))


def check(data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(TOLD + UNTOLD) - 1))
    content, compression = (TOLD + UNTOLD)[number]
    encrypted = data.draw(st.integers(0, 9)) == 0
    block = data.draw(st.sampled_from([512, 4096]))
    padding = -len(content) % block if compression else 0
    sent = bytearray(content + bytes(padding))
    if encrypted:
        sent = bytearray(Random(len(sent)).randbytes(len(sent)))
    dump = Account()
    stray = data.draw(st.none() | st.integers(len(content), len(sent) + 70_000))
    dump.vmcore.add(0, len(sent))
    spot = st.integers(0, len(sent)) | st.integers(len(content) - 30, len(sent))
    for start, size in data.draw(st.lists(st.tuples(spot, st.integers(0, 3000)), max_size=3)):
        dump.vmcore.remove(start, start + size)
    if stray is not None:
        held = bytes(sent).ljust(stray + 5, b"\0")
        sent = bytearray(held)
        sent[stray : stray + 5] = b"stray"
        dump.vmcore.add(stray, stray + 5)
    lying = data.draw(st.booleans())
    if data.draw(st.booleans()):
        fields = {"compression": compression, "blocksize": block, "dumpextent": 0}
        length = len(content)
        if compression == 1:
            fields["dumpextent"] = len(gzip.decompress(content))
        if encrypted:
            fields["dumpkeysize"] = 4096
        if lying:
            length = data.draw(told_length(length))
            fields["blocksize"] = data.draw(st.sampled_from(BLOCKS))
            fields["compression"] = data.draw(st.sampled_from([compression, 0, 1, 2, 7]))
            fields["dumpextent"] = data.draw(st.sampled_from([fields["dumpextent"], 0, 77]))
            fields["dumpkeysize"] = data.draw(st.sampled_from([fields.get("dumpkeysize", 0), 64]))
        dump.headers.take(0, header(length, **fields))
    else:
        lying = False
    if encrypted:
        dump.key.add(0, DumpKey(2, bytes(32), bytes(256)).pack(4096))
    lost_tail = len(bytes(sent)[dump.vmcore.end :])
    if data.draw(st.booleans()):
        ahead = data.draw(st.sampled_from([0, -3])) or 1 + (lost_tail > 0)
        dump.finish(unseen_before({1000 + ahead}, 1000))
    if data.draw(st.booleans()):
        asked: list[tuple[int, int]] = []

        def read(start: int, end: int) -> bytes:
            assert dump.vmcore.covers(start, end)
            asked.append((start, end))
            return bytes(sent[start:end])

        dump.examine(read)
        dump.set_stray_aside()
    cut = dump.vmcore.end - dump.surplus
    assert not any(any(sent[start:end]) for start, end in dump.vmcore.present(cut, 1 << 50))
    assert dump.surplus < 65_536
    assert dump.file_size >= cut
    holes = {at for start, end in dump.file_holes for at in range(start, min(end, len(sent)))}
    assert not any(dump.vmcore.overlaps(at, at + 1) for at in holes)
    assert sum(end - start for start, end in dump.vmcore.present(0, cut)) + len(holes) >= cut
    file = bytes(sent[: dump.file_size])
    if not dump.complete:
        return
    assert dump.vmcore.covers(0, min(dump.bytes_expected, cut))
    alone = lying or (stray is not None and not dump.headers.sound)
    if encrypted or (alone and number >= len(TOLD)):
        return  # then nothing else tells where it ends
    if dump.own is not None or number >= len(TOLD):
        whole = bytes(content) + bytes(padding)
        assert file == whole[: len(file)]
        assert not any(whole[len(file) :])
        assert len(file) >= len(content)


@given(st.data())
@settings(max_examples=600, deadline=None)
def test_nothing_but_zeros_is_cut_and_complete_is_what_was_sent(data):
    check(data)


@pytest.mark.slow
@given(st.data())
@settings(max_examples=20_000, deadline=None)
def test_for_long(data):
    check(data)
