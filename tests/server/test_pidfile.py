# SPDX-License-Identifier: GPL-2.0-or-later
"""The pid file: its lock, and what is left of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

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


HEAD = """
import os, signal, sys
from pathlib import Path
from scapy_netdump.server.service.pidfile import PidFile, PidFileError
"""


def run(code: str, *arguments: object) -> None:
    subprocess.run([sys.executable, "-c", HEAD + code, *map(str, arguments)], check=True)


@pytest.mark.root
def test_it_is_removed_by_a_process_that_may_not_do_so_itself() -> None:
    code = """
pidfile = PidFile(Path(sys.argv[1]))
os.setgid(12345)
os.setuid(54321)
try:
    os.unlink(sys.argv[1])
except PermissionError:
    pidfile.remove()
    sys.exit(os.path.exists(sys.argv[1]))
sys.exit(2)
"""
    with TemporaryDirectory() as directory:
        run(code, Path(directory, "pid"))


@pytest.mark.parametrize("end", ["sys.exit()", "os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_it_is_removed_however_the_process_ends(tmp_path: Path, end: str) -> None:
    code = f"PidFile(Path(sys.argv[1]))\nif not os.fork(): {end}\nos.wait()\n{end}"
    command = [sys.executable, "-c", HEAD + code, str(tmp_path / "pid")]
    subprocess.run(command, check=False)
    PidFile(tmp_path / "pid").remove()  # waits for whoever removes it
    assert not (tmp_path / "pid").exists()


def test_what_has_the_name_by_then_is_left_alone(tmp_path: Path) -> None:
    pidfile = PidFile(tmp_path / "pid")
    (tmp_path / "pid").unlink()
    (tmp_path / "pid").write_text("of somebody else")
    pidfile.remove()
    assert (tmp_path / "pid").read_text() == "of somebody else"


def test_its_directory_may_have_been_moved(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    pidfile = PidFile(tmp_path / "run" / "pid")
    (tmp_path / "run").rename(tmp_path / "ran")
    pidfile.remove()
    assert list((tmp_path / "ran").iterdir()) == []


def test_servers_that_start_and_end_all_the_time_never_have_it_together(tmp_path: Path) -> None:
    """Each makes a file of its own that no other may have made meanwhile."""
    code = """
path = Path(sys.argv[1])
had = 0
while had < 25:
    try:
        pidfile = PidFile(path)
    except PidFileError:
        continue
    had += 1
    alone = os.open(path.with_name("alone"), os.O_CREAT | os.O_EXCL)
    assert path.read_text() == f"{os.getpid()}\\n"
    os.unlink(path.with_name("alone"))
    os.close(alone)
    pidfile.remove()
"""
    command = [sys.executable, "-c", HEAD + code, str(tmp_path / "pid")]
    processes = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(120) for process in processes] == [0] * 4
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_another_name_is_not_written_over(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    os.link(victim, tmp_path / "pid")
    with pytest.raises(PidFileError, match="another name as well"):
        PidFile(tmp_path / "pid")
    assert victim.read_text() == "precious"


def test_places_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("elsewhere")
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "no" / "pid", tmp_path / "link", tmp_path / "fifo"):
        with pytest.raises(PidFileError, match="cannot be a pid file"):
            PidFile(path)
    assert not (tmp_path / "elsewhere").exists()
