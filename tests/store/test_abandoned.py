# SPDX-License-Identifier: GPL-2.0-or-later
"""What a server that was killed left is told as it is, and what others do is left alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from scapy_netdump.core.account import Account
from scapy_netdump.core.verdict import Kind, Verdict
from scapy_netdump.formats import VMCORE
from scapy_netdump.store.abandoned import mark_abandoned, true_status
from scapy_netdump.store.directory import Directory
from scapy_netdump.store.dump_files import reserve
from scapy_netdump.store.live_dumps import LiveDumps

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
        dumps.begin(HOST, b"lab")
        assert told[1:] == [f"{tmp_path}/lab/info.{HOST}.0: {ENDED}no data received"]
    assert dumps.begin(HOST, b"lab").name.endswith(".3")
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
