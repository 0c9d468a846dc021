# SPDX-License-Identifier: GPL-2.0-or-later
"""Live capture of real traffic, in a network namespace of its own. Most of it needs root."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from helpers.traffic import Dump, header
from helpers.traffic import frames as ethernet_frames
from scapy.layers.inet import IP, UDP, fragment
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet, Raw

from scapy_netdump.capture.ip import Datagram, UdpDecoder
from scapy_netdump.capture.link import network_layer
from scapy_netdump.capture.live import LiveCapture, LiveFrame
from scapy_netdump.errors import CaptureError

CLONE_NEWNET = 0x40000000  # linux/sched.h
NOBODY = 65534

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="live capture works on Linux only")


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def network() -> Iterator[None]:
    """A namespace with loopback and the two ends of a cable, ``left`` and ``right``."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if shutil.which("ip") is None:
        pytest.skip("needs the command ip (iproute2)")
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    if libc.unshare(CLONE_NEWNET):
        pytest.skip(f"no network namespace: {os.strerror(ctypes.get_errno())}")
    try:
        ip("link", "set", "lo", "up")
        ip("link", "add", "left", "type", "veth", "peer", "name", "right")
        for end in "left", "right":
            ip("link", "set", end, "up")
        yield
    finally:
        libc.setns(home, CLONE_NEWNET)
        os.close(home)


def send(packets: list[Packet], interface: str = "left") -> None:
    """Put frames on the cable."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as cable:
        cable.bind((interface, 0))
        for packet in packets:
            cable.send(bytes(packet))


def drain(capture: LiveCapture) -> list[LiveFrame]:
    """What came up to now."""
    capture.stop()
    return list(capture)


def datagrams(frames: list[LiveFrame]) -> list[tuple[Datagram, bytes]]:
    """The datagrams in the frames to the port 20023, with their payloads."""
    decoder = UdpDecoder()
    found = []
    for time_, link, frame, original in frames:
        place = network_layer(link, frame)
        datagram = place and decoder.decode(frame, *place, time_, original)
        if datagram and datagram.dport == 20023:
            data = frame if datagram.data is None else datagram.data
            found.append((datagram, data[datagram.start :][: datagram.captured]))
    return found


def payloads(frames: list[LiveFrame]) -> list[bytes]:
    return [payload for _, payload in datagrams(frames)]


def over_loopback(*contents: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for content in contents:
            sender.sendto(content, ("127.0.0.1", 20023))


def cable_datagram(payload: bytes, **fields: object) -> Packet:
    network = IP(src="10.99.0.2", dst="10.99.0.1", **fields)
    return Ether(dst="ff:ff:ff:ff:ff:ff") / network / UDP(sport=20024, dport=20023) / Raw(payload)


@pytest.mark.root
@pytest.mark.usefixtures("network")
def test_loopback_shows_each_datagram_once_with_its_time() -> None:
    with LiveCapture("lo") as capture:
        over_loopback(b"one", b"two", b"two")
        frames = drain(capture)
    assert payloads(frames) == [b"one", b"two", b"two"]
    assert all(abs(frame.time - time.time()) < 10 for frame in frames)
    assert all(frame.original == len(frame.frame) for frame in frames)
    assert datagrams(frames)[0][0].source == ip_address("127.0.0.1").packed
    assert capture.dropped == 0
    assert capture.problem is None


@pytest.mark.root
@pytest.mark.usefixtures("network")
@pytest.mark.parametrize("end", ["left", "right"])
def test_frames_are_seen_at_both_ends_of_a_cable_sent_and_received(end: str) -> None:
    with LiveCapture(end) as capture:
        send([cable_datagram(b"out")], "left")
        send([cable_datagram(b"back")], "right")
        assert payloads(drain(capture)) == [b"out", b"back"]


@pytest.mark.root
@pytest.mark.usefixtures("network")
def test_fragments_ipv6_and_vlans_come_through_and_tcp_does_not() -> None:
    inner = IPv6(dst="ff02::1") / UDP(sport=20024, dport=20023) / Raw(b"IPv6")
    tagged = cable_datagram(b"VLAN")
    tagged = Ether(dst=tagged.dst) / Dot1Q(vlan=5) / tagged[IP]
    tcp = Ether(dst="ff:ff:ff:ff:ff:ff") / IP(src="10.99.0.2", dst="10.99.0.1", proto=6)
    packets = [
        *fragment(cable_datagram(b"x" * 3000), 1000),
        Ether() / inner,
        tagged,
        tcp / Raw("T"),
    ]
    with LiveCapture("right") as capture:
        send(packets)
        frames = drain(capture)
    assert payloads(frames) == [b"x" * 3000, b"IPv6", b"VLAN"]
    assert not [frame for frame in frames if frame.frame.endswith(b"T")]


@pytest.mark.root
@pytest.mark.usefixtures("network")
def test_a_tunnel_without_link_layer_gives_raw_ip() -> None:
    try:
        ip("tuntap", "add", "mode", "tun", "name", "tunnel")
    except subprocess.CalledProcessError:
        pytest.skip("needs /dev/net/tun")
    with open("/dev/net/tun", "r+b", buffering=0) as device:
        attach_tunnel(device.fileno(), "tunnel")
        ip("addr", "add", "10.98.0.1/24", "dev", "tunnel")
        ip("link", "set", "tunnel", "up")
        with LiveCapture("tunnel") as capture:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"through", ("10.98.0.2", 20023))
            assert payloads(drain(capture)) == [b"through"]


def attach_tunnel(device: int, name: str) -> None:
    set_interface, tun, no_information = 0x400454CA, 1, 0x1000  # linux/if_tun.h
    fcntl.ioctl(device, set_interface, struct.pack("16sH22x", name.encode(), tun | no_information))


@pytest.mark.root
@pytest.mark.usefixtures("network")
def test_thousands_of_datagrams_come_whole_and_in_order() -> None:
    contents = [number.to_bytes(4, "big") + bytes(1400) for number in range(5000)]
    with LiveCapture("lo") as capture:
        over_loopback(*contents)
        assert payloads(drain(capture)) == contents
        assert capture.dropped == 0


@pytest.mark.root
@pytest.mark.usefixtures("network")
def test_what_does_not_fit_into_the_ring_is_counted() -> None:
    with LiveCapture("lo") as capture:
        over_loopback(*[bytes(60_000)] * 1000)
        kept = len(payloads(drain(capture)))
    assert 0 < kept < 1000
    assert capture.dropped > 0
    capture.close()
    assert capture.dropped > 0


@pytest.mark.root
@pytest.mark.usefixtures("network")
def test_a_signal_handler_ends_the_capture_and_keeps_what_came() -> None:
    with LiveCapture("lo") as capture:
        before = signal.signal(signal.SIGALRM, lambda *_: capture.stop())
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        try:
            over_loopback(b"kept")
            assert payloads(list(capture)) == [b"kept"]
        finally:
            signal.signal(signal.SIGALRM, before)


@pytest.mark.root
@pytest.mark.usefixtures("network")
def test_a_capture_on_a_busy_interface_ends_nevertheless() -> None:
    done = threading.Event()

    def chatter() -> None:
        while not done.is_set():
            over_loopback(b"noise")

    with LiveCapture("lo") as capture:
        talker = threading.Thread(target=chatter)
        talker.start()
        threading.Timer(0.3, capture.stop).start()
        started = time.monotonic()
        count = sum(1 for _ in capture)
        elapsed = time.monotonic() - started
        done.set()
        talker.join()
    assert count > 0
    assert elapsed < 5


@pytest.mark.root
@pytest.mark.usefixtures("network")
def test_reading_while_nothing_comes_returns_nothing_for_now() -> None:
    with LiveCapture("lo") as capture:
        assert capture.read() == ()
        over_loopback(b"later")
        assert payloads(list(capture.read() or ())) == [b"later"]


@pytest.mark.root
@pytest.mark.usefixtures("network")
@pytest.mark.parametrize("event", [("link", "set", "right", "down"), ("link", "del", "right")])
def test_an_interface_that_goes_away_ends_the_capture_with_a_reason(event: tuple[str, ...]) -> None:
    with LiveCapture("right") as capture:
        send([cable_datagram(b"last words")])
        ip(*event)
        assert payloads(list(capture)) == [b"last words"]
        assert capture.problem
        assert "interface" in capture.problem


@pytest.mark.root
@pytest.mark.usefixtures("network")
def test_an_interface_that_is_down_or_missing_is_refused() -> None:
    ip("link", "set", "left", "down")
    with pytest.raises(CaptureError, match=r"^left: the interface is down$"):
        LiveCapture("left")
    with pytest.raises(CaptureError, match=r"^missing: no such interface$"):
        LiveCapture("missing")


def test_without_privilege_capture_is_refused_with_the_reason() -> None:
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        with pytest.raises(CaptureError, match=r"^lo: .*needs root"):
            LiveCapture("lo")
    finally:
        os.seteuid(user)


@pytest.mark.root
@pytest.mark.usefixtures("network")
def test_a_dump_on_the_cable_is_recovered_until_an_interrupt_ends_it(tmp_path: Path) -> None:
    memory = bytes(range(256)) * 300
    command = [sys.executable, "-m", "scapy_netdump", "recover", "-i", "right"]
    recovery = subprocess.Popen(
        [*command, "-o", str(tmp_path), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert recovery.stderr is not None
    assert "^C ends" in recovery.stderr.readline()
    dump = Dump(vmcore=memory, kdh=header(len(memory)))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as cable:
        cable.bind(("left", 0))
        for seen in ethernet_frames(dump.traffic()):
            cable.send(seen.data)
    time.sleep(0.5)
    recovery.send_signal(signal.SIGINT)
    output, errors = recovery.communicate(timeout=20)
    assert (recovery.returncode, errors) == (0, "")
    (found,) = json.loads(output)
    assert found["complete"]
    assert Path(found["files"]["vmcore"]).read_bytes() == memory
