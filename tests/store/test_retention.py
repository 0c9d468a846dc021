# SPDX-License-Identifier: GPL-2.0-or-later
"""Which dumps are removed and which never are, and how much of a disk is left free."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.traffic import header
from hypothesis import given, settings
from hypothesis import strategies as st

from scapy_netdump.core.account import Account
from scapy_netdump.errors import StoreError
from scapy_netdump.formats import EKCD_KEY, KDH, VMCORE
from scapy_netdump.kerneldump.key import DumpKey
from scapy_netdump.store.directory import Directory
from scapy_netdump.store.live_dumps import LiveDumps
from scapy_netdump.store.naming import stored_dumps
from scapy_netdump.store.retention import FreeSpace, prune

CLIENT = "10.99.0.2"
OTHER = "10.99.0.20"
MIB = 1 << 20
KEY = DumpKey(2, bytes(32), bytes(64)).pack()


@pytest.fixture
def crash(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def directory(crash: Path) -> Iterator[Directory]:
    directory = Directory.open(crash)
    yield directory
    directory.close()


def receive(dumps: LiveDumps, length: int = 100, client: str = CLIENT) -> None:
    """A dump of 100 bytes, of which its header says that it has ``length``."""
    dump, account = dumps.begin(client, b""), Account()
    dump.write(VMCORE, [b"x" * 100], 0)
    dump.write(EKCD_KEY, [KEY], 0)
    dump.write(KDH, [header(length)], 0)
    account.vmcore.add(0, 100)
    account.headers.take(0, header(length))
    account.key.add(0, KEY)
    account.finished = True
    dump.finish(account, account.verdict)


def age(crash: Path, number: int, seconds: int) -> None:
    """Let a dump have ended that many seconds after 1970."""
    os.utime(crash / f"info.{CLIENT}.{number}", (seconds, seconds))


def numbers(crash: Path, client: str = CLIENT) -> list[int]:
    return [number for host, number in stored_dumps(crash) if host == client]


# Dumps that are kept


def test_without_being_asked_nothing_is_removed(crash: Path) -> None:
    dumps = LiveDumps(crash)
    for _ in range(5):
        receive(dumps)
    assert numbers(crash) == [0, 1, 2, 3, 4]
    dumps.close()


def test_the_oldest_complete_ones_go_with_all_their_files(crash: Path) -> None:
    told: list[str] = []
    dumps = LiveDumps(crash, keep=2, tell=told.append)
    for _ in range(4):
        receive(dumps)
    receive(dumps, client=OTHER)
    assert numbers(crash) == [2, 3]
    assert numbers(crash, OTHER) == [0]
    kinds = ("info", "kdh", "key", "vmcore_encrypted")
    assert {path.name for path in crash.iterdir() if path.name.startswith(kinds)} == {
        *(f"{kind}.{CLIENT}.{number}" for kind in kinds for number in (2, 3)),
        *(f"{kind}.{OTHER}.0" for kind in kinds),
        *(f"info.{client}.last" for client in (CLIENT, OTHER)),
    }
    assert told == [f"{crash}: dump {n} of {CLIENT} removed to keep 2" for n in (0, 1)]
    dumps.close()


def test_incomplete_ones_are_never_removed_and_do_not_count(crash: Path) -> None:
    dumps = LiveDumps(crash, keep=1)
    running = dumps.begin(CLIENT, b"")
    running.write(VMCORE, [b"x"], 0)
    for length in (100, 200, 100, 200, 100):
        receive(dumps, length)
    assert numbers(crash) == [0, 2, 4, 5]
    assert (crash / f"vmcore.{CLIENT}.0.part").exists()
    dumps.close()


def test_a_dump_that_is_not_whole_removes_none(crash: Path) -> None:
    dumps = LiveDumps(crash, keep=1)
    receive(dumps)
    receive(dumps, 200)
    assert numbers(crash) == [0, 1]
    dumps.close()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda crash: (crash / f"vmcore_encrypted.{CLIENT}.0").unlink(),
        lambda crash: (crash / f"vmcore_encrypted.{CLIENT}.0.map").touch(),
        lambda crash: (crash / f"info.{CLIENT}.0").write_text("Dump complete\nbut not here\n"),
        lambda crash: (crash / f"info.{CLIENT}.0").unlink(),
    ],
    ids=["no vmcore", "mapfile", "other last line", "no info"],
)
def test_what_does_not_look_whole_is_left_alone(crash: Path, spoil) -> None:
    receive(LiveDumps(crash))
    spoil(crash)
    receive(LiveDumps(crash, keep=1))
    assert numbers(crash) == [0, 1]


def test_age_counts_and_not_the_number(crash: Path, directory: Directory) -> None:
    dumps = LiveDumps(crash)
    for number in range(4):
        receive(dumps)
        age(crash, number, 1000 - number)
    assert prune(directory, CLIENT, 2, newest=3) == [2]
    assert numbers(crash) == [0, 1, 3]
    dumps.close()


def test_the_newest_and_the_last_stay_whatever_the_clock_said(
    crash: Path, directory: Directory
) -> None:
    dumps = LiveDumps(crash)
    for _ in range(3):
        receive(dumps)
    age(crash, 0, 1)  # newest by what the caller says
    age(crash, 2, 2)  # info.HOST.last
    assert prune(directory, CLIENT, 0, newest=0) == [1]
    assert (crash / f"vmcore.{CLIENT}.last").exists()
    dumps.close()


def test_a_host_whose_name_begins_alike_is_another(crash: Path, directory: Directory) -> None:
    for host in ("a", "a.1", "ab"):
        for number in range(2):
            (crash / f"info.{host}.{number}").write_text("Dump complete\n")
            (crash / f"vmcore.{host}.{number}").touch()
    assert prune(directory, "a", 1, newest=1) == [0]
    assert sorted(stored_dumps(crash)) == [
        ("a", 1), ("a.1", 0), ("a.1", 1), ("ab", 0), ("ab", 1),
    ]  # fmt: skip


@given(whole=st.lists(st.booleans(), max_size=7), keep=st.integers(1, 4))
@settings(max_examples=40)
def test_as_many_stay_as_were_asked_for(
    whole: list[bool], keep: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    crash = tmp_path_factory.mktemp("crash")
    dumps = LiveDumps(crash, keep=keep)
    for complete in whole:
        receive(dumps, 100 if complete else 200)
    good = [number for number, complete in enumerate(whole) if complete]
    bad = [number for number, complete in enumerate(whole) if not complete]
    assert numbers(crash) == sorted(bad + good[-keep:])
    dumps.close()


def test_what_cannot_be_removed_is_told_and_the_new_dump_is_sound(
    crash: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    dumps = LiveDumps(crash, keep=1, tell=told.append)
    receive(dumps)
    real = Directory.unlink

    def refuse(self: Directory, name: str) -> None:
        if name == f"info.{CLIENT}.0":
            raise PermissionError(1, "Operation not permitted", str(self.path / name))
        real(self, name)

    monkeypatch.setattr(Directory, "unlink", refuse)
    receive(dumps)
    assert told == [f"{crash}/info.{CLIENT}.0: cannot be removed: Operation not permitted"]
    assert numbers(crash) == [0, 1]
    dumps.close()


def test_several_may_remove_at_once(crash: Path) -> None:
    """Each dump is filed in a thread of its own."""
    for number in range(150):
        (crash / f"info.{CLIENT}.{number}").write_text("Dump complete\n")
        (crash / f"vmcore.{CLIENT}.{number}").touch()
        age(crash, number, number)
    removed: list[int] = []

    def remove() -> None:
        directory = Directory.open(crash)
        removed.extend(prune(directory, CLIENT, 5, newest=149))
        directory.close()

    threads = [threading.Thread(target=remove) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(removed) == set(range(145))
    assert numbers(crash) == [145, 146, 147, 148, 149]


# Space that is left free


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes the file system says are free, and how often it was asked."""
    values = [100 * MIB, 0]

    def answer(_: Directory) -> int:
        values[1] += 1
        return values[0]

    monkeypatch.setattr(Directory, "free_bytes", answer)
    return values


def test_without_a_minimum_the_system_is_not_asked(directory: Directory, free: list[int]) -> None:
    FreeSpace(directory, 0).take(1 << 60)
    assert free[1] == 0


def test_a_new_dump_is_refused_where_space_is_short(crash: Path, free: list[int]) -> None:
    dumps = LiveDumps(crash, min_free=100 * MIB)
    with pytest.raises(StoreError) as error:
        dumps.begin(CLIENT, b"")
    assert str(error.value) == (
        f"{crash}: {100 * MIB} bytes are free, and {100 * MIB} are to stay free; remove old dumps"
    )
    assert os.listdir(crash) == []
    dumps.close()


@given(
    sizes=st.lists(st.integers(0, 3 * MIB), max_size=60),
    minimum=st.integers(1, 60 * MIB),
)
def test_the_minimum_stays_free_and_all_above_it_can_be_had(sizes: list[int], minimum: int) -> None:
    free, asked = 64 * MIB, 0

    class Disk(Directory):
        def free_bytes(self) -> int:
            nonlocal asked
            asked += 1
            return free

    space = FreeSpace(Disk(-1, Path("/crash")), minimum)
    for size in sizes:
        try:
            space.take(size)
        except StoreError:
            assert free - size < minimum + (8 << 10)
        else:
            free -= size
            assert free >= minimum
    assert asked <= 2 * len(sizes) + 1


def test_the_system_is_asked_once_a_megabyte(directory: Directory, free: list[int]) -> None:
    space = FreeSpace(directory, 1)
    for _ in range(1000):
        space.take(58_000)
    assert free[1] < 80


def test_a_dump_ends_where_space_gets_short(crash: Path, free: list[int]) -> None:
    dumps = LiveDumps(crash, min_free=100 * MIB - 20_000)
    dump = dumps.begin(CLIENT, b"")
    dump.write(VMCORE, [b"x" * 5000], 0)
    free[0] -= 5000
    with pytest.raises(StoreError) as error:
        dump.write(VMCORE, [b"x" * 9000], 5000)
    part = crash / f"vmcore.{CLIENT}.0.part"
    assert str(error.value).startswith(f"{part}: cannot write at offset 5000: {crash}: ")
    assert part.stat().st_size == 5000
    dumps.close()


@pytest.mark.root
def test_on_a_real_disk_no_less_is_free_than_was_asked_for(crash: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs", str(crash)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        dumps = LiveDumps(crash, min_free=3 * MIB)
        dump = dumps.begin(CLIENT, b"")

        def fill() -> None:
            for place in range(200):
                dump.write(VMCORE, [b"x" * 1448] * 40, place * 1448 * 40)

        with pytest.raises(StoreError, match="are to stay free"):
            fill()
        status = os.statvfs(crash)
        free = status.f_bavail * status.f_frsize
        assert 3 * MIB <= free < 3 * MIB + 100_000
        dump.discard()
        dumps.close()
    finally:
        subprocess.run(["umount", str(crash)], check=True)
