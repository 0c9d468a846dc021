# SPDX-License-Identifier: GPL-2.0-or-later
"""`netdump send` while the network says no: forged and real ICMP, a firewall, no cable."""

from __future__ import annotations

import random
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import pytest
from helpers.netns import LEFT, PATIENCE, RIGHT, Namespace, cable, ip

__all__ = ["cable"]  # a fixture

pytestmark = pytest.mark.root

FAR = "10.83.1.2"  # behind the right end, by a narrow way
NARROW = 1000
VMCORE = random.Random(1).randbytes(3_000_000)
#: Takes seconds for the vmcore, and waits long for an ack.
SLOW = ("--kernel", "--loss", "1%", "--polls", "200", "--retries", "200")
SERVE = """
import sys
from scapy_netdump import serve
serve(sys.argv[1], port=20023, on_event=lambda event: print(event.kind, flush=True))
"""


@pytest.fixture
def dumps(tmp_path: Path) -> Path:
    (tmp_path / "vmcore").write_bytes(VMCORE)
    (tmp_path / "dumps").mkdir()
    return tmp_path / "dumps"


@pytest.fixture
def left(cable: tuple[Namespace, Namespace], dumps: Path) -> Iterator[Namespace]:
    """The end to send from; a server runs at the other."""
    left, right = cable
    with right.background(sys.executable, "-c", SERVE, str(dumps)):
        yield left


@pytest.fixture
def far(cable: tuple[Namespace, Namespace], dumps: Path) -> Iterator[Namespace]:
    """The end to send from; the server is behind the other end, where packets must be small."""
    left, right = cable
    name = f"{right.name}f"
    ip("netns", "add", name)
    try:
        far = Namespace(name, FAR)
        peer = ["peer", "name", "cable", "netns", name, "mtu", str(NARROW)]
        ip("-n", right.name, "link", "add", "on", "mtu", str(NARROW), "type", "veth", *peer)
        for end, interface, address in ((right, "on", "10.83.1.1"), (far, "cable", FAR)):
            ip("-n", end.name, "address", "add", f"{address}/24", "dev", interface)
            ip("-n", end.name, "link", "set", interface, "up")
        right.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        ip("-n", name, "route", "add", "default", "via", "10.83.1.1")
        ip("-n", left.name, "route", "add", "default", "via", RIGHT)
        with far.background(sys.executable, "-c", SERVE, str(dumps)):
            yield left
    finally:
        ip("netns", "delete", name)


def command(dumps: Path, server: str, *options: str) -> list[str]:
    vmcore = str(dumps.parent / "vmcore")
    return [sys.executable, "-m", "scapy_netdump", "send", vmcore, "-s", server, *options]


def send(end: Namespace, dumps: Path, server: str, *options: str) -> str:
    """Send to the end; what was said."""
    done = end.run(*command(dumps, server, *options), check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert filed(dumps) == VMCORE
    return said


def filed(dumps: Path) -> bytes:
    """The vmcore, which gets its name some time after FINISHED was acked."""
    deadline = time.monotonic() + PATIENCE
    while not (found := list(dumps.glob("vmcore.*.0"))):
        assert time.monotonic() < deadline, list(dumps.iterdir())
        time.sleep(0.01)
    return found[0].read_bytes()


@pytest.mark.parametrize("mtu", [0, 68, 1400])
@pytest.mark.parametrize("options", [(), ("--kernel",)])
def test_forged_fragmentation_needed_ends_nothing(
    cable: tuple[Namespace, Namespace],
    left: Namespace,
    dumps: Path,
    mtu: int,
    options: tuple[str, ...],
) -> None:
    forging = (sys.executable, "-m", "helpers.icmp", LEFT, RIGHT, str(mtu))
    with cable[1].background(*forging):
        send(left, dumps, RIGHT, *options)


@pytest.mark.parametrize("options", [(), ("--kernel",), ("--mtu", "9000")])
def test_a_narrow_way_takes_fragments(
    far: Namespace, dumps: Path, options: tuple[str, ...]
) -> None:
    send(far, dumps, FAR, *options)


def test_frames_that_are_too_large_for_the_way_become_smaller(far: Namespace, dumps: Path) -> None:
    """They are not to be fragmented, as the kernel's; the router says so, and nothing arrives."""
    said = send(far, dumps, FAR, "-i", "cable", "--polls", "400")
    assert f"{FAR} acks no messages of 1448 bytes: they are cut to 1208" in said
    assert "messages are cut to 524 bytes" in said
    dumps_of_kernel = ("-i", "cable", "--polls", "100", "--kernel")
    done = far.run(*command(dumps, FAR, *dumps_of_kernel), check=False)
    assert done.returncode == 1
    assert "fragmentation-needed" in done.stderr


def until_it_moves(dumps: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not any(path.stat().st_size for path in dumps.glob("vmcore*")):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def resumed(sending: Popen[str], dumps: Path) -> None:
    said, _ = sending.communicate(timeout=PATIENCE)
    assert sending.returncode == 0, said
    assert filed(dumps) == VMCORE


def test_an_interface_that_goes_down_and_up_ends_nothing(left: Namespace, dumps: Path) -> None:
    """Its address goes as well, for a while: sending says EINVAL then, and ENETUNREACH."""
    with Popen(left.argv(*command(dumps, RIGHT, *SLOW, "-c", LEFT)), text=True) as sending:
        until_it_moves(dumps)
        ip("-n", left.name, "link", "set", "cable", "down")
        time.sleep(0.5)
        ip("-n", left.name, "link", "set", "cable", "up")
        ip("-n", left.name, "address", "delete", f"{LEFT}/24", "dev", "cable")
        time.sleep(0.5)
        assert sending.poll() is None
        ip("-n", left.name, "address", "add", f"{LEFT}/24", "dev", "cable")
        resumed(sending, dumps)


@pytest.mark.parametrize("route", ["unreachable", "prohibit", "blackhole", "throw"])
def test_a_route_that_is_gone_for_a_moment_ends_nothing(
    left: Namespace, dumps: Path, route: str
) -> None:
    """EHOSTUNREACH, EACCES, EINVAL, ENETUNREACH."""
    with Popen(left.argv(*command(dumps, RIGHT, *SLOW)), text=True) as sending:
        until_it_moves(dumps)
        ip("-n", left.name, "route", "add", route, RIGHT)
        time.sleep(0.5)
        assert sending.poll() is None
        ip("-n", left.name, "route", "delete", route, RIGHT)
        resumed(sending, dumps)


def test_a_firewall_ends_nothing(left: Namespace, dumps: Path) -> None:
    """It lets send(2) fail with EPERM."""
    if shutil.which("nft") is None:
        pytest.skip("needs the command nft (nftables)")
    chain = "type filter hook output priority 0; udp dport 1-65535 drop;"
    rules = f"table inet no {{ chain out {{ {chain} }} }}"
    with Popen(left.argv(*command(dumps, RIGHT, *SLOW)), text=True) as sending:
        until_it_moves(dumps)
        if left.run("nft", "-f", "-", input=rules, check=False).returncode:
            sending.kill()
            pytest.skip("no firewall in this kernel")
        time.sleep(0.5)
        assert sending.poll() is None
        left.run("nft", "delete", "table", "inet", "no")
        resumed(sending, dumps)
