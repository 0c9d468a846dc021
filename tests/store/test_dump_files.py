# SPDX-License-Identifier: GPL-2.0-or-later
"""The dump directory: names, numbers, modes, links, and what is never overwritten."""

from __future__ import annotations

import gzip
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.traffic import header
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.core.account import Account
from scapy_netdump.errors import StoreError
from scapy_netdump.formats import VMCORE
from scapy_netdump.store.directory import Directory
from scapy_netdump.store.dump_files import (
    DumpFiles,
    HostFullError,
    reserve,
)
from scapy_netdump.store.mapfile import read_part_map
from scapy_netdump.store.naming import (
    MAX_DUMPS_OF_HOST,
    Names,
    Published,
    names_of_dump,
    stored_dumps,
)

HOST = ADDRESS = "10.99.0.2"


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    directory = Directory.open(tmp_path / "crash", create=True)
    yield directory
    directory.close()


def account_of(vmcore: bytes, kdh: bytes = b"", key: bytes = b"", finished: bool = True) -> Account:
    """A transfer that has all of these; the file itself is the caller's."""
    account = Account()
    account.vmcore.add(0, len(vmcore))
    account.headers.take(0, kdh)
    account.key.add(0, key)
    account.heralded = True
    account.finished = finished
    return account


def publish(files: DumpFiles, account: Account, vmcore: bytes) -> Published:
    if vmcore:
        (files.directory.path / files.part).write_bytes(vmcore)
    return files.publish(account, account.verdict)


def names(directory: Directory) -> set[str]:
    return set(os.listdir(directory.path))


# Numbers


def test_numbers_rise_and_bounds_tells_the_next(directory: Directory) -> None:
    for number in range(3):
        files = reserve(directory, HOST, ADDRESS)
        assert files.number == number
        assert (directory.path / f"bounds.{HOST}").read_text() == f"{number + 1}\n"
    assert reserve(directory, "other", ADDRESS).number == 0


def test_a_live_dump_is_counted_when_something_comes(directory: Directory) -> None:
    files = reserve(directory, HOST, ADDRESS, live=True)
    assert names(directory) == {f"info.{HOST}.0"}
    os.close(files.create(VMCORE))
    assert (directory.path / f"bounds.{HOST}").read_text() == "1\n"
    assert directory.locked(files.info)
    files.release()
    assert not directory.locked(files.info)


@pytest.mark.parametrize(
    ("bounds", "number"),
    [
        (b"7\n", 7),
        (b"7", 7),
        (b"", 0),
        (b"seven\n", 0),
        (b"-1\n", 0),
        (b"1500\n", 1500),
        (b"2147483647\n", 2147483647),
        (b"2147483648\n", 0),
        (b"9" * 5000, 0),
        (b"\xff\xfe\n", 0),
        (b"7 8\n", 0),
        (b"\xd9\xa3\n", 0),
    ],
)
def test_the_bounds_file_is_believed_only_if_it_makes_sense(
    directory: Directory, bounds: bytes, number: int
) -> None:
    (directory.path / f"bounds.{HOST}").write_bytes(bounds)
    assert reserve(directory, HOST, ADDRESS).number == number


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_a_bounds_file_that_is_no_file_is_not_read(directory: Directory, kind: str) -> None:
    bounds = directory.path / f"bounds.{HOST}"
    if kind == "link":
        (directory.path / "target").write_text("7\n")
        bounds.symlink_to("target")
    elif kind == "pipe":
        os.mkfifo(bounds)
    else:
        bounds.mkdir()
        assert [reserve(directory, HOST, ADDRESS).number for _ in range(3)] == [0, 1, 2]
        return
    files = reserve(directory, HOST, ADDRESS)
    assert files.number == 0
    assert bounds.read_text() == "1\n"
    if kind == "link":
        assert (directory.path / "target").read_text() == "7\n"


@pytest.mark.parametrize("name", list(names_of_dump(HOST, 5)))
def test_a_number_with_something_at_any_of_its_names_is_passed_over(
    directory: Directory, name: str
) -> None:
    """A directory, for one, that somebody had made there."""
    (directory.path / name).mkdir()
    (directory.path / f"bounds.{HOST}").write_text("5\n")
    assert reserve(directory, HOST, ADDRESS).number == 6
    assert (directory.path / f"bounds.{HOST}").read_text() == "7\n"


def test_after_the_last_number_comes_the_lowest_that_is_free(directory: Directory) -> None:
    last = MAX_DUMPS_OF_HOST - 1
    (directory.path / f"info.{HOST}.0").touch()
    (directory.path / f"bounds.{HOST}").write_text(f"{last}\n")
    assert [reserve(directory, HOST, ADDRESS).number for _ in range(3)] == [last, 1, 2]
    assert {number for _, number in stored_dumps(directory.path)} == {0, 1, 2, last}


@pytest.mark.parametrize("bounds", [None, b"0\n", b"\xff", b"1100\n"])
def test_numbers_go_on_beyond_netdumpds_search(directory: Directory, bounds: bytes | None) -> None:
    """It looks no further than 1024; where its bounds file leads there it goes on as well."""
    for number in range(1024):
        (directory.path / f"vmcore.{HOST}.{number}").touch()
    if bounds is not None:
        (directory.path / f"bounds.{HOST}").write_bytes(bounds)
    first = 1100 if bounds == b"1100\n" else 1024
    assert [reserve(directory, HOST, ADDRESS).number for _ in range(2)] == [first, first + 1]


class FewNames(Names):
    """A host that may have but 100 dumps."""

    most = 100


def test_when_all_are_taken_it_says_so(directory: Directory) -> None:
    for number in range(100):
        (directory.path / f"vmcore.{HOST}.{number}").touch()
    with pytest.raises(HostFullError, match=r"100 dumps of 10\.99\.0\.2"):
        reserve(directory, HOST, ADDRESS, naming=FewNames)
    assert reserve(directory, "10.99.0.20", ADDRESS, naming=FewNames).number == 0
    (directory.path / f"vmcore.{HOST}.70").unlink()
    assert reserve(directory, HOST, ADDRESS, naming=FewNames).number == 70


def test_a_number_is_taken_without_a_look_at_what_others_have(
    directory: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A listing of 100,000 files takes longer than a client's HERALD may."""
    for number in range(63):
        (directory.path / f"vmcore_encrypted.{HOST}.{number}.gz").touch()
    listings: list[Directory] = []
    listed = Directory.names

    def names(self: Directory) -> list[str]:
        listings.append(self)
        return listed(self)

    monkeypatch.setattr(Directory, "names", names)
    assert reserve(directory, HOST, ADDRESS).number == 63
    assert not listings
    (directory.path / f"bounds.{HOST}").unlink()
    (directory.path / f"key.{HOST}.64").touch()
    assert reserve(directory, HOST, ADDRESS).number == 65
    assert len(listings) == 1
    assert reserve(directory, HOST, ADDRESS).number == 66
    assert len(listings) == 1


def test_a_directory_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file: cannot be a dump directory"):
        Directory.open(tmp_path / "file", create=True)
    with pytest.raises(StoreError, match="cannot be a dump directory"):
        Directory.open(tmp_path / "file" / "below", create=True)


# Publishing


def test_a_complete_dump(directory: Directory) -> None:
    data = b"x" * 5000
    files = reserve(directory, HOST, ADDRESS)
    published = publish(files, account_of(data, header(5000)), data)
    assert names(directory) == {
        f"{name}.{HOST}.{end}" for name in ("info", "vmcore") for end in ("0", "last")
    } | {f"kdh.{HOST}.0", f"bounds.{HOST}"}
    assert (directory.path / f"vmcore.{HOST}.last").read_bytes() == data
    assert os.readlink(directory.path / f"info.{HOST}.last") == f"info.{HOST}.0"
    assert published.info is not None
    assert published.info.read_text().splitlines()[-1] == "Dump complete"
    assert published.map is None


def test_modes_are_the_servers(directory: Directory) -> None:
    data = b"x" * 500
    account = account_of(data, header(500, dumpkeysize=64), key=b"key")
    publish(reserve(directory, HOST, ADDRESS), account, data)
    modes = {
        path.name.split(".")[0]: path.stat().st_mode & 0o777
        for path in directory.path.iterdir()
        if not path.is_symlink() and path.name.split(".")[0] != "vmcore_encrypted"
    }
    assert modes == {"info": 0o600, "kdh": 0o600, "key": 0o400, "bounds": 0o600}


@pytest.mark.parametrize(
    ("fields", "key", "name"),
    [
        ({}, b"", "vmcore.10.99.0.2.0"),
        ({"compression": 1}, b"", "vmcore.10.99.0.2.0.gz"),
        ({"compression": 2}, b"", "vmcore.10.99.0.2.0.zst"),
        ({"compression": 3}, b"", "vmcore.10.99.0.2.0"),
        ({"dumpkeysize": 64}, b"", "vmcore_encrypted.10.99.0.2.0"),
        ({}, b"key", "vmcore_encrypted.10.99.0.2.0"),
        ({"dumpkeysize": 64, "compression": 2}, b"key", "vmcore_encrypted.10.99.0.2.0.zst"),
        ({"dumpkeysize": 64, "parity": 1}, b"", "vmcore.10.99.0.2.0"),
    ],
)
def test_the_name_tells_cipher_and_compression(
    directory: Directory, fields: dict[str, int], key: bytes, name: str
) -> None:
    data = b"x" * 4096
    account = account_of(data, header(4096, **fields), key)
    published = publish(reserve(directory, HOST, ADDRESS), account, data)
    assert published.vmcore == directory.path / name


def test_a_compressed_dump_is_cut_to_its_length_and_any_other_is_not(
    directory: Directory,
) -> None:
    stream = gzip.compress(random.Random(1).randbytes(3900))
    data, length = stream.ljust(4096, b"\0"), len(stream)
    encrypted = {"compression": 1, "dumpkeysize": 4096}
    for fields, size in (({"compression": 1}, length), ({}, 4096), (encrypted, 4096)):
        account = account_of(data, header(length, dumpextent=3900, **fields))
        account.examine(lambda start, end: data[start:end])
        published = publish(reserve(directory, HOST, ADDRESS), account, data)
        assert published.vmcore is not None
        assert published.vmcore.stat().st_size == size
        assert account.complete == (size == length)
    assert str(account_of(data, header(4000)).verdict) == (
        "Dump contradicted: 96 bytes came beyond its length of 4000"
    )


def test_headers_that_do_not_count_are_kept_beside_the_one_that_does(directory: Directory) -> None:
    data = b"x" * 5000
    account = account_of(data, header(100))
    account.headers.take(0, header(5000))
    published = publish(reserve(directory, HOST, ADDRESS), account, data)
    assert published.kdh_other == directory.path / f"kdh.{HOST}.0.other"
    assert published.kdh_other.read_bytes() == header(100)
    assert published.kdh is not None
    assert published.kdh.read_bytes() == header(5000)
    assert published.vmcore is not None
    assert published.vmcore.read_bytes() == data
    assert stored_dumps(directory.path) == {(HOST, 0): published}


def test_a_dump_with_holes_has_a_map_and_says_what_is_missing(directory: Directory) -> None:
    data = b"x" * 3000
    published = publish(
        reserve(directory, HOST, ADDRESS), account_of(data, header(5000, compression=1)), data
    )
    assert published.map == directory.path / f"vmcore.{HOST}.0.gz.map"
    assert published.map.stat().st_mode & 0o777 == 0o600
    assert published.info is not None
    last = published.info.read_text().splitlines()[-1]
    assert last == "Dump incomplete: 2000 of 5000 bytes missing in 1 range"


@pytest.mark.parametrize(
    ("account", "line"),
    [
        (account_of(b"x", b"", finished=True), "Dump complete"),
        (account_of(b""), "Dump incomplete: no data received"),
        (
            account_of(b"x", finished=False),
            "Dump not known to be complete: no sound dump header came, its length is not known",
        ),
        (
            account_of(b"x", header(1, parity=7), finished=False),
            "Dump contradicted: dump header with a wrong parity",
        ),
        (account_of(b"x", header(1), finished=False), "Dump complete"),
    ],
)
def test_the_last_line_is_honest(account: Account, line: str) -> None:
    assert str(account.verdict) == line


def test_a_dump_that_did_not_finish_leaves_the_links_alone(directory: Directory) -> None:
    publish(reserve(directory, HOST, ADDRESS), account_of(b"x"), b"x")
    publish(reserve(directory, HOST, ADDRESS), account_of(b"y", finished=False), b"y")
    assert (directory.path / f"vmcore.{HOST}.last").read_bytes() == b"x"
    publish(reserve(directory, HOST, ADDRESS), account_of(b"z"), b"z")
    assert (directory.path / f"vmcore.{HOST}.last").read_bytes() == b"z"


def test_before_publishing_nothing_looks_whole(directory: Directory) -> None:
    files = reserve(directory, HOST, ADDRESS)
    (directory.path / files.part).write_bytes(b"half a dump")
    assert names(directory) == {f"info.{HOST}.0", f"vmcore.{HOST}.0.part", f"bounds.{HOST}"}
    info = (directory.path / f"info.{HOST}.0").read_text()
    assert info == f"Dump from {HOST} [{ADDRESS}]\nDump incomplete: being received\n"


@pytest.mark.parametrize("over", ["published", "discarded"])
def test_when_a_dump_is_over_nothing_of_its_part_is_noted(directory: Directory, over: str) -> None:
    """Whoever notes is another thread, and may come late."""
    files = reserve(directory, HOST, ADDRESS, live=True)
    files.note_part([(0, 5)], 10, False)
    assert (directory.path / f"vmcore.{HOST}.0.part.map").exists()
    files.note_part([], 1, True)
    text = (directory.path / f"vmcore.{HOST}.0.part.map").read_text()
    assert read_part_map(text, 1) == ([], 1, True)
    if over == "published":
        publish(files, account_of(b"x"), b"x")
    else:
        files.discard()
    files.note_part([], 1, True)
    assert not [name for name in names(directory) if ".part" in name]


@pytest.mark.parametrize("link", ["info", "vmcore"])
def test_what_is_in_the_way_of_a_link_keeps_no_dump_from_being_filed(
    directory: Directory, link: str
) -> None:
    (directory.path / f"{link}.{HOST}.last").mkdir()
    files = reserve(directory, HOST, ADDRESS)
    published = publish(files, account_of(b"x"), b"x")
    assert published.vmcore is not None
    assert published.info is not None
    assert published.info.read_text().endswith("Dump complete\n")
    assert not files.linked
    (directory.path / f"{link}.{HOST}.last").rmdir()
    again = reserve(directory, HOST, ADDRESS)
    publish(again, account_of(b"y"), b"y")
    assert again.linked


@pytest.mark.parametrize("name", ["vmcore", "kdh", "key", "vmcore.map"])
@pytest.mark.parametrize("kind", ["file", "link"])
def test_publishing_overwrites_nothing(directory: Directory, name: str, kind: str) -> None:
    """Another program may have taken the number since."""
    first, _, suffix = name.partition(".")
    files = reserve(directory, HOST, ADDRESS)
    victim = directory.path / f"{first}.{HOST}.0{'.' + suffix if suffix else ''}"
    precious = directory.path / "precious"
    precious.write_bytes(b"precious")
    if kind == "link":
        victim.symlink_to(precious.name)
    else:
        victim.write_bytes(b"precious")
    account = account_of(b"new", header(100), b"")
    account.key.add(0, b"key")
    if name in ("vmcore", "vmcore.map"):
        account = account_of(b"new", header(100))
    with pytest.raises(StoreError, match="File exists"):
        publish(files, account, b"new")
    assert victim.read_bytes() == precious.read_bytes() == b"precious"
    assert "incomplete" in (directory.path / f"info.{HOST}.0").read_text()


def test_links_that_have_a_name_already_are_replaced_not_followed(directory: Directory) -> None:
    victim = directory.path / "victim"
    victim.write_text("precious")
    for name in ("vmcore.{}.last", "info.{}.last", "bounds.{}"):
        (directory.path / name.format(HOST)).symlink_to("victim")
    publish(reserve(directory, HOST, ADDRESS), account_of(b"x"), b"x")
    assert victim.read_text() == "precious"
    assert (directory.path / f"vmcore.{HOST}.last").read_bytes() == b"x"


@given(hostname=st.binary(max_size=60), panic=st.binary(max_size=170))
def test_no_string_of_the_sender_forges_a_line(
    hostname: bytes, panic: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = Directory.open(tmp_path_factory.mktemp("crash"))
    fields = {"hostname": hostname + b"\nDump complete\n", "panicstring": panic + b"\x1b[2J\r\n"}
    fields = {name: value.replace(b"\0", b"") for name, value in fields.items()}
    files = reserve(directory, HOST, ADDRESS)
    published = publish(files, account_of(b"x", header(4096, **fields)), b"x")
    assert published.info is not None
    lines = published.info.read_text().splitlines()
    directory.close()
    assert len(lines) == 13  # of which two are the version string's
    assert lines[-1] == "Dump incomplete: 4095 of 4096 bytes missing in 1 range"
    assert all(line.isprintable() for line in lines)
