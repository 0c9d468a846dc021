# SPDX-License-Identifier: GPL-2.0-or-later
"""A file system without a block or an inode left: what is known is said all the same."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.traffic import header

from scapy_netdump.core.account import Account
from scapy_netdump.core.verdict import Kind, Verdict
from scapy_netdump.formats import KDH, VMCORE
from scapy_netdump.store.directory import Directory
from scapy_netdump.store.dump_files import DumpFiles, reserve
from scapy_netdump.store.mapfile import parse_mapfile

pytestmark = pytest.mark.root

HOST = "10.99.0.2"
MISSING = [(4096, 100_000)]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Directory]:
    """A small one: 64 KiB and 32 inodes."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=32,mode=700", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount")
    directory = Directory.open(tmp_path)
    try:
        yield directory
    finally:
        directory.close()
        subprocess.run(["umount", str(tmp_path)], check=True)


def fill_blocks(disk: Directory) -> None:
    with (disk.path / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(1024))


def fill_inodes(disk: Directory) -> None:
    with contextlib.suppress(OSError):
        for number in range(100):
            (disk.path / f"ballast.{number}").touch()


@pytest.fixture(params=[fill_blocks, fill_inodes], ids=["blocks", "inodes"])
def full(request: pytest.FixtureRequest, disk: Directory) -> Directory:
    disk.save("old", b"old\n" * 100)
    request.param(disk)
    return disk


@pytest.mark.parametrize("size", [0, 5, 400, 4096])
def test_a_small_file_is_written_over_where_there_is_no_room_beside_it(
    full: Directory, size: int
) -> None:
    names = set(full.names())
    full.replace("old", b"n" * size)
    assert full.read("old", 5000) == b"n" * size
    assert set(full.names()) == names


def test_what_does_not_fit_where_it_is_leaves_it_as_it_was(disk: Directory) -> None:
    disk.save("old", b"old\n" * 100)
    fill_blocks(disk)
    with pytest.raises(OSError, match="No space left") as error:
        disk.replace("old", b"n" * 5000)
    assert error.value.filename == str(disk.path / "old")
    assert disk.read("old", 5000) == b"old\n" * 100


@pytest.mark.parametrize("kind", ["second name", "symbolic link", "pipe", "nothing"])
def test_nothing_else_is_written_over(disk: Directory, kind: str) -> None:
    disk.save("old", b"old")
    if kind == "second name":
        os.link(disk.path / "old", disk.path / "name")
    elif kind == "symbolic link":
        (disk.path / "name").symlink_to("old")
    elif kind == "pipe":
        os.mkfifo(disk.path / "name")
    fill_inodes(disk)
    with pytest.raises(OSError, match="No space left"):
        disk.replace("name", b"new")
    assert disk.read("old", 100) == b"old"


def test_the_lock_is_kept(full: Directory) -> None:
    held = full.claim("old")
    assert held is not None
    assert full.replace_locked("old", b"new", held) == held
    assert full.locked("old")
    os.close(held)
    assert not full.locked("old")


def test_a_file_gets_its_name_and_a_link_leads_elsewhere(disk: Directory) -> None:
    disk.save("part", b"x")
    disk.point("last", "one")
    fill_inodes(disk)
    disk.rename("part", "vmcore")
    disk.point("last", "two")
    assert {"vmcore", "last"} <= set(disk.names())
    assert "part" not in disk.names()
    assert disk.target("last") == "two"
    with pytest.raises(FileExistsError):
        disk.rename("vmcore", "ballast.0")


def begun(disk: Directory) -> DumpFiles:
    files = reserve(disk, HOST, HOST, Verdict.receiving("at least 1 byte"), live=True)
    descriptor = files.create(VMCORE)
    os.pwrite(descriptor, b"x" * 4096, 0)
    os.close(descriptor)
    return files


def account(length: int) -> Account:
    account = Account()
    account.herald(b"")
    account.vmcore.add(0, 4096)
    account.headers.take(0, header(length))
    return account


def last_line(disk: Directory) -> str:
    return disk.read(f"info.{HOST}.0", 10_000).decode().splitlines()[-1]


@pytest.mark.parametrize("fill", [fill_blocks, fill_inodes])
def test_the_end_of_a_dump_is_said(disk: Directory, fill) -> None:
    files = begun(disk)
    fill(disk)
    files.show(None, Verdict(Kind.INCOMPLETE, "client timed out"))
    assert last_line(disk) == "Dump incomplete: client timed out"
    assert disk.locked(files.info)
    files.release()
    assert not disk.locked(files.info)


@pytest.mark.parametrize("noted", [False, True])
@pytest.mark.parametrize("fill", [fill_blocks, fill_inodes])
def test_a_dump_with_holes_is_filed_and_its_info_file_is_true(
    disk: Directory, noted: bool, fill
) -> None:
    """With the mapfile in the blocks of its ``.part``'s, or without, and then it says so."""
    files = begun(disk)
    descriptor = files.create(KDH)
    os.pwrite(descriptor, header(100_000), 0)
    os.close(descriptor)
    if noted:
        files.note_part([], 4096, False)
    fill(disk)
    mine = account(100_000)
    published = files.publish(mine, mine.verdict)
    said = "95904 of 100000 bytes missing in 1 range"
    assert published.vmcore == disk.path / f"vmcore.{HOST}.0"
    if noted:
        assert published.map is not None
        assert parse_mapfile(published.map.read_text()) == (MISSING, 100_000)
        assert last_line(disk) == f"Dump incomplete: {said}"
    else:
        assert published.map is None
        problem = "its mapfile could not be written: No space left on device"
        assert last_line(disk) == f"Dump incomplete: {problem}; {said}"
        told = Verdict.from_line(last_line(disk))
        assert told is not None
        assert not told.denies_holes
    assert not [name for name in disk.names() if ".part" in name]
    files.release()
