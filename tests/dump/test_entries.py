# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumps opened from a dump directory: by any of their files, with what the mapfile and the info
file tell."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.dumps import Minidump
from helpers.traffic import Dump, header, pcap

from scapy_netdump import NetdumpError, StoreError, open_dump, reassemble, recover
from scapy_netdump.client.prepare import prepared
from scapy_netdump.core.verdict import Kind, Verdict
from scapy_netdump.store.mapfile import mapfile_text

SAMPLE = Minidump("amd64", 2, [1, 2, 3, 9, 40], text=b"panic: a sample\n").build()


def entry(directory: Path, missing: bool = False) -> Path:
    """A directory with one dump in it, and what it is called there."""
    traffic = Dump(vmcore=SAMPLE, kdh=header(len(SAMPLE))).traffic()
    if missing:
        traffic = [seen for at, seen in enumerate(traffic) if at not in (8, 9)]
    capture = directory / "capture.pcap"
    capture.write_bytes(pcap(traffic))
    (dump,) = recover(capture, directory / "crash").dumps
    assert dump.files.vmcore is not None
    return dump.files.vmcore


@pytest.mark.parametrize("missing", [False, True])
def test_each_file_of_a_dump_stands_for_it(tmp_path: Path, missing: bool) -> None:
    vmcore = entry(tmp_path, missing)
    with open_dump(vmcore) as dump:
        told, files = dump.verdict, dump.files
    assert told.complete is not missing
    others = [path for path in vmcore.parent.iterdir() if not path.name.startswith("bounds")]
    assert len(others) == 5 + missing
    for path in others:
        with open_dump(path) as dump:
            assert (dump.verdict, dump.files.kdh, dump.kdh) == (told, files.kdh, dump.header)
            assert dump.bytes_expected == len(SAMPLE)


def test_the_bounds_file_is_no_dump(tmp_path: Path) -> None:
    vmcore = entry(tmp_path)
    for name in ("bounds", "bounds.host"):
        path = vmcore.with_name(name)
        path.write_text("1\n")
        with pytest.raises(NetdumpError, match=f"{name}: tells the number of the next dump"):
            open_dump(path)
        with pytest.raises(NetdumpError, match="tells the number of the next dump"):
            prepared(path)


def test_a_name_of_no_file_stands_for_nothing(tmp_path: Path) -> None:
    vmcore = entry(tmp_path)
    with pytest.raises(StoreError, match="No such file"):
        open_dump(vmcore.with_name(vmcore.name.replace("vmcore", "key")))


def test_what_a_mapfile_does_not_reach_is_not_here(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(SAMPLE)
    path.with_name("core.map").write_text(mapfile_text([], 0x100))
    with open_dump(path) as dump:
        assert dump.missing == [(0x100, len(SAMPLE))]
        assert dump.verdict.kind is Kind.INCOMPLETE


def test_what_led_to_a_verdict_is_told_with_it(tmp_path: Path) -> None:
    vmcore = entry(tmp_path, missing=True)
    info = vmcore.with_name(vmcore.name.replace("vmcore", "info"))
    lines = info.read_text().splitlines()
    told = Verdict.from_line(lines[-1])
    assert told is not None
    lines[-1] = str(told.because("client began another dump"))
    info.write_text("\n".join(lines) + "\n")
    with open_dump(vmcore) as dump:
        assert str(dump.verdict) == lines[-1]


def test_a_path_may_be_bytes(tmp_path: Path) -> None:
    vmcore = entry(tmp_path)
    capture = os.fsencode(tmp_path / "capture.pcap")
    assert recover(capture, os.fsencode(tmp_path / "again")).dumps[0].complete
    assert [dump.complete for dump in reassemble(capture)] == [True]
    with open_dump(os.fsencode(vmcore)) as dump:
        assert dump.complete
