# SPDX-License-Identifier: GPL-2.0-or-later
"""Which dumps a directory holds, judging by names."""

from __future__ import annotations

from pathlib import Path

import pytest

from scapy_netdump.errors import StoreError
from scapy_netdump.store.dump_files import Published
from scapy_netdump.store.listing import stored_dumps


def touch(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).touch()


def test_the_files_of_each_dump_are_put_together(tmp_path: Path) -> None:
    touch(tmp_path, "info.a.0", "kdh.a.0", "vmcore.a.0", "info.a.1", "vmcore.a.1.zst")
    touch(tmp_path, "vmcore.a.1.zst.map", "key.a.1", "info.10.99.0.2.0")
    assert stored_dumps(tmp_path) == {
        ("10.99.0.2", 0): Published(info=tmp_path / "info.10.99.0.2.0"),
        ("a", 0): Published(
            info=tmp_path / "info.a.0", kdh=tmp_path / "kdh.a.0", vmcore=tmp_path / "vmcore.a.0"
        ),
        ("a", 1): Published(
            info=tmp_path / "info.a.1",
            key=tmp_path / "key.a.1",
            vmcore=tmp_path / "vmcore.a.1.zst",
            map=tmp_path / "vmcore.a.1.zst.map",
        ),
    }


@pytest.mark.parametrize("name", ["vmcore_encrypted.a.7", "vmcore_encrypted.a.7.gz"])
def test_an_encrypted_vmcore_is_a_vmcore(tmp_path: Path, name: str) -> None:
    touch(tmp_path, name)
    assert stored_dumps(tmp_path) == {("a", 7): Published(vmcore=tmp_path / name)}


def test_dumps_come_by_number_not_by_spelling(tmp_path: Path) -> None:
    touch(tmp_path, *(f"info.a.{number}" for number in (10, 9, 100, 1)))
    assert [number for _, number in stored_dumps(tmp_path)] == [1, 9, 10, 100]


def test_dumps_that_savecore_named_have_no_host(tmp_path: Path) -> None:
    touch(tmp_path, "info.0", "vmcore.0.zst", "vmcore.0.zst.map", "bounds", "vmcore.last.zst")
    assert stored_dumps(tmp_path) == {
        ("", 0): Published(
            info=tmp_path / "info.0",
            vmcore=tmp_path / "vmcore.0.zst",
            map=tmp_path / "vmcore.0.zst.map",
        )
    }


def test_other_files_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "bounds.a", "minfree", "vmcore.a.last", "info.a.last", "vmcore.a.0.part")
    touch(tmp_path, "info.a.12345", "info.123456", "info.a.", "info..5")
    touch(tmp_path, "vmcore.a.0.xz", "xinfo.a.0")
    assert stored_dumps(tmp_path) == {}


def test_a_directory_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nothing: cannot be read: No such file"):
        stored_dumps(tmp_path / "nothing")
