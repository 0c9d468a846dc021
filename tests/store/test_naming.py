# SPDX-License-Identifier: GPL-2.0-or-later
"""The names of a dump's files: made, read, and put together to dumps."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.errors import StoreError
from scapy_netdump.store.naming import (
    FileName,
    Names,
    Published,
    SavecoreNames,
    names_of_dump,
    neighbours,
    stored_dumps,
)
from scapy_netdump.store.own_names import is_new_name, is_own_name, new_name

#: Addresses, first labels of host names, and what older programs may have used.
HOSTS = st.one_of(
    st.sampled_from(["10.99.0.2", "fe80::1%em0_7", "a.1", "vmcore", "info.3", "last", "0", "é"]),
    st.from_regex(r"[a-z0-9][a-z0-9._%:-]{0,12}", fullmatch=True),
)
SUFFIX = st.sampled_from(["", ".gz", ".zst"])
FILES = st.one_of(
    st.tuples(st.sampled_from(["info", "key", "other"]), st.just(""), st.just("")),
    st.tuples(st.just("kdh"), st.just(""), st.sampled_from(["", ".other"])),
    st.tuples(
        st.sampled_from(["vmcore", "vmcore_encrypted"]), SUFFIX, st.sampled_from(["", ".map"])
    ),
    st.tuples(st.just("vmcore"), st.just(""), st.sampled_from([".part", ".part.map"])),
)


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
    touch(tmp_path, "bounds.a", "minfree", "vmcore.a.last", "info.a.last", "vmcore.a.0.part.x")
    touch(tmp_path, "info.a.2147483648", "info.123456", "info.a.", "info..5", "vmcore.a.0.map.part")
    touch(tmp_path, "vmcore.a.0.xz", "xinfo.a.0", "info.a.0.map", "key.a.0.gz", "vmcore.a.01")
    assert stored_dumps(tmp_path) == {}


def test_a_directory_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nothing: cannot be read: No such file"):
        stored_dumps(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("came", "copy"),
    [
        ("vmcore.a.0.gz", "vmcore.a.0"),
        ("vmcore_encrypted.a.0", "vmcore.a.0"),
        ("vmcore_encrypted.a.0.zst", "vmcore.a.0.zst"),
    ],
)
def test_a_plain_copy_and_its_map_are_not_taken_for_what_came(
    tmp_path: Path, came: str, copy: str
) -> None:
    touch(tmp_path, came, copy, f"{copy}.map", "kdh.a.0", "key.a.0", "info.a.0")
    files = {kind: tmp_path / f"{kind}.a.0" for kind in ("info", "kdh", "key")}
    assert stored_dumps(tmp_path) == {("a", 0): Published(**files, vmcore=tmp_path / came)}
    assert neighbours(tmp_path / came) == Published(**files, vmcore=tmp_path / came)
    assert neighbours(tmp_path / copy) == Published(
        info=files["info"], vmcore=tmp_path / copy, map=tmp_path / f"{copy}.map"
    )


def test_a_vmcore_that_is_still_to_come_has_its_neighbours(tmp_path: Path) -> None:
    touch(tmp_path, "vmcore.a.0.part", "info.a.0", "key.a.0", "kdh.a.0", "other.a.0", "info.a.1")
    dump = Published(
        info=tmp_path / "info.a.0",
        key=tmp_path / "key.a.0",
        kdh=tmp_path / "kdh.a.0",
        other=tmp_path / "other.a.0",
        vmcore=tmp_path / "vmcore.a.0.part",
    )
    assert neighbours(tmp_path / "vmcore.a.0.part") == dump
    assert stored_dumps(tmp_path) == {("a", 0): dump, ("a", 1): Published(tmp_path / "info.a.1")}


def test_the_map_of_a_vmcore_that_is_still_to_come_is_its_own(tmp_path: Path) -> None:
    touch(tmp_path, "vmcore.a.0.part", "vmcore.a.0.part.map", "vmcore.a.0.map")
    dump = Published(vmcore=tmp_path / "vmcore.a.0.part", map=tmp_path / "vmcore.a.0.part.map")
    assert neighbours(tmp_path / "vmcore.a.0.part") == dump
    assert stored_dumps(tmp_path) == {("a", 0): dump}
    touch(tmp_path, "vmcore.a.0")
    assert stored_dumps(tmp_path)["a", 0].map == tmp_path / "vmcore.a.0.map"


@pytest.mark.parametrize(
    "name",
    ["bounds", "bounds.x", "INFO.x", "info.last", "vmcore.x.3", "x.new", "x.part", "x.y.map",
     "x.last", "key.x", "other.1", "kdh.", "vmcore_encrypted.x"],
)  # fmt: skip
def test_names_that_files_of_the_store_may_have_are_known(name: str) -> None:
    assert is_own_name(name)


@pytest.mark.parametrize(
    "name", ["lab", "info", "other", "rack.1", "10.99.0.2", "last", "new", "keys.d", "vmcores.x"]
)
def test_other_names_are_free(name: str) -> None:
    assert not is_own_name(name)


@pytest.mark.parametrize("name", ["bounds", "bounds.a", "info.a.last", "vmcore.last.gz", "kdh.a.3"])
def test_what_a_file_is_called_for_the_time_being_is_known(name: str) -> None:
    assert is_new_name(new_name(name))
    assert not is_new_name(name)
    assert not is_new_name(f"{name}.new")
    assert not is_new_name(new_name("precious"))


def test_links_lead_to_the_neighbours_of_what_they_point_to(tmp_path: Path) -> None:
    (tmp_path / "crash").mkdir()
    touch(tmp_path / "crash", "vmcore.a.3", "kdh.a.3", "vmcore.a.3.map")
    (tmp_path / "crash" / "vmcore.a.last").symlink_to("vmcore.a.3")
    (tmp_path / "vmcore.b.0").symlink_to("crash/vmcore.a.last")
    touch(tmp_path, "kdh.b.0")
    for link in (tmp_path / "crash" / "vmcore.a.last", tmp_path / "vmcore.b.0"):
        assert neighbours(link) == Published(
            vmcore=link,
            kdh=tmp_path / "crash" / "kdh.a.3",
            map=tmp_path / "crash" / "vmcore.a.3.map",
        )


def test_a_file_of_any_other_name_has_a_map_at_most(tmp_path: Path) -> None:
    touch(tmp_path, "core", "core.map", "kdh.a.0", "info.0")
    assert neighbours(tmp_path / "core") == Published(
        vmcore=tmp_path / "core", map=tmp_path / "core.map"
    )


@given(host=st.one_of(st.just(""), HOSTS), number=st.integers(0, (1 << 31) - 1), file=FILES)
def test_a_name_that_is_made_is_read_again(
    host: str, number: int, file: tuple[str, str, str]
) -> None:
    kind, suffix, end = file
    number %= 1 << 31 if host else 100_000
    name = FileName(kind, host, number, suffix, end)
    assert str(name) in set(names_of_dump(host, number))
    assert is_own_name(str(name))
    assert is_new_name(new_name(str(name)))
    assert FileName.parse(str(name)) == name
    names = Names(host, "192.0.2.1") if host else SavecoreNames("any", "192.0.2.1")
    assert names.of(kind, number, suffix, end) == str(name)
    assert names.number(str(name)) == number
    assert Names("another", "192.0.2.1").number(str(name)) is None


@given(st.text(max_size=30) | st.from_regex(r"(vmcore|info|kdh)[.a-z0-9]{0,20}", fullmatch=True))
def test_what_is_read_is_spelled_in_one_way(text: str) -> None:
    name = FileName.parse(text)
    assert name is None or str(name) == text


@given(
    files=st.sets(st.tuples(st.sampled_from(["a", "a.1", "b", ""]), st.integers(0, 2), FILES)),
)
def test_a_listing_and_the_neighbours_of_its_vmcores_agree(
    files: set[tuple[str, int, tuple[str, str, str]]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.mktemp("crash")
    names = [FileName(kind, host, number, *rest) for host, number, (kind, *rest) in files]
    touch(directory, *map(str, names))
    dumps = stored_dumps(directory)
    assert set(dumps) == {name.dump for name in names}
    for published in dumps.values():
        if published.vmcore is not None:
            assert neighbours(published.vmcore) == published
