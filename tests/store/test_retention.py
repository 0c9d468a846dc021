# SPDX-License-Identifier: GPL-2.0-or-later
"""Which dumps are removed and which never are, and how much of a disk is left free."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
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


#: What is told is something that cannot be read or removed.
pruned = partial(prune, tell=pytest.fail)


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


def test_the_oldest_complete_ones_go_with_all_their_files(
    crash: Path, directory: Directory
) -> None:
    dumps = LiveDumps(crash)
    for _ in range(4):
        receive(dumps)
    receive(dumps, client=OTHER)
    assert pruned(directory, CLIENT, 2, newest=3, least_age=0) == [0, 1]
    assert numbers(crash) == [2, 3]
    assert numbers(crash, OTHER) == [0]
    kinds = ("info", "kdh", "key", "vmcore_encrypted")
    assert {path.name for path in crash.iterdir() if path.name.startswith(kinds)} == {
        *(f"{kind}.{CLIENT}.{number}" for kind in kinds for number in (2, 3)),
        *(f"{kind}.{OTHER}.0" for kind in kinds),
        *(f"info.{client}.last" for client in (CLIENT, OTHER)),
    }
    dumps.close()


def test_a_server_removes_dumps_that_are_a_day_old(crash: Path) -> None:
    told: list[str] = []
    dumps = LiveDumps(crash, keep=2, tell=told.append)
    for number in range(4):
        receive(dumps)
        age(crash, number, int(time.time()) - (86_500 if number < 2 else 86_300))
    receive(dumps)
    assert numbers(crash) == [2, 3, 4]
    assert told == [f"{crash}: dump {n} of {CLIENT} removed to keep 2" for n in (0, 1)]
    dumps.close()


def test_incomplete_ones_are_never_removed_and_do_not_count(
    crash: Path, directory: Directory
) -> None:
    dumps = LiveDumps(crash)
    running = dumps.begin(CLIENT, b"")
    running.write(VMCORE, [b"x"], 0)
    for length in (100, 200, 100, 200, 100):
        receive(dumps, length)
    assert pruned(directory, CLIENT, 1, newest=5, least_age=0) == [1, 3]
    assert numbers(crash) == [0, 2, 4, 5]
    assert (crash / f"vmcore.{CLIENT}.0.part").exists()
    dumps.close()


def test_a_dump_that_is_not_whole_removes_none(crash: Path) -> None:
    dumps = LiveDumps(crash, keep=1)
    receive(dumps)
    age(crash, 0, 0)
    receive(dumps, 200)
    assert numbers(crash) == [0, 1]
    dumps.close()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda crash: (crash / f"vmcore_encrypted.{CLIENT}.0").unlink(),
        lambda crash: (crash / f"vmcore_encrypted.{CLIENT}.0.map").touch(),
        lambda crash: (crash / f"vmcore.{CLIENT}.0.part").touch(),
        lambda crash: (crash / f"info.{CLIENT}.0").write_text("Dump complete\nbut not here\n"),
        lambda crash: (crash / f"info.{CLIENT}.0").unlink(),
        lambda crash: (crash / f"kdh.{CLIENT}.0").unlink(),
        lambda crash: (crash / f"kdh.{CLIENT}.0").write_bytes(header(100, parity=1)),
        lambda crash: (crash / f"kdh.{CLIENT}.0").write_bytes(header(100)[:-1]),
    ],
    ids=["no vmcore", "mapfile", "part", "other last line", "no info", "no kdh", "parity", "cut"],
)  # fmt: skip
def test_what_does_not_look_whole_is_left_alone(crash: Path, directory: Directory, spoil) -> None:
    receive(LiveDumps(crash))
    spoil(crash)
    receive(LiveDumps(crash))
    assert pruned(directory, CLIENT, 1, newest=1, least_age=0) == []
    assert numbers(crash) == [0, 1]


def test_age_counts_and_not_the_number(crash: Path, directory: Directory) -> None:
    dumps = LiveDumps(crash)
    for number in range(4):
        receive(dumps)
        age(crash, number, 1000 - number)
    assert pruned(directory, CLIENT, 2, newest=3) == [2]
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
    assert pruned(directory, CLIENT, 0, newest=0, least_age=0) == [1]
    assert (crash / f"vmcore.{CLIENT}.last").exists()
    dumps.close()


def whole(crash: Path, host: str, number: int, size: int = 100, ended: int = 0) -> None:
    """The files of a complete dump."""
    (crash / f"vmcore.{host}.{number}").touch()
    os.truncate(crash / f"vmcore.{host}.{number}", size)
    (crash / f"kdh.{host}.{number}").write_bytes(header(size))
    (crash / f"info.{host}.{number}").write_text("Dump complete\n")
    os.utime(crash / f"info.{host}.{number}", (ended, ended))


def test_what_is_younger_than_asked_for_stays(crash: Path, directory: Directory) -> None:
    now = int(time.time())
    for number, ended in enumerate((now - 86_500, now - 86_300, now - 100, now + 100, now)):
        whole(crash, CLIENT, number, ended=ended)
    assert pruned(directory, CLIENT, 1, newest=4) == [0]
    assert pruned(directory, CLIENT, 1, newest=4, least_age=1000) == [1]
    assert pruned(directory, CLIENT, 1, newest=4, least_age=50) == [2]
    assert numbers(crash) == [3, 4]


@pytest.mark.parametrize(
    ("sizes", "keep", "removed"),
    [
        ([1 << 30, 1, 1, 1, 1], 3, [1]),  # what costs nothing to send removes but its like
        ([1 << 30, 1, 1, 1], 3, []),
        ([1000, 499], 1, []),
        ([1000, 500], 1, [0]),
        ([1001, 500], 1, []),
        ([1000, 600, 400], 1, [1]),  # each for one that stays
        ([100, 100, 10, 100], 2, [0]),
        ([10, 100, 10, 100], 2, [0]),
    ],
)
def test_no_dump_goes_for_one_that_is_much_smaller(
    crash: Path, directory: Directory, sizes: list[int], keep: int, removed: list[int]
) -> None:
    for number, size in enumerate(sizes):
        whole(crash, CLIENT, number, size, ended=number)
    assert pruned(directory, CLIENT, keep, newest=len(sizes) - 1) == removed


def test_a_host_whose_name_begins_alike_is_another(crash: Path, directory: Directory) -> None:
    for host in ("a", "a.1", "ab"):
        for number in range(2):
            whole(crash, host, number, ended=number)
    assert pruned(directory, "a", 1, newest=1) == [0]
    assert sorted(stored_dumps(crash)) == [
        ("a", 1), ("a.1", 0), ("a.1", 1), ("ab", 0), ("ab", 1),
    ]  # fmt: skip


@given(
    sizes=st.lists(st.one_of(st.none(), st.integers(1, 1000)), max_size=9),
    keep=st.integers(1, 4),
)
@settings(max_examples=40)
def test_for_each_that_goes_there_are_as_many_as_were_asked_for(
    sizes: list[int | None], keep: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Those of no size are incomplete."""
    crash = tmp_path_factory.mktemp("crash")
    for number, size in enumerate(sizes):
        whole(crash, CLIENT, number, size or 1000, ended=number)
        if size is None:
            (crash / f"vmcore.{CLIENT}.{number}.map").touch()
    directory = Directory.open(crash)
    removed = pruned(directory, CLIENT, keep, newest=len(sizes) - 1)
    left = numbers(crash)
    assert sorted(left + removed) == list(range(len(sizes)))
    good = {number: size for number, size in enumerate(sizes) if size is not None}
    for number in removed:
        newer = [good[other] for other in left if other in good and other > number]
        assert sum(2 * size >= good[number] for size in newer) >= keep
    equal = {number for number in good if good[number] == max(good.values(), default=0)}
    assert len(equal & set(left)) <= keep + 1
    directory.close()


@pytest.mark.root
def test_what_may_not_be_removed_is_told_and_the_others_go(crash: Path) -> None:
    """Some are another user's, in a directory where only they may remove them."""
    crash.chmod(0o1777)
    nobody = 65534
    for number in range(5):
        whole(crash, CLIENT, number, ended=number)
    for number in (0, 2, 3, 4):
        for kind in ("info", "kdh", "vmcore"):
            os.chown(crash / f"{kind}.{CLIENT}.{number}", nobody, nobody)
    os.chown(crash / f"vmcore.{CLIENT}.2", 0, 0)
    before = {path.name: path.read_bytes() for path in crash.iterdir()}
    os.chmod(crash / f"info.{CLIENT}.1", 0o600)
    open_directory = Directory.open(crash)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.setgroups([])
        os.setresgid(nobody, nobody, nobody)
        os.setresuid(nobody, nobody, nobody)
        told: list[str] = []
        removed = prune(open_directory, CLIENT, 1, newest=4, tell=told.append)
        os.write(write, json.dumps([removed, told]).encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with open(read) as answer:
        removed, told = json.load(answer)
    open_directory.close()
    assert removed == [0, 3]
    assert told == [
        f"{crash}/info.{CLIENT}.1: cannot be read: Permission denied",
        f"{crash}/vmcore.{CLIENT}.2: cannot be removed: Operation not permitted",
    ]
    assert {path.name: path.read_bytes() for path in crash.iterdir()} == {
        name: data for name, data in before.items() if name.split(".")[-1] not in "03"
    }


def test_several_may_remove_at_once(crash: Path) -> None:
    """Each dump is filed in a thread of its own."""
    for number in range(150):
        whole(crash, CLIENT, number, ended=number)
    removed: list[int] = []

    def remove() -> None:
        directory = Directory.open(crash)
        removed.extend(pruned(directory, CLIENT, 5, newest=149))
        directory.close()

    threads = [threading.Thread(target=remove) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(removed) == list(range(145))
    assert numbers(crash) == [145, 146, 147, 148, 149]
    assert not [name for name in os.listdir(crash) if name.endswith(".new")]


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
        dumps.begin(CLIENT, b"").write(VMCORE, [b"x"], 0)
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
