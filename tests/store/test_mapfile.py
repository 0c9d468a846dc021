# SPDX-License-Identifier: GPL-2.0-or-later
"""Mapfiles: what is written, what ddrescue's own tools say of it, and what is read back."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.core.extents import Extents, Range
from scapy_netdump.store.boot import THIS_BOOT
from scapy_netdump.store.mapfile import (
    MapfileError,
    mapfile_text,
    parse_mapfile,
    part_map_text,
    read_part_map,
)

needs_ddrescuelog = pytest.mark.skipif(
    shutil.which("ddrescuelog") is None, reason="ddrescuelog is not installed"
)


def holes(ranges: list[Range], end: int) -> list[Range]:
    arrived = Extents()
    for start, stop in ranges:
        arrived.add(start, min(stop, end))
    return list(arrived.missing(0, end))


RANGES = st.lists(
    st.tuples(st.integers(0, 1 << 44), st.integers(0, 1 << 20)).map(
        lambda pair: (pair[0], pair[0] + pair[1])
    ),
    max_size=20,
)


@given(ranges=RANGES, end=st.integers(1, 1 << 44))
def test_what_is_written_is_read_back(ranges: list[Range], end: int) -> None:
    missing = holes(ranges, end)
    assert parse_mapfile(mapfile_text(missing, end)) == (missing, end)


def test_the_text_is_ddrescues() -> None:
    lines = mapfile_text([(4096, 8192), (12288, 16384)], 16384).splitlines()
    assert [line.split() for line in lines if not line.startswith("#")] == [
        ["0x000000000000", "?", "1"],
        ["0x000000000000", "0x000000001000", "+"],
        ["0x000000001000", "0x000000001000", "?"],
        ["0x000000002000", "0x000000001000", "+"],
        ["0x000000003000", "0x000000001000", "?"],
    ]


@needs_ddrescuelog
@pytest.mark.parametrize(
    ("missing", "end"),
    [
        ([(0, 4096)], 1 << 20),
        ([(118_864, 120_312), (2_863_104, 2_864_552)], 3_145_728),
        ([((1 << 44) - 1, 1 << 44)], 1 << 44),
    ],
)
def test_ddrescuelog_finds_the_same_bytes_missing(
    missing: list[Range], end: int, tmp_path: Path
) -> None:
    path = tmp_path / "vmcore.map"
    path.write_text(mapfile_text(missing, end))
    subprocess.run(["ddrescuelog", "--show-status", path], check=True, capture_output=True)
    listed = subprocess.check_output(["ddrescuelog", "--list-blocks=?", "--block-size=1", path])
    assert [int(block) for block in listed.split()] == [
        byte for start, stop in missing for byte in range(start, stop)
    ]


@needs_ddrescuelog
def test_what_ddrescuelog_makes_of_it_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "vmcore.map"
    path.write_text(mapfile_text([(4096, 8192)], 16384))
    inverted = subprocess.check_output(["ddrescuelog", "--invert-mapfile", path], text=True)
    missing, end = parse_mapfile(inverted)
    assert (missing, end) == ([(0, 4096), (8192, 16384)], 16384)


def test_all_that_was_not_read_counts_as_missing() -> None:
    text = """# Mapfile. Created by GNU ddrescue version 1.27
0x00003000     /               2
0x00000000  0x00001000  +
0x00001000  0x00001000  *
0x00002000  0x00001000  /

0x00003000  0x00001000  -
0x00004000  0x00001000  +
"""
    assert parse_mapfile(text) == ([(0x1000, 0x4000)], 0x5000)


@pytest.mark.parametrize(
    "text",
    [
        "0 ? 1\n0 10 +\n20 10 ?\n",
        "0 ? 1\n0 10 +\n5 10 ?\n",
        "0 ? 1\n0 0 +\n",
        "0 ? 1\n-16 16 +\n",
        "0 ? 1\n0 10 x\n",
        "",
        "garbage",
        "0 ? 1\n0 10\n",
        "0 ? 1\nzero 10 +\n",
        "0 ? 1\n0 10 + + +\n",
    ],
)
def test_what_is_no_mapfile_is_refused(text: str) -> None:
    with pytest.raises(MapfileError, match=r"^mapfile: "):
        parse_mapfile(text)


@given(st.text())
def test_no_text_raises_anything_else(text: str) -> None:
    try:
        missing, end = parse_mapfile(text)
    except MapfileError:
        return
    assert all(0 <= start < stop <= end for start, stop in missing)


# The mapfile of what is still being received


@given(ranges=RANGES, end=st.integers(1, 1 << 44), more=st.integers(0, 1 << 20), done=st.booleans())
def test_what_is_noted_of_a_part_is_read_back_and_what_came_since_is_missing(
    ranges: list[Range], end: int, more: int, done: bool
) -> None:
    missing = holes(ranges, end)
    text = part_map_text(missing, end, done)
    read = read_part_map(text, end + more)
    assert read is not None
    here = Extents()
    here.add(0, end + more)
    for start, stop in read.missing:
        here.remove(start, stop)
    assert list(here.missing(0, end)) == missing
    assert not more or not list(here.present(end, end + more))
    assert (read.end, read.finished) == (end + more, done)
    assert parse_mapfile(text) == (missing, end)


@pytest.mark.parametrize(
    "text",
    [
        part_map_text([], 10, True, "another boot"),
        part_map_text([], 10, True, THIS_BOOT[:-1]),
        part_map_text([], 0, True),
        mapfile_text([], 10),
        part_map_text([], 10, True)[:-4],
        "",
    ],
)
def test_a_part_map_of_another_boot_or_a_damaged_one_tells_nothing(text: str) -> None:
    """What was received may have been in the page cache alone."""
    assert read_part_map(text, 10) is None


def test_where_a_boot_cannot_be_told_from_another_nothing_is_believed() -> None:
    assert read_part_map(part_map_text([], 10, True, ""), 10, "") is None


@pytest.mark.skipif(not Path("/proc/sys/kernel/random/boot_id").exists(), reason="Linux's")
def test_the_boot_is_the_kernels() -> None:
    assert Path("/proc/sys/kernel/random/boot_id").read_text().strip() == THIS_BOOT


@needs_ddrescuelog
def test_ddrescues_tools_read_a_part_map(tmp_path: Path) -> None:
    mapfile = tmp_path / "vmcore.x.0.part.map"
    mapfile.write_text(part_map_text([(4096, 8192)], 16384, True))
    done = subprocess.run(["ddrescuelog", "-t", mapfile], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "4096 B" in done.stdout
