# SPDX-License-Identifier: GPL-2.0-or-later
"""Two network namespaces and a cable between them, for tests that run as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from helpers.places import TESTS

LEFT, RIGHT = "10.83.0.2", "10.83.0.1"
HERE = TESTS
PATIENCE = 60


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


class Namespace:
    """One end of the cable: interface ``cable`` with an address."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self.address = name, address

    def argv(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *command]

    def run(self, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        settings: dict[str, Any] = {"check": True, "capture_output": True, "timeout": PATIENCE}
        return subprocess.run(self.argv(*command), text=True, **{**settings, **options})

    def python(self, code: str, *arguments: str) -> str:
        """What a program prints in a fresh interpreter that may import the tests' modules."""
        done = self.run(sys.executable, "-c", code, *arguments, check=False, cwd=HERE)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @contextmanager
    def background(self, *command: str) -> Iterator[subprocess.Popen[str]]:
        """A program that runs from its first line of output on until the end of the block."""
        with subprocess.Popen(
            self.argv(*command), text=True, stdout=subprocess.PIPE, cwd=HERE
        ) as running:
            try:
                assert running.stdout is not None
                assert running.stdout.readline()
                yield running
            finally:
                running.terminate()

    def drop_at_random(self, percent: int) -> None:
        """Lose some of all UDP datagrams that arrive here."""
        if shutil.which("nft") is None:
            pytest.skip("needs the command nft (nftables)")
        rules = f"""
            table inet loss {{
                chain arriving {{
                    type filter hook prerouting priority -300;
                    meta l4proto udp numgen random mod 100 < {percent} drop
                }}
            }}
        """
        done = self.run("nft", "-f", "-", input=rules, check=False)
        if done.returncode:
            pytest.skip(f"this kernel drops nothing at random: {done.stderr.strip()}")


@pytest.fixture
def cable() -> Iterator[tuple[Namespace, Namespace]]:
    """The left namespace, for clients, and the right one, for servers."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs root on Linux")
    if shutil.which("ip") is None:
        pytest.skip("needs the command ip (iproute2)")
    ends = [Namespace(f"nd{os.getpid()}{side}", at) for side, at in (("l", LEFT), ("r", RIGHT))]
    try:
        for end in ends:
            if subprocess.run(["ip", "netns", "add", end.name], capture_output=True).returncode:
                pytest.skip("no network namespaces here")
        left, right = ends
        peer = ["peer", "name", "cable", "netns", right.name]
        ip("-n", left.name, "link", "add", "cable", "type", "veth", *peer)
        for end in ends:
            ip("-n", end.name, "address", "add", f"{end.address}/24", "dev", "cable")
            ip("-n", end.name, "link", "set", "lo", "up")
            ip("-n", end.name, "link", "set", "cable", "up")
        yield left, right
    finally:
        for end in ends:
            with suppress(subprocess.CalledProcessError):
                ip("netns", "delete", end.name)
