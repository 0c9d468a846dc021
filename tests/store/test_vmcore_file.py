# SPDX-License-Identifier: GPL-2.0-or-later
"""A vmcore on disk: every byte where it belongs, sparse, however the system writes."""

from __future__ import annotations

import ctypes
import resource
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.core.extents import Extents
from scapy_netdump.core.observing.batch import Bytes
from scapy_netdump.errors import StoreError
from scapy_netdump.store import vmcore_file
from scapy_netdump.store.directory import Directory
from scapy_netdump.store.vmcore_file import VmcoreFile
from scapy_netdump.store.writer import Writer


@pytest.fixture
def writer() -> Iterator[Writer]:
    writer = Writer()
    yield writer
    writer.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vmcore.host.0.part"


@pytest.fixture
def file(path: Path, writer: Writer) -> Iterator[VmcoreFile]:
    directory = Directory.open(path.parent)
    yield VmcoreFile(directory, path.name, writer)
    directory.close()


def array(data: bytes) -> Bytes:
    return np.frombuffer(data, np.uint8)


def test_pieces_are_joined_and_stand_at_their_offset(
    file: VmcoreFile, writer: Writer, path: Path
) -> None:
    file.write(array(b"..one...two."), np.array([8, 2]), np.array([3, 3]), 5)
    writer.drain()
    assert path.read_bytes() == b"\0" * 5 + b"twoone"


def test_thousands_of_pieces_are_more_than_the_system_takes_at_once(
    file: VmcoreFile, writer: Writer, path: Path
) -> None:
    data = Random(0).randbytes(50_000)
    sizes = np.array([size for size, _ in zip(range(1, 6), range(5), strict=True)] * 3000)
    positions = np.cumsum(sizes) - sizes
    file.write(array(data), positions, sizes, 0)
    writer.drain()
    assert path.read_bytes() == data[: int(sizes.sum())]


@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=40),
    limits=st.lists(st.integers(1, 60), min_size=1, max_size=30),
)
def test_short_writes_are_gone_on_with(
    sizes: list[int], limits: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The system may write any part of what it is asked to, down to a byte."""
    real, turn = vmcore_file._pwritev, iter(limits * 2000)

    def write_some(descriptor: int, pieces: int, count: int, offset: int) -> int:
        asked = (ctypes.c_size_t * (2 * count)).from_address(pieces)
        vectors = np.array(asked, np.uintp).reshape(count, 2)
        left = next(turn)
        for vector in vectors:
            vector[1] = min(int(vector[1]), left)
            left -= int(vector[1])
        return int(real(descriptor, vectors.ctypes.data, count, offset))

    path = tmp_path_factory.mktemp("short") / "vmcore"
    data = Random(sum(sizes)).randbytes(sum(sizes))
    lengths = np.array(sizes)
    writer = Writer()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vmcore_file, "_pwritev", write_some)
        directory = Directory.open(path.parent)
        file = VmcoreFile(directory, path.name, writer)
        file.write(array(data), np.cumsum(lengths) - lengths, lengths, 7)
        writer.drain()
    writer.close()
    directory.close()
    assert path.read_bytes() == bytes(7) + data


def test_what_was_stored_can_be_read_back_and_holes_are_zeros(file: VmcoreFile) -> None:
    file.put(4, b"four")
    assert file.read(2, 12) == b"\0\0four\0\0\0\0"
    file.put(4, b"FOUR")
    assert file.read(4, 8) == b"FOUR"


def test_holes_take_no_room(file: VmcoreFile, writer: Writer, path: Path) -> None:
    extents = Extents()
    for start in (0, 1 << 30, 1 << 35):
        file.put(start, b"x" * 4096)
        extents.add(start, start + 4096)
    file.finish(extents)
    writer.drain()
    status = path.stat()
    assert status.st_size == (1 << 35) + 4096
    assert status.st_blocks * 512 < 1 << 20


@pytest.mark.parametrize("step", [1448, 65_536])
def test_what_was_taken_in_advance_is_given_back(
    file: VmcoreFile, writer: Writer, step: int, path: Path
) -> None:
    """Also in the holes between: 32 MB come in order, but for one hole of a megabyte."""
    extents, data = Extents(), b"x" * step
    for start in range(0, 32 << 20, step):
        if not 20 << 20 <= start < 21 << 20:
            file.put(start, data)
            extents.add(start, start + step)
    file.finish(extents)
    writer.drain()
    status = path.stat()
    assert status.st_size == extents.end
    assert status.st_blocks * 512 <= extents.total + (1 << 16)


def test_no_data_is_no_file(file: VmcoreFile, writer: Writer, path: Path) -> None:
    file.finish(Extents())
    writer.drain()
    assert not path.exists()


def test_only_the_owner_may_read_a_dump(file: VmcoreFile, writer: Writer, path: Path) -> None:
    file.put(0, b"secrets")
    writer.drain()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_what_has_the_name_already_is_left_alone(
    kind: str, file: VmcoreFile, writer: Writer, tmp_path: Path, path: Path
) -> None:
    other = tmp_path / "other"
    if kind != "dangling link":
        other.write_bytes(b"precious")
    if kind == "file":
        other.rename(path)
    else:
        path.symlink_to(other)
    file.put(0, b"new")
    with pytest.raises(StoreError, match="File exists"):
        writer.drain()
    if kind == "dangling link":
        assert not other.exists()
    else:
        assert path.read_bytes() == b"precious"


def test_a_full_disk_is_told_once_with_the_files_name(path: Path) -> None:
    """The limit on the size of a file stands in for a full disk, in a process of its own."""
    program = """
        import sys
        from pathlib import Path
        from scapy_netdump.errors import StoreError
        from scapy_netdump.store.directory import Directory
        from scapy_netdump.store.vmcore_file import VmcoreFile
        from scapy_netdump.store.writer import Writer

        writer = Writer()
        path = Path(sys.argv[1])
        file = VmcoreFile(Directory.open(path.parent), path.name, writer)
        for place in range(100):
            file.put(place * 10_000, bytes(10_000))
        try:
            writer.drain()
        except StoreError as error:
            print(error)
    """
    answer = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), path],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536)),
    )
    assert answer.stdout == f"{path}: cannot write: File too large\n"
    assert answer.stderr == ""
