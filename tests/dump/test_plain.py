# SPDX-License-Identifier: GPL-2.0-or-later
"""Plain files of encrypted and compressed vmcores: what is reported as here is right."""

from __future__ import annotations

import gzip
import hashlib
import resource
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from test_encryption import Bytes, dump_cipher

from scapy_netdump.core.account import Account
from scapy_netdump.core.extents import Extents
from scapy_netdump.dump.cipher import Encrypted
from scapy_netdump.dump.compression import Decompressed, decompress
from scapy_netdump.dump.content import Content, FileContent
from scapy_netdump.dump.dump import Dump
from scapy_netdump.dump.keys import DumpCipher
from scapy_netdump.dump.save import PlainCopy
from scapy_netdump.errors import NetdumpError, StoreError
from scapy_netdump.kerneldump.header import pack_header
from scapy_netdump.kerneldump.key import DumpKey
from scapy_netdump.store.mapfile import parse_mapfile

Ranges = list[tuple[int, int]]
holes = st.lists(st.tuples(st.integers(0, 9000), st.integers(1, 700)), max_size=3)


def text(size: int) -> bytes:
    """Bytes that compress, but not to nothing."""
    return b"".join(b"%x\n" % (n * n * 2654435761) for n in range(size // 8 + 2))[:size]


def zstd(data: bytes, *, frame: int = 1 << 40, checksum: bool = True) -> bytes:
    """Frames of so many bytes each, as long as the data last, and of the kernel's kind."""
    pieces = [data[begin : begin + frame] for begin in range(0, len(data), frame)] or [b""]
    return b"".join(
        zstandard.ZstdCompressor(
            level=3, write_checksum=checksum, write_content_size=False
        ).compress(piece)
        for piece in pieces
    )


class Sink:
    """What was written, byte by byte."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.extents = Extents()

    def __call__(self, offset: int, data: bytes) -> None:
        assert not self.extents.overlaps(offset, offset + len(data))
        self.extents.add(offset, offset + len(data))
        self.data.extend(bytes(max(0, offset + len(data) - len(self.data))))
        self.data[offset : offset + len(data)] = data


def with_holes(data: bytes, holes: Ranges, filler: int) -> Bytes:
    lost = Extents()
    for start, length in holes:
        lost.add(min(start, len(data)), min(start + length, len(data)))
    damaged = bytearray(data)
    for start, end in lost:
        damaged[start:end] = bytes([filler]) * (end - start)
    return Bytes(bytes(damaged), list(lost))


def unpacked(content: Bytes, total: int | None) -> tuple[Decompressed, Sink]:
    sink = Sink()
    return decompress(content, "vmcore", total, sink), sink


def check(plain: bytes, result: Decompressed, sink: Sink) -> None:
    """What is not reported as missing was written, and as it was."""
    missing = Extents()
    for start, end in result.missing:
        assert start < end <= result.size
        missing.add(start, end)
    for start, end in missing.missing(0, result.size):
        assert sink.extents.covers(start, end)
        assert sink.data[start:end] == plain[start:end]


compressions: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstd,
    "zstd, many frames": lambda data: zstd(data, frame=1000),
    "zstd, frames without checksum": lambda data: zstd(data, frame=1000, checksum=False),
}


@pytest.mark.parametrize("compress", compressions.values(), ids=compressions)
@given(st.integers(0, 20_000), holes, st.integers(0, 255), st.booleans())
@settings(max_examples=60)
def test_around_holes_of_compressed_data_all_that_is_reported_as_here_is_right(
    compress: Callable[[bytes], bytes], size: int, holes: Ranges, filler: int, known: bool
) -> None:
    plain = text(size)
    content = with_holes(compress(plain), holes, filler)
    result, sink = unpacked(content, size if known else None)
    check(plain, result, sink)
    assert (result.problem is None) == (content.missing == [])
    if not content.missing:
        assert (bytes(sink.data), result.missing, result.size) == (plain, [], size)
    elif known:
        assert result.size == size
    else:
        assert result.missing[-1][1] == result.size


@pytest.mark.parametrize("pad", [0, 1, 3, 4000])
@pytest.mark.parametrize("compress", compressions.values(), ids=compressions)
def test_zeros_up_to_a_block_are_no_damage(compress: Callable[[bytes], bytes], pad: int) -> None:
    plain = text(5000)
    result, sink = unpacked(Bytes(compress(plain) + bytes(pad)), None)
    assert (result.problem, result.missing, bytes(sink.data)) == (None, [], plain)


def test_all_before_the_first_hole_comes_out() -> None:
    plain = hashlib.shake_128(b"x").digest(500_000)  # incompressible: nothing is held back
    for packed in (zstd(plain), gzip.compress(plain)):
        result, sink = unpacked(with_holes(packed, [(400_000, 1)], 0), len(plain))
        assert result.size == len(plain)
        ((start, end),) = result.missing
        assert end == len(plain)
        assert start > 400_000 - (128 << 10) - 100  # a block of zstd
        check(plain, result, sink)


def test_whole_frames_behind_the_last_hole_come_out_where_they_belong() -> None:
    plain = text(20_000)
    packed = zstd(plain, frame=1000)
    starts = frame_starts(packed)
    assert len(starts) == 20
    hole = [(starts[4] + 9, starts[9] + 5 - starts[4])]
    result, sink = unpacked(with_holes(packed, hole, 0), len(plain))
    ((start, end),) = result.missing
    assert end == 10_000 or end == 11_000
    assert start <= 5000
    check(plain, result, sink)
    assert sink.extents.covers(end, 20_000)
    result, sink = unpacked(with_holes(packed, hole, 0), None)  # nobody knows where they belong
    assert sink.extents.end <= 5000


def frame_starts(packed: bytes) -> list[int]:
    return [at for at in range(len(packed)) if packed.startswith(b"\x28\xb5\x2f\xfd", at)]


def test_a_hole_that_begins_where_a_frame_does_is_a_hole() -> None:
    plain = text(20_000)
    packed = zstd(plain, frame=1000)
    start, end = frame_starts(packed)[9:11]
    result, sink = unpacked(with_holes(packed, [(start, end - start)], 0), 20_000)
    check(plain, result, sink)
    assert result.missing == [(9000, 10_000)]
    assert result.problem is not None
    result, _ = unpacked(Bytes(packed, [(start, len(packed))]), None)
    assert result.problem is not None
    assert result.missing == [(9000, 9001)]


def test_of_two_holes_only_what_is_behind_the_last_has_a_place() -> None:
    """In the second hole is what could be taken for something to be left out: a skippable
    frame."""
    plain = text(20_000)
    packed = bytearray(zstd(plain, frame=1000))
    starts = frame_starts(bytes(packed))
    first, (begin, end) = starts[3] + 20, starts[10:12]
    packed[begin : begin + 8] = b"\x50\x2a\x4d\x18" + (end - begin - 8).to_bytes(4, "little")
    result, sink = unpacked(Bytes(bytes(packed), [(first, first + 5), (begin, end)]), 20_000)
    check(plain, result, sink)
    assert result.missing[-1][1] == 11_000


def test_zeros_between_frames_are_damage() -> None:
    plain = text(5000)
    result, sink = unpacked(Bytes(zstd(plain) + bytes(70_000) + zstd(plain)), 10_000)
    assert result.problem is not None
    assert bytes(sink.data) == plain


def test_what_only_looks_like_a_frame_is_none() -> None:
    plain = hashlib.shake_128(b"y").digest(3000) + b"\x28\xb5\x2f\xfd\x04\0\0" * 50
    packed = zstd(plain + hashlib.shake_128(b"z").digest(3000))
    assert packed.count(b"\x28\xb5\x2f\xfd\x04") > 1
    result, sink = unpacked(with_holes(packed, [(1000, 10)], 0), 6350)
    check(plain, result, sink)
    assert result.missing[-1][1] == 6350


def test_a_total_that_contradicts_the_data_is_not_believed() -> None:
    plain = text(20_000)
    packed = zstd(plain, frame=1000)
    content = with_holes(packed, [(len(packed) - 20, 20)], 0)
    result, sink = unpacked(content, 500)
    check(plain, result, sink)
    assert result.problem is not None
    assert "how much is missing is not known" in result.problem
    hole = frame_starts(packed)[9] + 20
    result, sink = unpacked(with_holes(packed, [(hole, 1)], 0), 15_000)
    assert sink.extents.end <= 10_000


@pytest.mark.parametrize("compress", [gzip.compress, zstd])
def test_data_that_are_cut_short_or_fail_their_checksum_are_a_problem(
    compress: Callable[[bytes], bytes],
) -> None:
    plain = text(10_000)
    packed = compress(plain)
    result, sink = unpacked(Bytes(packed[:-3]), len(plain))
    check(plain, result, sink)
    assert result.problem is not None
    position = len(packed) - (6 if compress is gzip.compress else 2)
    wrong = bytearray(packed)
    wrong[position] ^= 1
    result, _ = unpacked(Bytes(bytes(wrong)), len(plain))
    assert result.problem is not None


def test_what_is_not_compressed_is_refused() -> None:
    with pytest.raises(NetdumpError, match="neither gzip nor zstd"):
        unpacked(Bytes(bytes(100)), None)


def test_memory_is_bounded(tmp_path: Path) -> None:
    """256 MiB of zeros out of a few kilobytes, and no more than a few MiB at a time."""
    size = 256 << 20
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = b"".join(compressor.compress(bytes(1 << 20)) for _ in range(256)) + compressor.flush()
    path = tmp_path / "vmcore.gz"
    path.write_bytes(packed)
    seen = 0

    def count(offset: int, data: bytes) -> None:
        nonlocal seen
        assert offset == seen
        seen += len(data)

    tracemalloc.start()
    try:
        with FileContent(path) as content:
            decompress(content, "vmcore", None, count)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert seen == size


# ---------------------------------------------------------------- files


def dump_of(content: Content, kdh: bytes = b"", cipher: DumpCipher | None = None) -> Dump:
    """A dump with this vmcore, header and cipher."""
    account = Account()
    account.vmcore.add(0, content.size)
    for hole in content.missing:
        account.vmcore.remove(*hole)
    account.announce(content.size)
    account.headers.take(0, kdh)
    if cipher is not None:
        account.key.add(0, DumpKey(1, bytes(32), b"").pack())
    return Dump("vmcore", account, content, unlock=lambda _: cipher)


def copied(
    tmp_path: Path,
    content: Content,
    kdh: bytes = b"",
    cipher: DumpCipher | None = None,
    unpack: bool = False,
) -> tuple[PlainCopy, bytes]:
    destination = tmp_path / "vmcore.0"
    copy = dump_of(content, kdh, cipher).save_plain(destination, unpack=unpack, force=True)
    assert copy.path == destination
    assert list(tmp_path.glob("*.part")) == []
    if copy.map is None:
        assert copy.missing == []
    else:
        assert parse_mapfile(copy.map.read_text()) == (copy.missing, copy.size)
    return copy, destination.read_bytes()


@given(
    st.integers(16, 9000),
    st.sampled_from(
        [(number, "none") for number in (None, 1, 2)]
        + [(number, name) for number in (None, 2) for name in ("gzip", "zstd")]
    ),
    st.booleans(),
    holes,
    st.integers(0, 255),
)
@settings(max_examples=200)
def test_around_holes_of_any_dump_all_that_is_reported_as_here_is_right(
    tmp_path_factory: pytest.TempPathFactory,
    size: int,
    kind: tuple[int | None, str],
    unpack: bool,
    holes: Ranges,
    filler: int,
) -> None:
    number, compression = kind
    plain = text(size - size % 16)
    numbers = {"none": 0, "gzip": 1, "zstd": 2}
    packers: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstd}
    packed = packers[compression](plain) if compression != "none" else plain
    kdh = pack_header(
        compression=numbers[compression],
        dumplength=len(packed),
        dumpextent=len(plain),
        blocksize=512,
    )
    sent = packed + bytes(-len(packed) % 512)
    if compression == "none":
        sent = packed
    cipher = dump_cipher(number) if number is not None else None
    if cipher is not None:
        sent = Encrypted(Bytes(sent), cipher).read(0, len(sent))
    content = with_holes(sent, holes, filler)
    directory = tmp_path_factory.mktemp("plain")
    copy, data = copied(directory, content, kdh, cipher, unpack)
    whole = plain if unpack else packed
    missing = Extents()
    for start, end in copy.missing:
        missing.add(start, end)
    assert copy.size == len(whole)
    for start, end in missing.missing(0, copy.size):
        assert data[start:end] == whole[start:end]
    for start, end in missing:
        assert not any(data[start:end])  # holes are holes
    if number is None and (compression == "none" or not unpack):
        lost = [(s, min(e, len(whole))) for s, e in content.missing if s < len(whole)]
        assert copy.missing == lost  # no more than was missing


def test_holes_take_no_blocks_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(64 << 20)
        file.seek((64 << 20) - 100)
        file.write(b"x" * 100)
    hole = (4096, (64 << 20) - 4096)
    with FileContent(path, [hole]) as content:
        dump_of(content, cipher=dump_cipher(1)).save_plain(tmp_path / "out")
    assert (tmp_path / "out").stat().st_size == 64 << 20
    assert (tmp_path / "out").stat().st_blocks * 512 < 1 << 20


def test_a_hole_at_the_end_that_the_file_does_not_reach(tmp_path: Path) -> None:
    path = tmp_path / "short"
    path.write_bytes(b"x" * 100)
    with FileContent(path, [(100, 5000)]) as content:
        assert content.read(90, 100) == b"x" * 10 + bytes(90)
        copy, data = copied(tmp_path, content)
    assert (copy.size, copy.missing) == (5000, [(100, 5000)])
    assert data == b"x" * 100


@pytest.mark.parametrize("compression", [0, 1])
def test_what_a_file_lacks_of_its_headers_length_is_missing(
    tmp_path: Path, compression: int
) -> None:
    kdh = pack_header(compression=compression, dumplength=5000)
    for cipher in (None, dump_cipher(2)):
        content = Bytes(bytes(100), [(80, 100)])
        copy, data = copied(tmp_path, content, kdh, cipher)
        assert (copy.size, copy.missing, len(data)) == (5000, [(80, 5000)], 80)


def test_more_than_the_headers_length_is_cut_from_compressed_data_only(tmp_path: Path) -> None:
    for compression, size in ((0, 100), (2, 60)):
        kdh = pack_header(compression=compression, dumplength=60, blocksize=512)
        copy, data = copied(tmp_path, Bytes(b"x" * 100), kdh)
        assert (copy.size, len(data), copy.missing) == (size, size, [])


def test_an_older_file_is_left_alone_or_replaced_with_its_mapfile(tmp_path: Path) -> None:
    destination, map_ = tmp_path / "vmcore.0", tmp_path / "vmcore.0.map"
    destination.write_bytes(b"old")
    with pytest.raises(StoreError, match="is there already"):
        dump_of(Bytes(b"new")).save_plain(destination)
    assert destination.read_bytes() == b"old"
    dump_of(Bytes(b"damaged", [(0, 1)])).save_plain(destination, force=True)
    assert map_.exists()
    dump_of(Bytes(b"new")).save_plain(destination, force=True)
    assert destination.read_bytes() == b"new"
    assert sorted(tmp_path.iterdir()) == [destination]
    assert destination.stat().st_mode & 0o777 == 0o600


class _Failing(Bytes):
    def read(self, offset: int, size: int) -> bytes:
        if offset:
            raise StoreError("broken disk")
        return super().read(offset, size)


def test_nothing_is_left_of_a_copy_that_fails(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="broken disk"):
        dump_of(_Failing(bytes(3 << 20))).save_plain(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, before[1]))
    try:
        with pytest.raises(StoreError, match="out: cannot be written: "):
            dump_of(Bytes(b"x" * 9000)).save_plain(tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StoreError, match="cannot be written"):
        dump_of(Bytes(b"x")).save_plain(tmp_path / "no" / "out")


def test_a_file_that_shrinks_is_no_hole(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(bytes(5000))
    with FileContent(path) as content:
        with path.open("r+b") as file:
            file.truncate(10)
        with pytest.raises(StoreError, match="became shorter"):
            content.read(0, 5000)


def test_zstd_without_its_package_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(NetdumpError, match="install the Python package zstandard"):
        unpacked(Bytes(zstd(b"x")), None)
