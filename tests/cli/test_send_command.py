# SPDX-License-Identifier: GPL-2.0-or-later
"""`netdump send` as its users call it: a process, its output, its exit status."""

from __future__ import annotations

import json
import os
import pty
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from helpers.ack_server import Server as AckServer
from helpers.ack_server import as_netdumpd
from helpers.serving import Serving

from scapy_netdump.formats import ACK_PORT, HERALD_PORT
from scapy_netdump.kerneldump.header import DumpHeader

CLIENT = "127.83.67.1"  # S, C
SERVER = "127.83.67.2"
NOBODY = "127.83.67.3"
PATIENCE = 60
NETDUMP = [sys.executable, "-m", "scapy_netdump", "send"]
VMCORE = Random(9).randbytes(1_000_000)

Answer = subprocess.CompletedProcess[str]


def netdump(*arguments: object) -> Answer:
    """Run it to the end. Whatever happens there is no traceback."""
    command = [*NETDUMP, *map(str, arguments)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert "Traceback" not in answer.stderr
    return answer


def one_line(answer: Answer) -> str:
    """What it complains of."""
    assert answer.stderr.count("\n") == 1
    return answer.stderr


@pytest.fixture
def vmcore(tmp_path: Path) -> Path:
    path = tmp_path / "vmcore.0"
    path.write_bytes(VMCORE)
    return path


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serving]:
    crash = tmp_path / "crash"
    crash.mkdir()
    options = ("--port", HERALD_PORT, "--ack-port", ACK_PORT)
    with Serving(crash, *options, address=SERVER) as started:
        yield started


def files(serving: Serving) -> dict[str, Path]:
    """Those that the server has filed for the next dump."""
    ended = serving.wait_for("ended")
    assert ended["reason"] == "success"
    return {kind: Path(name) for kind, name in ended["files"].items() if name is not None}


def test_0_and_a_line_when_all_is_good(serving: Serving, vmcore: Path) -> None:
    answer = netdump(vmcore, "-s", SERVER, "-c", CLIENT)
    assert answer.returncode == 0
    assert answer.stderr == ""
    assert re.fullmatch(
        rf"1000000 bytes sent to {SERVER} in \d+\.\d s \(\d+ MB/s\); 694 messages, \d+ sent again; "
        r"round trip \d+\.\d\d ms\n",
        answer.stdout,
    )
    assert files(serving)["vmcore"].read_bytes() == VMCORE


def test_a_server_at_another_port(vmcore: Path, tmp_path: Path) -> None:
    crash = tmp_path / "crash"
    crash.mkdir()
    with Serving(crash, address=SERVER) as serving:
        command = (vmcore, "-s", SERVER, "--server-port", serving.port, "-c", CLIENT, "--port", 0)
        answer = netdump(*command)
        assert answer.returncode == 0, answer.stderr
        assert files(serving)["vmcore"].read_bytes() == VMCORE


def test_the_header_says_what_was_asked_for(serving: Serving, vmcore: Path) -> None:
    words = {"hostname": "h", "versionstring": "v", "panicstring": "p q", "architecture": "arm64"}
    options = [word for name, text in words.items() for word in (f"--{name}", text)]
    assert netdump(vmcore, "-s", SERVER, "-c", CLIENT, *options).returncode == 0
    header = DumpHeader.unpack(files(serving)["kdh"].read_bytes())
    said = {name: getattr(header, name).strip() for name in words}
    assert said == words
    assert header.dumptime > 1_700_000_000


def test_strings_that_just_fit_arrive_whole_and_as_utf_8(serving: Serving, vmcore: Path) -> None:
    words = {
        "hostname": "h" * 61 + "é", "versionstring": "v" * 190, "panicstring": "p" * 174,
        "architecture": "a" * 11,
    }  # fmt: skip
    options = [word for name, text in words.items() for word in (f"--{name}", text)]
    answer = netdump(vmcore, "-s", SERVER, "-c", CLIENT, *options)
    assert answer.returncode == 0, answer.stderr
    header = DumpHeader.unpack(files(serving)["kdh"].read_bytes())
    assert {name: getattr(header, name).removesuffix("\n") for name in words} == words


def test_the_same_seed_may_go_with_no_faults(serving: Serving, vmcore: Path) -> None:
    answer = netdump(vmcore, "-s", SERVER, "-c", CLIENT, "--loss", 0, "--seed", 3)
    assert answer.returncode == 0, answer.stderr


def one_a_second(message: bytes) -> list[bytes]:
    time.sleep(1)
    return [message[4:8]]


def test_a_slow_server_is_told_of_and_does_not_hold_it_for_ever(vmcore: Path) -> None:
    server = AckServer("127.83.67.20")
    server.answer = one_a_second
    server.start()
    options = ("--server-port", server.port, "-c", "127.83.67.21", "--timeout", 14, "--json")
    answer = netdump(vmcore, "-s", "127.83.67.20", *options)
    server.close()
    assert answer.returncode == 1
    slow, ended = answer.stderr.splitlines()
    assert re.fullmatch(
        r"netdump: 127\.83\.67\.20 is slow: 1\d\d\d bytes/s in the last 1\d s; 0 of 1000000 "
        r"bytes are there, the rest takes 1\d:\d\d at that speed \(--timeout ends it sooner\)",
        slow,
    )
    assert re.search(r"not done in the 14 seconds of --timeout: .* confirmed 0 of 1000000", ended)
    assert json.loads(answer.stdout)["error"] in ended


def test_a_server_that_takes_no_jumbo_messages_gets_smaller_ones(vmcore: Path) -> None:
    server = AckServer("127.83.67.22")
    server.answer = as_netdumpd
    server.start()
    options = ("-s", "127.83.67.22", "--server-port", server.port, "-c", "127.83.67.23")
    answer = netdump(vmcore, *options, "--mtu", 9000, "--json")
    assert answer.returncode == 0, answer.stderr
    assert "acks no messages of 8948 bytes: they are cut to 4096" in one_line(answer)
    assert json.loads(answer.stdout)["payload"] == 4096
    kernel = ("--kernel", "--mtu", 9000, "--polls", 100)
    answer = netdump(vmcore, *options, *kernel)
    server.close()
    assert answer.returncode == 1
    assert "acked no message of 8948 bytes" in one_line(answer)
    assert "a stock netdumpd takes 4096 at most: try --mtu 4148" in answer.stderr
    answer = netdump(vmcore, "-s", "127.83.67.22", "-c", "127.83.67.23", "--help")
    assert "4148" in answer.stdout


def test_compressed_and_below_a_path(serving: Serving, vmcore: Path, tmp_path: Path) -> None:
    (tmp_path / "crash" / "lab").mkdir()
    answer = netdump(vmcore, "-s", SERVER, "-c", CLIENT, "-z", "--path", "lab")
    assert answer.returncode == 0
    stored = files(serving)["vmcore"]
    assert stored.parent.name == "lab"
    assert stored.name.endswith(".gz")
    unpacked = subprocess.run(["gzip", "-dc", stored], capture_output=True, check=True).stdout
    assert unpacked == VMCORE


@pytest.mark.parametrize("discipline", [[], ["--kernel"]])
def test_faults_and_json(serving: Serving, vmcore: Path, discipline: list[str]) -> None:
    rates = ["--loss", "2%", "--reorder", "0.02", "--duplicate", "1%", "--corrupt", "1%"]
    answer = netdump(
        vmcore, "-s", SERVER, "-c", CLIENT, *rates, "--seed", 4, "--polls", 100, "--retries", 50,
        "--json", *discipline,
    )  # fmt: skip
    result = json.loads(answer.stdout)
    assert answer.returncode == 0
    assert files(serving)["vmcore"].read_bytes() == VMCORE
    assert result["finished"]
    assert result["error"] is None
    assert result["bytes"] == result["acknowledged"] == len(VMCORE)
    assert result["dropped"] > 0
    assert result["retransmissions"] >= result["dropped"]
    assert result["server"] == SERVER


def test_the_kernels_bug_leaves_holes(serving: Serving, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(Random(1).randbytes(3 << 20))
    answer = netdump(
        large, "-s", SERVER, "-c", CLIENT, "--kernel-ack-bug", "--loss", "3%", "--polls", 100,
    )  # fmt: skip
    assert answer.returncode == 0
    ended = serving.wait_for("ended")
    assert ended["reason"] == "incomplete"
    assert ended["missing"]


def test_debug_tells_what_passes(serving: Serving, vmcore: Path) -> None:
    answer = netdump(vmcore, "-s", SERVER, "-c", CLIENT, "--debug")
    assert answer.returncode == 0
    assert "netdump: sending 1000000 bytes" in answer.stderr
    assert "netdump: to port 20023: 1 HERALD message" in answer.stderr
    assert ": acks 1\n" in answer.stderr


def test_on_a_terminal_there_is_progress(serving: Serving, vmcore: Path) -> None:
    leader, follower = pty.openpty()
    command = [*NETDUMP, str(vmcore), "-s", SERVER, "-c", CLIENT, "--kernel"]
    faults = ["--loss", "0.02", "--polls", "200"]
    done = subprocess.run(
        [*command, *faults], stderr=follower, stdout=subprocess.DEVNULL, timeout=PATIENCE
    )
    os.close(follower)
    shown = os.read(leader, 1 << 20).decode()
    os.close(leader)
    assert done.returncode == 0
    assert re.search(rf"to {SERVER}  \d+ MiB of 0 .* MB/s, \d+ sent again, \d+:\d\d left", shown)
    assert shown.endswith("\r\x1b[K")


def test_1_and_what_to_do_when_nobody_listens(vmcore: Path) -> None:
    options = ("-s", NOBODY, "-c", CLIENT, "--polls", 20, "--retries", 1, "--json")
    answer = netdump(vmcore, *options)
    assert answer.returncode == 1
    assert "start one there, or check the address" in one_line(answer)
    result = json.loads(answer.stdout)
    assert not result["finished"]
    assert result["error"] in answer.stderr


def test_1_when_the_port_is_taken(vmcore: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.83.67.9", ACK_PORT))
        answer = netdump(vmcore, "-s", SERVER, "-c", "127.83.67.9")
    assert answer.returncode == 1
    assert "UDP port 20024 is taken" in one_line(answer)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["-s", "no-such-host.invalid"], 1, "no-such-host.invalid: "),
        (["-s", SERVER, "-g", "192.0.2.1"], 2, "-g is for frames"),
        (["-s", SERVER, "-i", "lo", "--mtu", "1400"], 2, "--mtu: with -i"),
        (["-s", SERVER, "--loss", "0.6", "--corrupt", "60%"], 2, "more than 1"),
        (["-s", SERVER, "--path", "x" * 1024], 2, "--path: no more than 1023 bytes"),
        (["-s", SERVER, "-k", "/no/such/key"], 1, "/no/such/key"),
        (["-s", SERVER, "-C", "chacha20"], 2, "-C: a cipher needs a public key (-k)"),
        (["-s", SERVER, "--arp-retries", "3"], 2, "--arp-retries is for frames"),
        (["-s", SERVER, "--seed", "1"], 2, "--seed chooses among faults"),
        (["-s", SERVER, "--number", "1"], 2, "not a capture, there is no dump 1"),
        (
            ["-s", SERVER, "--hostname", "h" * 64],
            2,
            "--hostname: no more than 63 bytes fit, and it",
        ),
        (
            ["-s", SERVER, "--hostname", "é" * 32],
            2,
            "--hostname: no more than 63 bytes fit, and it",
        ),
        (["-s", SERVER, "--versionstring", "v" * 191], 2, "--versionstring: no more than 190"),
        (["-s", SERVER, "--panicstring", "p" * 175], 2, "--panicstring: no more than 174"),
        (["-s", SERVER, "--architecture", "a" * 12], 2, "--architecture: no more than 11"),
    ],
)
def test_what_cannot_be_is_told_in_a_line(
    vmcore: Path, arguments: list[str], status: int, message: str
) -> None:
    answer = netdump(vmcore, *arguments)
    assert answer.returncode == status
    assert message in one_line(answer)


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["-s", SERVER, "-z", "-Z"], ["-s", SERVER, "--loss", "2"], ["-s", SERVER, "--mtu", "9"],
        ["-s", SERVER, "--polls", "0"], ["-s", SERVER, "--port", "65536"],
        ["-s", SERVER, "--server-port", "0"],
        ["-s", SERVER, "-C", "rot13"], ["-s", SERVER, "--loss", "nan"],
        ["-s", SERVER, "--timeout", "0"], ["-s", SERVER, "--timeout", "inf"],
    ],
)  # fmt: skip
def test_2_for_wrong_usage(vmcore: Path, arguments: list[str]) -> None:
    answer = netdump(vmcore, *arguments)
    assert answer.returncode == 2
    assert "error: " in answer.stderr


def test_1_for_a_file_that_is_not_there(tmp_path: Path) -> None:
    answer = netdump(tmp_path / "nothing", "-s", SERVER)
    assert answer.returncode == 1
    assert "nothing" in one_line(answer)
