# SPDX-License-Identifier: GPL-2.0-or-later
"""A directory held by a descriptor: nothing a HERALD asks for, and no change of the tree, leads
out of it; small files are whole or not there."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.errors import StoreError
from scapy_netdump.store import beneath
from scapy_netdump.store.beneath import PathRefusedError
from scapy_netdump.store.directory import Directory

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h

HAS_OPENAT2 = beneath._HAS_OPENAT2


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    (tmp_path / "crash").mkdir()
    directory = Directory.open(tmp_path / "crash")
    yield directory
    directory.close()


@pytest.fixture(params=["openat2", "part by part", "unknown to the kernel", "mkdir"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every way in which a path is looked up."""
    if request.param == "openat2":
        if not HAS_OPENAT2:
            pytest.skip("no openat2(2) here")
        monkeypatch.setattr(beneath, "_walk", None)
    elif request.param == "part by part":
        monkeypatch.setattr(beneath, "_HAS_OPENAT2", False)
    elif request.param == "unknown to the kernel":
        monkeypatch.setattr(beneath, "_SYS_OPENAT2", 4095)
    return str(request.param)


def look_up(directory: Directory, path: bytes | str, way: str) -> Path:
    """Where a path leads to, told by the directory itself and not by the name it gives."""
    found = directory.below(path, create=way == "mkdir")
    try:
        assert os.path.samestat(os.fstat(found.descriptor), os.stat(found.path))
        return found.path
    finally:
        found.close()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


# Paths from HERALDs


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (b"lab", "lab"),
        ("lab", "lab"),
        (b"lab/", "lab"),
        (b"./lab//rack/.", "lab/rack"),
        (b"lab/rack/..", "lab"),
        (b"lab/../other", "other"),
        (b"lab/..", ""),
        (b".", ""),
        (b"", ""),
        (b"\xff\xfe", "\udcff\udcfe"),
    ],
)
def test_a_path_leads_below(directory: Directory, way: str, path: bytes, place: str) -> None:
    for name in ("lab/rack", "other", "\udcff\udcfe"):
        (directory.path / name).mkdir(parents=True)
    assert look_up(directory, path, way) == directory.path / place


@pytest.mark.parametrize(
    "path",
    [
        b"..",
        b"../crash",
        b"../outside",
        b"lab/../..",
        b"lab/../../outside",
        b"lab/../../crash/lab",
        b"/",
        b"/tmp",
        b"//tmp",
        b"file",
        b"file/below",
        b"link",
        b"link/lab",
        b"dangling",
        b"loop",
        b"inner",
        b"lab/up",
        b"pipe",
        b"lab\0",
        b"lab\0/../../outside",
        b"x" * 256,
        b"lab/" + b"x" * 256,
        b"lab/" * 256,
        b"lab/../" * 9000 + b"lab",
    ],
)
def test_what_is_no_directory_below_is_refused(directory: Directory, way: str, path: bytes) -> None:
    """Also where a symbolic link stays below: nobody can tell for how long it does."""
    (directory.path / "lab").mkdir()
    (directory.path / "file").touch()
    outside = directory.path.parent / "outside"
    outside.mkdir()
    (directory.path / "link").symlink_to(outside)
    (directory.path / "dangling").symlink_to(outside / "nothing")
    (directory.path / "loop").symlink_to("loop")
    (directory.path / "inner").symlink_to("lab")
    (directory.path / "lab" / "up").symlink_to("..")
    os.mkfifo(directory.path / "pipe")
    before = open_files()
    with pytest.raises(PathRefusedError, match=r"crash: path '.*' is refused: \w+") as error:
        look_up(directory, path, way)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 300 + len(str(directory.path))
    assert open_files() == before
    assert os.listdir(outside) == []


def test_directories_are_made_only_when_that_is_asked_for(directory: Directory) -> None:
    with pytest.raises(PathRefusedError, match="No such file or directory"):
        directory.below(b"lab/rack")
    assert directory.names() == []
    made = directory.below(b"lab/rack", create=True)
    assert made.made == 2
    assert (directory.path / "lab").stat().st_mode & 0o777 == 0o700
    again = directory.below(b"lab/rack/..", create=True)
    assert again.made == 0
    directory.remove_made(again)
    assert directory.names() == ["lab"]
    directory.remove_made(made)
    assert directory.names() == []
    made.close()
    again.close()


@pytest.mark.parametrize(
    "path",
    [b"bounds.10.99.0.2", b"info.x.last", b"vmcore.x.3", b"x.new", b"lab/key.x", b"bounds/lab",
     b"lab/new/x.map/y"],
)  # fmt: skip
def test_no_directory_is_made_where_a_file_may_have_to_be(
    directory: Directory, path: bytes
) -> None:
    (directory.path / "lab").mkdir()
    with pytest.raises(PathRefusedError, match=r"refused: '\S+' is a name for files of dumps"):
        directory.below(path, create=True)
    assert [name for _, inner, _ in os.walk(directory.path) for name in inner] == ["lab"]
    (directory.path / os.fsdecode(path)).mkdir(parents=True)
    directory.below(path, create=True).close()


def test_few_levels_are_made(directory: Directory) -> None:
    eight = b"/".join([b"a"] * 8)
    with pytest.raises(PathRefusedError, match="9 levels would have to be made, 8 are"):
        directory.below(eight + b"/a", create=True)
    assert directory.names() == []
    made = directory.below(eight, create=True)
    assert made.made == 8
    directory.below(eight + b"/" + eight, create=True).close()
    made.close()


def test_what_cannot_all_be_made_leaves_nothing(directory: Directory) -> None:
    (directory.path / "lab").mkdir()
    before = open_files()
    made = os.mkdir

    def fail(name: bytes, mode: int, **at: int) -> None:
        if name == b"third":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        made(name, mode, **at)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "mkdir", fail)
        with pytest.raises(PathRefusedError, match="No space left"):
            directory.below(b"lab/first/second/third/fourth", create=True)
    assert os.listdir(directory.path / "lab") == []
    assert open_files() == before


def test_what_was_made_stays_once_something_is_in_it(directory: Directory) -> None:
    made = directory.below(b"lab/rack", create=True)
    (directory.path / "lab" / "file").touch()
    directory.remove_made(made)
    assert os.listdir(directory.path / "lab") == ["file"]
    made.close()


def test_removing_what_was_made_follows_no_link(directory: Directory, tmp_path: Path) -> None:
    (tmp_path / "outside" / "rack").mkdir(parents=True)
    made = directory.below(b"lab/rack", create=True)
    (directory.path / "lab").rename(directory.path / "away")
    (directory.path / "lab").symlink_to(tmp_path / "outside")
    directory.remove_made(made)
    assert (tmp_path / "outside" / "rack").is_dir()
    made.close()


@given(parts=st.lists(st.sampled_from([b"lab", b"rack", b"..", b".", b"", b"link"]), max_size=8))
def test_any_mixture_stays_below_or_is_refused(
    parts: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = tmp_path_factory.mktemp("base")
    (base / "crash" / "lab" / "rack").mkdir(parents=True)
    (base / "crash" / "rack" / "lab").mkdir(parents=True)
    (base / "crash" / "lab" / "link").symlink_to(base)
    directory = Directory.open(base / "crash")
    try:
        found = look_up(directory, b"/".join(parts), "")
        assert os.path.commonpath([found.resolve(), base / "crash"]) == str(base / "crash")
    except PathRefusedError:
        pass
    directory.close()


def test_a_directory_that_is_swapped_for_a_link_leads_nowhere_else(
    directory: Directory, way: str, tmp_path: Path
) -> None:
    """A thread does so all the time, while paths through it are looked up and written to."""
    for above in (directory.path, tmp_path / "outside"):
        (above / "lab" / "rack").mkdir(parents=True)
    (directory.path / "link").symlink_to(tmp_path / "outside" / "lab")
    lab, link = (os.fsencode(directory.path / name) for name in ("lab", "link"))
    exchange = ctypes.CDLL(None).renameat2
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            assert exchange(AT_FDCWD, lab, AT_FDCWD, link, RENAME_EXCHANGE) == 0

    thread = threading.Thread(target=swap)
    thread.start()
    found, refused = 0, 0
    try:
        for number in range(100_000):
            try:
                rack = directory.below(b"lab/rack", create=way == "mkdir")
            except PathRefusedError:
                refused += 1
            else:
                os.close(rack.create(f"vmcore.{number}"))
                rack.close()
                found += 1
            if min(found, refused) > 200 and number > 5000:
                break
    finally:
        stop.set()
        thread.join()
    assert found
    assert refused
    assert os.listdir(tmp_path / "outside") == ["lab"]
    assert os.listdir(tmp_path / "outside" / "lab") == ["rack"]
    assert os.listdir(tmp_path / "outside" / "lab" / "rack") == []


def test_a_directory_stays_the_same_when_its_name_goes_elsewhere(
    directory: Directory, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    directory.path.rename(tmp_path / "moved")
    directory.path.symlink_to(tmp_path / "outside")
    directory.save("info", b"text")
    assert os.listdir(tmp_path / "outside") == []
    assert (tmp_path / "moved" / "info").read_bytes() == b"text"


# Files


def test_only_what_was_not_there_is_created(directory: Directory) -> None:
    directory.save("file", b"first", 0o400)
    (directory.path / "link").symlink_to("nothing")
    for name in ("file", "link"):
        with pytest.raises(FileExistsError) as error:
            directory.create(name)
        assert error.value.filename == str(directory.path / name)
    assert directory.read("file", 100) == b"first"
    assert (directory.path / "file").stat().st_mode & 0o777 == 0o400
    assert not (directory.path / "nothing").exists()


def test_a_new_name_is_given_only_if_it_is_free(directory: Directory) -> None:
    directory.save("old", b"old")
    directory.save("taken", b"taken")
    (directory.path / "dangling").symlink_to("nothing")
    for name in ("taken", "dangling"):
        with pytest.raises(FileExistsError):
            directory.rename("old", name)
    directory.rename("old", "new")
    assert sorted(directory.names()) == ["dangling", "new", "taken"]
    assert directory.read("taken", 100) == b"taken"


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_where_there_are_no_hard_links_a_name_is_not_taken_from_anybody_either(
    directory: Directory, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    test_a_new_name_is_given_only_if_it_is_free(directory)


def test_a_small_file_is_read_as_it_was_or_as_it_is_to_be(directory: Directory) -> None:
    """And never in between, however often it is replaced."""
    contents = [bytes([letter]) * size for letter, size in ((97, 10), (98, 40_000), (99, 300))]
    directory.replace("info", contents[0])
    stop, seen = threading.Event(), set()

    def read() -> None:
        while not stop.is_set():
            seen.add((directory.path / "info").read_bytes())

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(600):
        directory.replace("info", contents[number % 3])
    stop.set()
    thread.join()
    assert seen <= set(contents)
    assert len(seen) > 1
    assert directory.names() == ["info"]


def test_when_a_small_file_cannot_be_written_the_old_one_stays(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.save("info", b"old")
    before = open_files()

    def fail(descriptor: int, data: bytes) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        with pytest.raises(OSError, match="Input/output error"):
            directory.replace("info", b"new")
        with pytest.raises(OSError, match="Input/output error"):
            directory.save("other", b"new")
    assert directory.names() == ["info"]
    assert directory.read("info", 100) == b"old"
    assert open_files() == before


@given(data=st.binary(max_size=200), steps=st.lists(st.integers(1, 50), min_size=1, max_size=5))
def test_a_small_file_is_written_to_its_end(
    data: bytes, steps: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """However little the system takes at once."""
    directory = Directory.open(tmp_path_factory.mktemp("small"))
    real, turn = os.write, iter(steps * 300)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", lambda where, what: real(where, bytes(what)[: next(turn)]))
        directory.save("info", data)
    assert directory.read("info", 1000) == data
    directory.close()


def test_a_link_is_replaced_and_not_followed(directory: Directory) -> None:
    directory.save("victim", b"precious")
    (directory.path / "last").symlink_to("victim")
    directory.point("last", "one")
    directory.point("last", "two")
    assert directory.target("last") == "two"
    assert directory.target("victim") is None
    assert directory.target("nothing") is None
    assert directory.read("victim", 100) == b"precious"


def test_no_link_is_read_through(directory: Directory) -> None:
    directory.save("file", b"secret")
    (directory.path / "link").symlink_to("file")
    with pytest.raises(OSError, match="symbolic link"):
        directory.read("link", 100)
    with pytest.raises(OSError, match="symbolic link"):
        directory.truncate("link", 0)


def test_a_lock_is_seen_until_its_descriptor_is_closed(directory: Directory) -> None:
    first = directory.save_locked("info", b"one")
    assert directory.locked("info")
    second = directory.replace_locked("info", b"two")
    os.close(first)
    assert directory.locked("info")
    os.close(second)
    assert not directory.locked("info")
    directory.replace("info", b"three")
    assert not directory.locked("info")


def test_names_are_all_seen_by_several_threads_at_once(directory: Directory) -> None:
    for number in range(2000):
        (directory.path / str(number)).touch()
    counts: list[int] = []

    def count() -> None:
        counts.extend(len(directory.names()) for _ in range(50))

    threads = [threading.Thread(target=count) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(counts) == {2000}


def test_errors_tell_the_whole_path(directory: Directory) -> None:
    for call in (directory.read, directory.truncate):
        with pytest.raises(FileNotFoundError) as error:
            call("nothing", 1)
        assert error.value.filename == str(directory.path / "nothing")
    (directory.path / "lab").mkdir()
    for replace in (directory.replace, directory.point):
        with pytest.raises(IsADirectoryError) as mistake:
            replace("lab", "x" if replace == directory.point else b"x")
        assert mistake.value.filename == str(directory.path / "lab")
    assert directory.names() == ["lab"]
    with pytest.raises(FileNotFoundError) as error:
        directory.rename("nothing", "new")
    assert error.value.filename == str(directory.path / "new")
    directory.unlink("nothing")
    assert directory.stat("nothing") is None


def test_a_file_is_claimed_by_one_and_only_as_long_as_it_has_its_name(
    directory: Directory,
) -> None:
    directory.save("info", b"x")
    held = directory.claim("info")
    assert held is not None
    assert directory.claim("info") is None
    os.close(held)
    stale = directory.open_file("info")
    os.close(directory.replace_locked("info", b"y"))
    os.close(stale)
    again = directory.claim("info")
    assert again is not None
    os.close(again)
    assert directory.claim("nothing") is None


def test_the_end_of_a_file_is_read(directory: Directory) -> None:
    directory.save("info", b"0123456789")
    assert directory.read_end("info", 4) == b"6789"
    assert directory.read_end("info", 40) == b"0123456789"
    os.mkfifo(directory.path / "pipe")
    with pytest.raises(OSError, match="Not a regular file"):
        directory.read_end("pipe", 4)


def test_free_space_is_what_the_system_says(directory: Directory) -> None:
    status = os.statvfs(directory.path)
    assert abs(directory.free_bytes() - status.f_bavail * status.f_frsize) < 1 << 30


def test_once_closed_nothing_is_reached(directory: Directory) -> None:
    """Above all not whatever has the number of the descriptor next."""
    other = directory.below(b"")
    other.close()
    other.close()
    for call in (other.names, other.free_bytes, lambda: other.save("file", b"x")):
        with pytest.raises(OSError, match="Bad file descriptor"):
            call()
    with pytest.raises(StoreError, match="Bad file descriptor"):
        other.below(b"lab")
    assert directory.names() == []
