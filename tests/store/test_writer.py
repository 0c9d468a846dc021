# SPDX-License-Identifier: GPL-2.0-or-later
"""The thread that does the writing: order, waiting, failure, and open files."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from scapy_netdump.errors import StoreError
from scapy_netdump.store.directory import Directory
from scapy_netdump.store.writer import Writer

PATIENCE = 10.0


@pytest.fixture
def writer() -> Iterator[Writer]:
    writer = Writer()
    yield writer
    writer.close()


def test_jobs_are_done_in_order_and_drain_waits_for_all(writer: Writer) -> None:
    done: list[int] = []
    for number in range(100):
        writer.add(lambda number=number: done.append(number))
        if number % 7 == 0:
            writer.turn()
    writer.drain()
    assert done == list(range(100))


def test_turn_waits_for_the_jobs_of_the_turn_before_but_not_for_its_own(writer: Writer) -> None:
    may_go_on, done = threading.Event(), []
    writer.add(lambda: may_go_on.wait(PATIENCE))
    writer.add(lambda: done.append("slow"))
    writer.turn()
    assert done == []
    may_go_on.set()
    writer.turn()
    assert done == ["slow"]


def test_without_a_job_there_is_no_thread(writer: Writer) -> None:
    before = threading.active_count()
    writer.turn()
    writer.drain()
    assert threading.active_count() == before


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    directory = Directory.open(tmp_path)
    yield directory
    directory.close()


def refuse() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "vmcore.x.0.part")


def test_a_failure_is_told_in_one_line_and_nothing_is_done_after_it(writer: Writer) -> None:
    done: list[str] = []
    writer.add(refuse)
    writer.add(lambda: done.append("after"))
    with pytest.raises(StoreError, match=r"^vmcore\.x\.0\.part: cannot write: No space left"):
        writer.drain()
    writer.add(lambda: done.append("later"))
    with pytest.raises(StoreError):
        writer.turn()
    assert done == []


@pytest.mark.parametrize("error", [MemoryError(), ValueError("a defect")])
def test_any_other_failure_is_told_too_and_nobody_waits_for_ever(
    writer: Writer, error: Exception
) -> None:
    def fail() -> None:
        raise error

    writer.add(fail)
    with pytest.raises(StoreError, match=type(error).__name__):
        writer.drain()


def test_files_stay_open_in_bounded_number(
    writer: Writer, directory: Directory, tmp_path: Path
) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = open_files()
    for number in range(200):
        path = tmp_path / str(number)
        path.touch()
        assert os.path.samestat(os.fstat(writer.descriptor(directory, path.name)), path.stat())
    assert open_files() - before <= 64
    writer.close()
    assert open_files() == before


def test_the_same_file_keeps_its_descriptor(
    writer: Writer, directory: Directory, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    first = writer.descriptor(directory, "file")
    assert writer.descriptor(directory, "file") == first


def test_a_link_is_not_followed(writer: Writer, directory: Directory, tmp_path: Path) -> None:
    (tmp_path / "target").touch()
    (tmp_path / "link").symlink_to("target")
    with pytest.raises(OSError, match="link"):
        writer.descriptor(directory, "link")
