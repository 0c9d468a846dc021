# SPDX-License-Identifier: GPL-2.0-or-later
"""Captures from files, pipes and standard input, plain and compressed, whole and damaged."""

from __future__ import annotations

import gzip
import mmap
import os
import random
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from helpers.places import PCAPS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scapy_netdump.capture.source import Source, open_source
from scapy_netdump.errors import CaptureError

NOISE = 700_000  # bytes that do not compress
CONTENT = random.Random(1).randbytes(NOISE) + bytes(1_500_000) + b"end"
ZSTD_BLOCK = 128 << 10  # is unpacked as a whole or not at all
NOBODY = 65534

# Every example overwrites the same file, and may wait for a busy machine.
SHARED_DIRECTORY: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.function_scoped_fixture],
}

Compress = Callable[[bytes], bytes]
zstd: Compress = zstandard.ZstdCompressor(write_checksum=True).compress
COMPRESSIONS = pytest.mark.parametrize("compress", [gzip.compress, zstd], ids=["gzip", "zstd"])

COPY = """
import sys
from scapy_netdump.capture.source import open_source
with open_source("-") as source:
    buffer = bytearray(100_000)
    while count := source.read_into(memoryview(buffer)):
        sys.stdout.buffer.write(buffer[:count])
    print(source.name, source.size, source.mappable, source.problem, sep="|", file=sys.stderr)
"""


def everything(source: Source, size: int = 64 << 10) -> bytes:
    buffer = memoryview(mmap.mmap(-1, size))
    content = bytearray()
    while count := source.read_into(buffer):
        content += buffer[:count]
    assert source.read_into(buffer) == 0
    return bytes(content)


def read_file(path: Path) -> tuple[bytes, str | None]:
    """What a source gives for a file, and its problem."""
    with open_source(str(path)) as source:
        return everything(source), source.problem


def unpacked(tmp_path: Path, packed: bytes) -> tuple[bytes, str | None]:
    path = tmp_path / "capture"
    path.write_bytes(packed)
    return read_file(path)


def copied_from_stdin(*, stdin: int | None = None, data: bytes | None = None) -> tuple[bytes, str]:
    """What a process with this standard input reads from it, and how it describes it."""
    done = subprocess.run(
        [sys.executable, "-c", COPY], stdin=stdin, input=data, capture_output=True, timeout=60
    )
    return done.stdout, done.stderr.decode().strip()


# ---------------------------------------------------------------- plain


def test_a_plain_file_can_be_mapped_and_read(tmp_path: Path) -> None:
    path = tmp_path / "capture.pcap"
    path.write_bytes(CONTENT)
    with open_source(str(path)) as source:
        assert source.name == str(path)
        assert source.size == len(CONTENT)
        assert source.mappable is not None
        with mmap.mmap(source.mappable, 0, access=mmap.ACCESS_READ) as mapping:
            assert mapping[:] == CONTENT
        assert everything(source) == CONTENT
        assert source.problem is None


@pytest.mark.parametrize("content", [b"x", b"\x1f", b"\x28\xb5\x2f", b"1234", b"12345"])
def test_a_file_shorter_than_any_magic_number_is_plain(tmp_path: Path, content: bytes) -> None:
    assert unpacked(tmp_path, content) == (content, None)


@pytest.mark.parametrize("size", [1, 3, 1000, 1 << 20])
def test_reads_fill_the_buffer_until_the_end(tmp_path: Path, size: int) -> None:
    content = CONTENT[:2500]
    for packed in (content, gzip.compress(content), zstd(content)):
        path = tmp_path / "capture"
        path.write_bytes(packed)
        with open_source(str(path)) as source:
            buffer = memoryview(bytearray(size))
            counts = [source.read_into(buffer) for _ in range(len(content) // size + 2)]
        full, rest = divmod(len(content), size)
        assert counts[: full + 2] == [size] * full + ([rest, 0] if rest else [0, 0])


def test_a_named_pipe_is_read_as_a_stream(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(CONTENT,))
    writer.start()
    with open_source(str(path)) as source:
        assert source.mappable is None
        assert source.size is None
        assert everything(source) == CONTENT
    writer.join()


def test_a_pipe_that_trickles_is_still_known_by_its_first_bytes(tmp_path: Path) -> None:
    packed = gzip.compress(b"slow")
    reading, writing = os.pipe()

    def trickle() -> None:
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            for byte in packed:
                pipe.write(bytes([byte]))

    threading.Thread(target=trickle).start()
    with open_source(f"/dev/fd/{reading}") as source:
        assert everything(source) == b"slow"
    os.close(reading)


# ---------------------------------------------------------------- standard input


def test_standard_input_from_a_pipe_is_a_stream() -> None:
    content, described = copied_from_stdin(data=CONTENT)
    assert content == CONTENT
    assert described == "standard input|None|None|None"


@COMPRESSIONS
def test_standard_input_is_unpacked(compress: Compress) -> None:
    assert copied_from_stdin(data=compress(CONTENT))[0] == CONTENT


def test_standard_input_from_a_file_can_be_mapped(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(CONTENT)
    with path.open("rb") as file:
        content, described = copied_from_stdin(stdin=file.fileno())
    assert content == CONTENT
    assert described == f"standard input|{len(CONTENT)}|0|None"


def test_standard_input_that_was_read_in_part_gives_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(CONTENT)
    with path.open("rb", buffering=0) as file:
        file.read(1000)
        content, described = copied_from_stdin(stdin=file.fileno())
    assert content == CONTENT[1000:]
    assert described == "standard input|None|None|None"


def test_a_process_that_stops_reading_ends_although_its_pipe_stays_open() -> None:
    stop_early = COPY.replace("count := source.read_into(memoryview(buffer))", "False")
    with subprocess.Popen([sys.executable, "-c", stop_early], stdin=subprocess.PIPE) as process:
        assert process.stdin
        process.stdin.write(gzip.compress(CONTENT)[:1000])
        process.stdin.flush()
        assert process.wait(timeout=30) == 0


# ---------------------------------------------------------------- compressed


@COMPRESSIONS
@pytest.mark.parametrize("name", ["capture.pcap", "capture.gz", "capture.zst", "capture"])
def test_compression_is_known_by_content_whatever_the_name(
    tmp_path: Path, compress: Compress, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(compress(CONTENT))
    with open_source(str(path)) as source:
        assert source.mappable is None
        assert source.size is None
        assert everything(source) == CONTENT
        assert source.problem is None


def test_the_real_captures_are_unpacked() -> None:
    path = PCAPS / "kernel-clean.pcap.gz"
    assert read_file(path) == (gzip.decompress(path.read_bytes()), None)


@settings(max_examples=30, **SHARED_DIRECTORY)
@given(parts=st.lists(st.binary(max_size=200_000), min_size=1, max_size=6), level=st.integers(1, 9))
@pytest.mark.parametrize("kind", ["gzip", "zstd"])
def test_members_and_frames_one_behind_the_other_are_joined(
    tmp_path: Path, kind: str, parts: list[bytes], level: int
) -> None:
    if kind == "gzip":
        packed = b"".join(gzip.compress(part, level) for part in parts)
    else:
        # Sizes and checksums in the frame headers are optional: all four kinds of header.
        packed = b"".join(
            zstandard.ZstdCompressor(
                level=level, write_checksum=bool(number & 1), write_content_size=bool(number & 2)
            ).compress(part)
            for number, part in enumerate(parts)
        )
    assert unpacked(tmp_path, packed) == (b"".join(parts), None)


def test_gzip_padded_with_zeros_is_whole(tmp_path: Path) -> None:
    packed = gzip.compress(b"one") + bytes(100_000) + gzip.compress(b"two") + bytes(512)
    assert unpacked(tmp_path, packed) == (b"onetwo", None)


def test_skippable_zstd_frames_are_skipped(tmp_path: Path) -> None:
    skippable = b"\x5e\x2a\x4d\x18" + (100_000).to_bytes(4, "little") + bytes(100_000)
    packed = skippable + zstd(b"one") + skippable + zstd(b"two")
    assert unpacked(tmp_path, packed) == (b"onetwo", None)


def test_a_zstd_stream_flushed_often_is_unpacked(tmp_path: Path) -> None:
    compressor = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    packed = b"".join(
        compressor.compress(bytes([number % 251]) * number)
        + compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        for number in range(1000)
    )
    packed += compressor.flush()
    expected = b"".join(bytes([number % 251]) * number for number in range(1000))
    assert unpacked(tmp_path, packed) == (expected, None)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc to see memory")
@COMPRESSIONS
def test_a_small_file_that_unpacks_to_a_gigabyte_takes_little_memory(
    tmp_path: Path, compress: Compress
) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(compress(bytes(8 << 20)) * 128)
    program = rf"""
import re
from pathlib import Path
from scapy_netdump.capture.source import open_source
buffer = memoryview(bytearray(1 << 20))
with open_source({str(path)!r}) as source:
    print(sum(iter(lambda: source.read_into(buffer), 0)))
print(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    total, kilobytes = map(int, done.stdout.split())
    assert total == 1 << 30
    assert kilobytes < 64_000


# ---------------------------------------------------------------- damaged


@COMPRESSIONS
@pytest.mark.parametrize("kept", [0.3, 0.9, -1])
def test_compressed_data_cut_short_gives_what_precedes_the_cut(
    tmp_path: Path, compress: Compress, kept: float
) -> None:
    packed = compress(CONTENT)
    length = int(len(packed) * kept) if kept > 0 else len(packed) - 1
    content, problem = unpacked(tmp_path, packed[:length])
    assert CONTENT.startswith(content)
    assert len(content) >= min(length, NOISE) - ZSTD_BLOCK
    assert problem
    assert "cut short" in problem


@pytest.mark.parametrize("level", [0, 6], ids=["stored", "deflated"])
def test_damaged_gzip_gives_all_that_unpacks_before_the_damage(tmp_path: Path, level: int) -> None:
    intact = CONTENT[:500_000]
    packer = zlib.compressobj(level, wbits=31)
    packed = packer.compress(intact) + packer.flush(zlib.Z_FULL_FLUSH)
    content, problem = unpacked(tmp_path, packed + b"\xff" * 1000)
    assert content == intact
    assert problem
    assert "damaged" in problem


def test_a_wrong_gzip_checksum_is_told_after_all_bytes(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(CONTENT))
    packed[-8] ^= 1
    content, problem = unpacked(tmp_path, bytes(packed))
    assert content == CONTENT
    assert problem
    assert "damaged" in problem


def test_a_damaged_zstd_block_ends_the_capture_there(tmp_path: Path) -> None:
    text = " ".join(map(str, range(200_000))).encode()
    packed = bytearray(zstd(text))
    half = len(packed) // 2
    packed[half:] = b"\xff" * (len(packed) - half)
    content, problem = unpacked(tmp_path, bytes(packed))
    assert text.startswith(content)
    assert len(content) >= ZSTD_BLOCK
    assert problem
    assert "cannot be unpacked" in problem


@COMPRESSIONS
def test_what_follows_the_compressed_data_is_left_out_and_told(
    tmp_path: Path, compress: Compress
) -> None:
    content, problem = unpacked(tmp_path, compress(CONTENT) + b"something else")
    assert content == CONTENT
    assert problem
    assert "left out" in problem


@settings(max_examples=60, **SHARED_DIRECTORY)
@given(packed=st.binary(max_size=300))
@pytest.mark.parametrize("magic", [b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18"])
def test_noise_behind_a_magic_number_ends_with_a_problem_of_one_line(
    tmp_path: Path, magic: bytes, packed: bytes
) -> None:
    _, problem = unpacked(tmp_path, magic + packed)
    assert problem is None or "\n" not in problem


# ---------------------------------------------------------------- closing and refusing


def test_closing_early_and_twice_is_harmless(tmp_path: Path) -> None:
    path = tmp_path / "capture.gz"
    path.write_bytes(gzip.compress(bytes(50_000_000)))
    before = threading.active_count()
    source = open_source(str(path))
    source.read_into(memoryview(bytearray(10)))
    source.close()
    source.close()
    for thread in threading.enumerate():
        if "unpack" in thread.name:
            thread.join(timeout=10)
    assert threading.active_count() <= before


def refusal(path: Path) -> str:
    with pytest.raises(CaptureError) as raised:
        open_source(str(path))
    message = str(raised.value)
    assert "\n" not in message
    assert str(path) in message
    return message.lower()


def test_a_missing_file_a_directory_and_an_empty_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert "no such file" in refusal(tmp_path / "missing")
    assert "is a directory" in refusal(tmp_path)
    assert "empty" in refusal(tmp_path / "empty")


def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(b"capture")
    path.chmod(0)
    user = os.geteuid()
    if user == 0:  # may read every file
        os.seteuid(NOBODY)
    try:
        assert "permission denied" in refusal(path)
    finally:
        os.seteuid(user)


def test_an_impossible_path_is_refused() -> None:
    with pytest.raises(CaptureError):
        open_source("a\0b")


def test_zstd_without_its_package_is_refused_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "capture"
    path.write_bytes(zstd(CONTENT))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert "install" in refusal(path)
