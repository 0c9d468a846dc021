# SPDX-License-Identifier: GPL-2.0-or-later
"""What a server that was killed left is told as it is, and what others do is left alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.traffic import Dump, header, mirrored, pcap

from scapy_netdump import open_dump, recover
from scapy_netdump.core.account import Account
from scapy_netdump.core.verdict import Kind, Verdict
from scapy_netdump.formats import KDH, VMCORE
from scapy_netdump.kerneldump.header import GZIP_MAGIC
from scapy_netdump.store.abandoned import mark_abandoned, true_status
from scapy_netdump.store.directory import Directory
from scapy_netdump.store.dump_files import DumpFiles, reserve
from scapy_netdump.store.live_dumps import LiveDumps
from scapy_netdump.store.mapfile import part_map_text
from scapy_netdump.store.own_names import new_name
from scapy_netdump.store.retention import prune

HOST = "10.99.0.2"
RECEIVING = str(Verdict.receiving())
LEFT = f"Dump from {HOST} [{HOST}]\n  Architecture: amd64\n{RECEIVING}; at least 5 bytes\n"
ENDED = "Dump incomplete: the server ended while it received this; "


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    directory = Directory.open(tmp_path)
    yield directory
    directory.close()


def marked(directory: Directory) -> list[str]:
    return list(mark_abandoned(directory))


@pytest.mark.parametrize(
    ("vmcore", "what"),
    [
        (None, "no data received"),
        ("vmcore.{}.0.part", "4 bytes are in vmcore.{}.0.part, holes are not known"),
        ("vmcore.{}.0", "4 bytes are in vmcore.{}.0, holes are not known"),
        (
            "vmcore_encrypted.{}.0.zst",
            "4 bytes are in vmcore_encrypted.{}.0.zst, holes are not known",
        ),
        ("vmcore.{}.1", "no data received"),
    ],
)
def test_the_last_line_says_what_is_here_and_the_others_stay(
    directory: Directory, tmp_path: Path, vmcore: str | None, what: str
) -> None:
    (tmp_path / f"info.{HOST}.0").write_text(LEFT)
    if vmcore:
        (tmp_path / vmcore.format(HOST)).write_bytes(b"four")
    status = ENDED + what.format(HOST)
    assert true_status(tmp_path / f"info.{HOST}.0") == status
    assert (tmp_path / f"info.{HOST}.0").read_text() == LEFT
    assert marked(directory) == [f"{tmp_path}/info.{HOST}.0: {status}"]
    lines = (tmp_path / f"info.{HOST}.0").read_text().splitlines()
    assert lines == [*LEFT.splitlines()[:2], status]
    assert marked(directory) == []


@pytest.mark.parametrize(
    "text",
    [
        "Dump complete\n",
        "Dump incomplete: client timed out\n",
        f"{RECEIVING}; at least 5 bytes\nDump complete\n",
        f"{RECEIVING}\n",
        "",
        "\n",
        "\xff" * 100,
    ],
)
def test_other_info_files_are_left_alone(directory: Directory, tmp_path: Path, text: str) -> None:
    """That of a recovery, for one: it holds no lock, and ends with the bare words."""
    (tmp_path / f"info.{HOST}.0").write_text(text, encoding="latin-1")
    assert marked(directory) == []
    assert (tmp_path / f"info.{HOST}.0").read_text(encoding="latin-1") == text
    lines = text.encode("latin-1").decode(errors="backslashreplace").splitlines()
    assert true_status(tmp_path / f"info.{HOST}.0") == (lines or [""])[-1]


def test_a_recovery_that_is_at_work_is_left_alone(directory: Directory) -> None:
    reserve(directory, HOST, HOST)
    assert marked(directory) == []


def test_a_dump_is_left_alone_as_long_as_its_server_lives(
    directory: Directory, tmp_path: Path
) -> None:
    """Whatever the server does to the info file."""
    dumps = LiveDumps(tmp_path)
    dump, account = dumps.begin(HOST, b""), Account()
    assert marked(directory) == []
    dump.write(VMCORE, [b"x"], 0)
    account.vmcore.add(0, 1)
    for _ in range(3):
        dump.update(account, Verdict.receiving())
        assert marked(directory) == []
        assert true_status(Path(dump.name)).startswith(f"{RECEIVING}; at least 1 bytes")
    assert RECEIVING in (tmp_path / f"info.{HOST}.0").read_text()
    dump.finish(account, Verdict(Kind.INCOMPLETE, "client timed out"))
    assert marked(directory) == []
    dumps.close()


def test_a_directory_is_looked_at_when_it_is_first_used(tmp_path: Path) -> None:
    told: list[str] = []
    for place in (tmp_path, tmp_path / "lab"):
        place.mkdir(exist_ok=True)
        (place / f"info.{HOST}.0").write_text(LEFT)
    dumps = LiveDumps(tmp_path, tell=told.append)
    assert told == [f"{tmp_path}/info.{HOST}.0: {ENDED}no data received"]
    for _ in range(2):
        dumps.begin(HOST, b"lab").write(VMCORE, [b"x"], 0)
        assert told[1:] == [f"{tmp_path}/lab/info.{HOST}.0: {ENDED}no data received"]
    dump = dumps.begin(HOST, b"lab")
    dump.write(VMCORE, [b"x"], 0)
    assert dump.name.endswith(".3")
    dumps.close()


def test_what_cannot_be_read_is_told_and_the_rest_is_seen_to(
    directory: Directory, tmp_path: Path
) -> None:
    (tmp_path / f"info.{HOST}.0").mkdir()
    (tmp_path / f"info.{HOST}.1").symlink_to("elsewhere")
    os.mkfifo(tmp_path / f"info.{HOST}.2")
    (tmp_path / f"info.{HOST}.3").write_text(LEFT)
    lines = marked(directory)
    assert [line.split(": ", 2)[:2] for line in lines] == [
        [f"{tmp_path}/info.{HOST}.0", "cannot be looked at"],
        [f"{tmp_path}/info.{HOST}.1", "cannot be looked at"],
        [f"{tmp_path}/info.{HOST}.2", "cannot be looked at"],
        [f"{tmp_path}/info.{HOST}.3", "Dump incomplete"],
    ]


@pytest.mark.parametrize("name", [f"other.{HOST}.0", f"kdh.{HOST}.0.other"])
def test_second_versions_contradict_what_a_killed_server_left(
    directory: Directory, tmp_path: Path, name: str
) -> None:
    (tmp_path / f"info.{HOST}.0").write_text(LEFT)
    (tmp_path / f"vmcore.{HOST}.0.part").write_bytes(b"four")
    (tmp_path / name).write_bytes(b"other")
    (line,) = marked(directory)
    assert line.endswith(
        ": Dump contradicted: the server ended while it received this; "
        f"4 bytes are in vmcore.{HOST}.0.part, holes are not known; what came differently is in "
        f"{name}"
    )
    assert line.endswith(true_status(tmp_path / f"info.{HOST}.0"))


# What was noted of a dump before its server was killed

PLAIN, PACKED = b"x" * 4096, GZIP_MAGIC.ljust(4096, b"\0")
RECEIVED = Verdict.receiving("at least 1 byte of the vmcore is here")


def left(
    directory: Directory,
    length: int,
    *,
    came: bytes = PLAIN,
    kdh: bytes = b"",
    finished: bool = False,
) -> DumpFiles:
    """The files of a dump of which 4096 bytes came, as a killed server leaves them."""
    files = reserve(directory, HOST, HOST, RECEIVED, live=True)
    for kind, data in ((VMCORE, came), (KDH, kdh)):
        if data:
            descriptor = files.create(kind)
            os.pwrite(descriptor, data, 0)
            os.close(descriptor)
    files.note_part([(100, 200)] if length > 4096 else [], length, finished)
    files.release()
    return files


@pytest.mark.parametrize(
    ("finished", "what"),
    [(False, "3996 bytes"), (True, "FINISHED had come; 3996 bytes")],
)
def test_what_was_noted_is_said(
    directory: Directory, tmp_path: Path, finished: bool, what: str
) -> None:
    left(directory, 5000, finished=finished)
    part = f"vmcore.{HOST}.0.part"
    status = f"{ENDED}{what} are in {part}, 1004 of 5000 bytes missing in 2 ranges"
    assert true_status(tmp_path / f"info.{HOST}.0") == status
    for _ in range(2):
        with open_dump(tmp_path / part) as dump:
            assert dump.missing == [(100, 200), (4096, 5000)]
            assert "1004 of 5000 bytes missing" in str(dump.verdict)
        if _ == 0:
            assert marked(directory) == [f"{tmp_path}/info.{HOST}.0: {status}"]
    assert (tmp_path / f"{part}.map").exists()


def test_what_was_noted_before_the_kernel_ran_is_not_believed(
    directory: Directory, tmp_path: Path
) -> None:
    """Bytes that were acked may have been in its page cache alone."""
    left(directory, 4096, kdh=header(4096), finished=True)
    part = f"vmcore.{HOST}.0.part"
    (tmp_path / f"{part}.map").write_text(part_map_text([], 4096, True, "another boot"))
    status = f"{ENDED}FINISHED had come; 4096 bytes are in {part}, holes are not known"
    assert marked(directory) == [f"{tmp_path}/info.{HOST}.0: {status}"]
    with open_dump(tmp_path / part) as dump:
        assert not dump.verdict.complete


@pytest.mark.parametrize("finished", [False, True])
def test_a_dump_that_had_come_whole_is_filed(
    directory: Directory, tmp_path: Path, finished: bool
) -> None:
    left(directory, 4096, came=PACKED, kdh=header(4000, compression=1), finished=finished)
    (line,) = marked(directory)
    assert line.endswith(f"/info.{HOST}.0: all of it had come when the server ended; it is filed")
    assert (tmp_path / f"vmcore.{HOST}.0.gz").read_bytes() == PACKED[:4000]
    assert (tmp_path / f"info.{HOST}.0").read_text().endswith("\nDump complete\n")
    assert "Panic String: page fault" in (tmp_path / f"info.{HOST}.0").read_text()
    last = directory.target(f"vmcore.{HOST}.last")
    assert last == f"vmcore.{HOST}.0.gz"
    assert not [name for name in directory.names() if "part" in name]
    assert (tmp_path / f"bounds.{HOST}").read_text() == "1\n"
    assert marked(directory) == []


def test_an_older_dump_does_not_become_the_last_one(directory: Directory, tmp_path: Path) -> None:
    left(directory, 4096, kdh=header(4096), finished=True)
    files, account = reserve(directory, HOST, HOST), Account()
    account.finished = True
    files.publish(account, account.verdict)
    assert len(marked(directory)) == 1
    assert directory.target(f"info.{HOST}.last") == f"info.{HOST}.1"


@pytest.mark.parametrize("name", [f"other.{HOST}.0", f"kdh.{HOST}.0.other"])
def test_what_is_contradicted_is_not_filed(directory: Directory, tmp_path: Path, name: str) -> None:
    left(directory, 4096, kdh=header(4096), finished=True)
    (tmp_path / name).write_bytes(b"other")
    (line,) = marked(directory)
    assert "Dump contradicted: the server ended" in line
    assert (tmp_path / f"vmcore.{HOST}.0.part").exists()


@pytest.mark.parametrize("length", [4096, 5000])
def test_what_a_capture_has_of_it_fills_its_holes(
    directory: Directory, tmp_path: Path, length: int
) -> None:
    """A .part of which the holes are known is continued as any other dump is; also if it has none,
    as it has no name yet."""
    left(directory, length, kdh=header(length), finished=True)
    whole = Dump(vmcore=PLAIN.ljust(length, b"\0"), kdh=header(length), client=HOST)
    (tmp_path / "x.pcap").write_bytes(pcap(mirrored(whole.traffic())))
    (recovered,) = recover(tmp_path / "x.pcap", tmp_path).dumps
    assert recovered.verdict.complete
    assert (tmp_path / f"vmcore.{HOST}.0").read_bytes() == whole.vmcore
    assert (tmp_path / f"info.{HOST}.0").read_text().endswith("\nDump complete\n")
    assert not [name for name in directory.names() if "part" in name]


CALLS = ("open", "write", "pwrite", "link", "unlink", "replace", "rename", "symlink", "ftruncate")


def killed_at(call: int, work: Callable[[], None]) -> bool:
    """Do some work in a process that is killed before its ``call``-th change of the disk; whether
    it came to its end before."""
    child = os.fork()
    if not child:
        left = call

        def counting(function: Callable[..., object]) -> Callable[..., object]:
            def counted(*arguments: object, **more: object) -> object:
                nonlocal left
                changes = function is not opened or int(str(arguments[1])) & os.O_CREAT
                left -= bool(changes)
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **more)

            return counted

        opened = os.open
        for name in CALLS:
            setattr(os, name, counting(getattr(os, name)))
        try:
            work()
        finally:
            os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def listed(path: Path) -> dict[str, bytes | str]:
    return {
        file.name: os.readlink(file) if file.is_symlink() else file.read_bytes()
        for file in path.iterdir()
    }


@pytest.mark.parametrize("missing", [False, True])
def test_a_server_that_is_killed_while_it_files_a_dump_leaves_nothing_half_done(
    missing: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whichever the call is before which it is killed."""
    account = Account()
    account.herald(b"")
    account.vmcore.add(0, 4096)
    account.headers.take(0, header(5000 if missing else 4096))
    account.finished = True

    def published(files: DumpFiles) -> None:
        files.publish(account, account.verdict)

    def begun(directory: Directory) -> DumpFiles:
        files = reserve(directory, HOST, HOST, RECEIVED, live=True)
        for kind, data in ((VMCORE, b"x" * 4096), (KDH, account.kdh)):
            descriptor = files.create(kind)
            os.pwrite(descriptor, data, 0)
            os.close(descriptor)
        files.note_part([(4096, 5000)] if missing else [], 5000 if missing else 4096, True)
        return files

    wanted = Directory.open(tmp_path_factory.mktemp("wanted"))
    published(begun(wanted))
    for call in range(1, 100):
        directory = Directory.open(tmp_path_factory.mktemp("crash"))
        files = begun(directory)
        done = killed_at(call, lambda files=files: published(files))
        files.release()
        for name in directory.names():
            os.utime(directory.path / name, (0, 0), follow_symlinks=False)
        told = list(mark_abandoned(directory))
        found = listed(directory.path)
        directory.close()
        if done:
            break
        if missing and f"vmcore.{HOST}.0.part" in found:
            assert b"FINISHED had come; 4096 bytes are" in found[f"info.{HOST}.0"]
        elif b"the server ended" in found[f"info.{HOST}.0"]:
            assert b"904 of 5000 bytes missing" in found[f"info.{HOST}.0"]
        else:
            assert found == listed(wanted.path), told
    else:
        pytest.fail("did not come to its end")
    assert call > 8
    wanted.close()


# Other left-overs


def test_new_files_that_nobody_writes_go(directory: Directory, tmp_path: Path) -> None:
    ours = [new_name(name) for name in (f"info.{HOST}.0", f"bounds.{HOST}", f"vmcore.{HOST}.0.map")]
    for name in ours:
        directory.save(name, b"x")
        os.utime(tmp_path / name, (time.time() - 5,) * 2)
    link = new_name(f"info.{HOST}.last")
    (tmp_path / link).symlink_to("nothing")
    kept = [new_name("precious"), f"info.{HOST}.0.new", "x.new"]
    for name in kept:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    young = new_name(f"info.{HOST}.1")
    directory.save(young, b"x")
    writing = new_name(f"info.{HOST}.2")
    held = directory.save_locked(writing, b"x")
    os.utime(tmp_path / writing, (time.time() - 5,) * 2)
    assert marked(directory) == []
    assert set(directory.names()) == {link, *kept, young, writing}
    os.close(held)
    for name in (link, young, writing):
        os.utime(tmp_path / name, (time.time() - 61,) * 2, follow_symlinks=False)
    marked(directory)
    assert set(directory.names()) == set(kept)


def complete(directory: Directory, host: str = HOST) -> None:
    files, account = reserve(directory, host, host), Account()
    (directory.path / files.part).write_bytes(b"x" * 100)
    account.vmcore.add(0, 100)
    account.headers.take(0, header(100))
    account.finished = True
    files.publish(account, account.verdict)


def test_links_that_lead_nowhere_lead_to_the_newest_that_is_whole_or_go(
    directory: Directory, tmp_path: Path
) -> None:
    for host in (HOST, HOST, HOST, "a", "b"):
        complete(directory, host)
    for name in (f"vmcore.{HOST}.2", "info.a.0"):
        (tmp_path / name).unlink()
    (tmp_path / "info.c.last").symlink_to("precious")
    assert marked(directory) == []
    links = {name: value for name, value in listed(tmp_path).items() if isinstance(value, str)}
    assert links == {
        f"info.{HOST}.last": f"info.{HOST}.1",
        f"vmcore.{HOST}.last": f"vmcore.{HOST}.1",
        "vmcore.a.last": "vmcore.a.0",
        "info.b.last": "info.b.0",
        "vmcore.b.last": "vmcore.b.0",
        "info.c.last": "precious",
    }


def test_a_removal_that_was_begun_is_finished_and_no_other_is(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    for call in range(1, 40):
        directory = Directory.open(tmp_path_factory.mktemp("crash"))
        for _ in range(3):
            complete(directory)
        (directory.path / f"info.{HOST}.1").unlink()  # by somebody else
        before = listed(directory.path)
        mine = {name for name in before if name.split(".")[-1] == "0" and name != "bounds.0"}
        done = killed_at(
            call, lambda directory=directory: prune(directory, HOST, 1, 2, least_age=0, tell=print)
        )
        for name in directory.names():
            os.utime(directory.path / name, (0, 0), follow_symlinks=False)
        list(mark_abandoned(directory))
        after = listed(directory.path)
        directory.close()
        gone = before.keys() - after.keys()
        assert gone in (set(), mine)
        assert {name: before[name] for name in after} == after
        if done:
            assert gone == mine
            break
    else:
        pytest.fail("did not come to its end")
    assert call > 4


def test_a_removal_that_somebody_is_at_is_left_to_him(directory: Directory, tmp_path: Path) -> None:
    complete(directory)
    info = tmp_path / f"info.{HOST}.0"
    info.write_text("Dump from x [x]\nDump incomplete: being removed\n")
    held = directory.claim(info.name)
    assert held is not None
    assert marked(directory) == []
    assert (tmp_path / f"vmcore.{HOST}.0").exists()
    os.close(held)
    assert marked(directory) == [f"{info}: was being removed, and is now"]
    assert directory.names() == [f"bounds.{HOST}"]
