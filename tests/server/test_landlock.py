# SPDX-License-Identifier: GPL-2.0-or-later
"""Confinement, each time in a process of its own that then tries to get out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scapy_netdump.server.service.landlock import LandlockError, version

try:
    VERSION = version()
except LandlockError as error:
    pytest.skip(str(error), allow_module_level=True)

HEAD = """
import os, signal, socket, sys, threading
from pathlib import Path
from scapy_netdump.server.service.landlock import confine
crash, outside, readable = map(Path, sys.argv[1:4])
"""


@pytest.fixture
def places(tmp_path: Path) -> list[Path]:
    """A directory to be confined to, one beside it, and one that may be read."""
    for name in ("crash", "outside", "readable"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("secret")
    return [tmp_path / "crash", tmp_path / "outside", tmp_path / "readable"]


def run(places: list[Path], code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", HEAD + code, *map(str, places)],
        text=True,
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def attempt(places: list[Path], action: str, arguments: str = "[crash], [readable]") -> str:
    """What comes of an action in a confined process: its value, or the name of its error."""
    return run(
        places,
        f"confine({arguments})\n"
        f"try:\n    print({action})\n"
        "except OSError as error:\n    print(type(error).__name__)\n",
    )


def test_it_says_which_version_the_kernel_has(places: list[Path]) -> None:
    assert run(places, "print(confine([crash]))") == str(VERSION)


@pytest.mark.parametrize(
    "action",
    [
        "(crash / 'new').write_text('x') and (crash / 'new').read_text()",
        "(crash / 'file').unlink()",
        "(crash / 'below').mkdir()",
        "(crash / 'below').mkdir() or (crash / 'below').rmdir()",
        "(crash / 'link').symlink_to('file')",
        "os.link(crash / 'file', crash / 'second')",
        "os.rename(crash / 'file', crash / 'other')",
        "os.truncate(crash / 'file', 2)",
        "os.listdir(crash) and None",
        "(readable / 'file').read_text() and None",
    ],
)
def test_what_a_server_does_in_its_directory_it_still_can(places: list[Path], action: str) -> None:
    assert attempt(places, action) in ("None", "x")


@pytest.mark.parametrize(
    "action",
    [
        "(outside / 'new').write_text('x')",
        "(outside / 'file').read_text()",
        "(outside / 'file').unlink()",
        "(readable / 'file').write_text('x')",
        "(readable / 'file').unlink()",
        "(crash / 'file').unlink() or crash.rmdir()",
        "(crash / 'link-out').read_text()",
        "os.rename(crash / 'file', outside / 'stolen')",
        "os.mkfifo(crash / 'fifo')",
        "os.listdir(outside)",
        "os.execv('/bin/true', ['true'])",
        "Path('/etc/passwd').read_text()",
    ],
)
def test_nothing_else_can_be_reached(places: list[Path], action: str) -> None:
    (places[0] / "link-out").symlink_to(places[1] / "file")
    assert attempt(places, action) in ("PermissionError", "OSError")
    assert (places[1] / "file").read_text() == "secret"
    assert os.listdir(places[1]) == ["file"]


def test_what_is_open_stays_open(places: list[Path]) -> None:
    code = "log = (outside / 'file').open('w')\nconfine([crash])\nprint(log.write('more'))\n"
    assert run(places, code) == "4"
    assert (places[1] / "file").read_text() == "more"


def test_threads_that_are_started_later_are_confined_as_well(places: list[Path]) -> None:
    code = """
confine([crash])
def escape():
    try:
        (outside / "new").write_text("x")
    except PermissionError:
        print("refused")
thread = threading.Thread(target=escape)
thread.start()
thread.join()
"""
    assert run(places, code) == "refused"


def test_places_that_are_not_there_may_be_named_to_be_read(places: list[Path]) -> None:
    assert attempt(places, "1", "[crash], [outside / 'no such']") == "1"


def test_a_directory_that_is_not_there_is_a_reason(places: list[Path]) -> None:
    code = """
from scapy_netdump.server.service.landlock import LandlockError
try:
    confine([crash / "no such"])
except LandlockError as error:
    print(error)
"""
    assert run(places, code) == "Landlock refused: No such file or directory"


@pytest.mark.skipif(VERSION < 4, reason="this kernel's Landlock knows nothing of TCP")
@pytest.mark.parametrize(("tcp", "result"), [("False", "PermissionError"), ("True", "None")])
def test_tcp_is_closed_unless_it_is_needed(places: list[Path], tcp: str, result: str) -> None:
    action = "socket.create_server(('127.0.0.1', 0)).close()"
    assert attempt(places, action, f"[crash], tcp={tcp}") == result


@pytest.mark.skipif(VERSION < 6, reason="this kernel's Landlock knows nothing of signals")
def test_signals_to_others_are_closed(places: list[Path]) -> None:
    assert attempt(places, "os.kill(os.getppid(), 0)") == "PermissionError"


def test_datagrams_still_pass(places: list[Path]) -> None:
    code = """
confine([crash])
receiver, sender = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
receiver.bind(("127.0.0.1", 0))
sender.sendto(b"through", receiver.getsockname())
receiver.settimeout(10)
print(receiver.recv(100).decode())
"""
    assert run(places, code) == "through"
