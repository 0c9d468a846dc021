# SPDX-License-Identifier: GPL-2.0-or-later
"""The pid file: its lock, and what is left of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scapy_netdump.server.service.pidfile import PidFile, PidFileError


def test_it_holds_the_number_until_it_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    pidfile = PidFile(path)
    assert path.read_text() == f"{os.getpid()}\n"
    assert path.stat().st_mode & 0o777 == 0o644 & ~_umask()
    pidfile.remove()
    assert not path.exists()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_second_process_is_told_of_the_first(tmp_path: Path) -> None:
    first = PidFile(tmp_path / "pid")
    with pytest.raises(PidFileError, match=f"process {os.getpid()} runs already"):
        PidFile(tmp_path / "pid")
    assert (tmp_path / "pid").read_text() == f"{os.getpid()}\n"
    first.remove()


def test_what_a_crash_left_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    path.write_text("123456789\nand more")
    pidfile = PidFile(path)
    assert path.read_text() == f"{os.getpid()}\n"
    pidfile.remove()


def test_where_it_may_not_be_removed_it_is_emptied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pidfile = PidFile(tmp_path / "pid")

    def refuse(path: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "unlink", refuse)
    pidfile.remove()
    assert (tmp_path / "pid").read_text() == ""


def test_places_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("elsewhere")
    for path in (tmp_path, tmp_path / "no" / "pid", tmp_path / "link"):
        with pytest.raises(PidFileError, match="cannot be a pid file"):
            PidFile(path)
    assert not (tmp_path / "elsewhere").exists()
