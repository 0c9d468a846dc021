# SPDX-License-Identifier: GPL-2.0-or-later
"""`netdump send -i`: dumps in frames of our own, to our server at the other end of a cable."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.netns import PATIENCE, RIGHT, Namespace, cable

__all__ = ["cable"]  # a fixture

pytestmark = pytest.mark.root

FOREIGN = "10.83.0.77"  # an address that neither end of the cable has
SERVE = """
import sys
from scapy_netdump import serve
serve(sys.argv[1], port=int(sys.argv[2]), on_event=lambda event: print(event.kind, flush=True))
"""


@pytest.fixture
def left(cable: tuple[Namespace, Namespace], tmp_path: Path) -> Iterator[Namespace]:
    """The end to send from; a server at the other files dumps in ``tmp_path / "dumps"``."""
    (tmp_path / "dumps").mkdir()
    (tmp_path / "vmcore").write_bytes(random.Random(1).randbytes(1_500_000))
    left, right = cable
    with right.background(sys.executable, "-c", SERVE, str(tmp_path / "dumps"), "20023"):
        yield left


def send(end: Namespace, tmp_path: Path, *options: str) -> tuple[int, str]:
    """Exit status and what was said."""
    command = [sys.executable, "-m", "scapy_netdump", "send", str(tmp_path / "vmcore")]
    done = end.run(*command, "-i", "cable", *options, check=False)
    return done.returncode, done.stdout + done.stderr


def filed(dumps: Path) -> Path:
    """The vmcore, which gets its name some time after FINISHED was acked."""
    deadline = time.monotonic() + PATIENCE
    while not (found := list(dumps.glob("vmcore.*.0"))):
        assert time.monotonic() < deadline, list(dumps.iterdir())
        time.sleep(0.01)
    return found[0]


@pytest.mark.parametrize("options", [(), ("--kernel",), ("-c", FOREIGN)])
def test_what_arrives_is_what_was_sent(
    left: Namespace, tmp_path: Path, options: tuple[str, ...]
) -> None:
    status, said = send(left, tmp_path, "-s", RIGHT, *options)
    assert status == 0, said
    vmcore = filed(tmp_path / "dumps")
    assert vmcore.read_bytes() == (tmp_path / "vmcore").read_bytes()
    assert (FOREIGN in vmcore.name) == (FOREIGN in options)


def test_a_server_at_another_port(
    left: Namespace, cable: tuple[Namespace, Namespace], tmp_path: Path
) -> None:
    (tmp_path / "others").mkdir()
    with cable[1].background(sys.executable, "-c", SERVE, str(tmp_path / "others"), "20099"):
        status, said = send(left, tmp_path, "-s", RIGHT, "--server-port", "20099")
        assert status == 0, said
        vmcore = filed(tmp_path / "others")
        assert vmcore.read_bytes() == (tmp_path / "vmcore").read_bytes()
    assert list((tmp_path / "dumps").iterdir()) == []


def test_loss_both_ways_is_made_up_for(
    left: Namespace, cable: tuple[Namespace, Namespace], tmp_path: Path
) -> None:
    for end in cable:
        end.drop_at_random(3)
    status, said = send(left, tmp_path, "-s", RIGHT)
    assert status == 0, said
    vmcore = filed(tmp_path / "dumps")
    assert vmcore.read_bytes() == (tmp_path / "vmcore").read_bytes()


def test_no_arp_answer_is_one_line(left: Namespace, tmp_path: Path) -> None:
    status, said = send(left, tmp_path, "-s", FOREIGN, "--arp-retries", "1", "--polls", "100")
    assert status == 1
    assert said.splitlines()[0].startswith(f"netdump: cable: no ARP answer from {FOREIGN}")
    assert len(said.splitlines()) == 1
