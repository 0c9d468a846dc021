# SPDX-License-Identifier: GPL-2.0-or-later
"""Giving up capabilities, in a process of its own each time."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="capabilities")

HEAD = """
import os, socket, threading
from pathlib import Path
from scapy_netdump.server.service.capabilities import *
from scapy_netdump.server.service.capabilities import DAC_OVERRIDE, FOWNER
"""


def run(code: str, *prefix: str) -> str:
    command = [*prefix, sys.executable, "-c", HEAD + code]
    done = subprocess.run(command, text=True, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.root
def test_only_what_is_wanted_is_left_for_this_thread_and_later_ones() -> None:
    code = """
print(*keep_only((DAC_OVERRIDE, FOWNER)))
def show():
    for line in Path("/proc/thread-self/status").read_text().splitlines():
        if line.startswith("Cap"):
            print(int(line.split()[1], 16))
for _ in range(2):
    thread = threading.Thread(target=show)
    thread.start()
    thread.join()
"""
    # inheritable, permitted, effective, bounding, ambient
    expected = ["dac_override fowner", *["0", "10", "10", "10", "0"] * 2]
    assert run(code).splitlines() == expected


@pytest.mark.root
@pytest.mark.parametrize(
    "action",
    [
        "socket.sethostname(socket.gethostname())",
        "os.setuid(1)",
        "os.chroot('/')",
        "os.setgroups([])",
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).setsockopt(1, 33, 1 << 20)",
        "os.nice(-1)",
    ],
)
def test_what_root_could_do_fails(action: str) -> None:
    code = (
        f"keep_only((DAC_OVERRIDE,))\ntry:\n    {action}\nexcept PermissionError:\n    print('no')"
    )
    assert run(code) == "no"


@pytest.mark.root
def test_a_program_that_it_runs_gets_none_back() -> None:
    program = ["grep", "-c", "Cap.*0000000000000000", "/proc/self/status"]
    assert run(f"keep_only(())\nos.execvp('grep', {program})") == "5"


@pytest.mark.root
def test_nobody_gets_what_he_does_not_have() -> None:
    code = "os.setgid(12345)\nos.setuid(54321)\nprint(keep_only((DAC_OVERRIDE, FOWNER)))"
    assert run(code) == "()"
