# SPDX-License-Identifier: GPL-2.0-or-later
"""netdumpd(), the answering machine, with a Scapy client on loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.netns import LEFT, RIGHT, Namespace, cable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.all import IP, UDP, AsyncSniffer, Packet, Raw, conf

from scapy_netdump.core.receiving.events import Ended, Event, Started
from scapy_netdump.core.receiving.limits import Limits
from scapy_netdump.errors import NetdumpError
from scapy_netdump.layers import KernelDumpHeader, Netdump, NetdumpAck, NetdumpHerald
from scapy_netdump.scapy_tools import NetdumpSocket, netdumpd
from scapy_netdump.scapy_tools.answering import Netdump_am, NetdumpdSniffer

__all__ = ["cable"]  # a fixture

# In Scapy, the thread that sends may stop a sniffer at the moment that it ends by itself.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

SERVER, CLIENT = "127.83.2.1", "127.83.2.2"
PATIENCE = 10
MEMORY = bytes(range(256)) * 40
HERALD = Netdump(seqno=1)
DATA = [
    Netdump(seqno=2 + n, offset=1448 * n) / Raw(MEMORY[1448 * n : 1448 * (n + 1)]) for n in range(8)
]
KDH = Netdump(seqno=10) / KernelDumpHeader(panicstring="on purpose", dumplength=len(MEMORY))
FINISHED = Netdump(type="FINISHED", seqno=11)

Start = Callable[..., NetdumpdSniffer]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "verb", 0)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts netdumpd() in the background, in a directory of its own."""
    running = []

    def start(**options: Any) -> NetdumpdSniffer:
        settled = {"address": SERVER, "port": 0, "verbose": 0, **options}
        server = netdumpd(tmp_path, bg=True, **settled)
        assert server is not None
        running.append(server)
        return server

    yield start
    for server in running:
        if server.running:
            server.stop()


def client_of(server: NetdumpdSniffer, **options: Any) -> NetdumpSocket:
    return NetdumpSocket(SERVER, port=server.end[1], **{"source": CLIENT, **options})


def send_dump(client: NetdumpSocket) -> None:
    for messages in (HERALD, DATA, KDH, FINISHED):
        answered, unanswered = client.sr(messages, timeout=PATIENCE)
        assert answered
        assert not unanswered


def wait_for(events: list[Event], kind: type[Event]) -> Any:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for event in events:
            if isinstance(event, kind):
                return event
        time.sleep(0.01)
    raise AssertionError(f"no {kind.__name__} in {events}")


def test_a_dump_is_received_and_filed(start: Start, tmp_path: Path) -> None:
    events: list[Event] = []
    server = start(on_event=events.append)
    with client_of(server) as client:
        send_dump(client)
        ended = wait_for(events, Ended)
        assert (ended.reason, ended.complete) == ("success", True)
        assert (tmp_path / f"vmcore.{CLIENT}.0").read_bytes() == MEMORY
        assert "Panic String: on purpose" in (tmp_path / f"info.{CLIENT}.0").read_text()
        assert client.sr1(FINISHED, timeout=PATIENCE).seqno == FINISHED.seqno  # it lingers


def test_it_is_an_async_sniffer_that_stops_and_starts_again(start: Start) -> None:
    for _ in range(2):
        server = start()
        assert isinstance(server, AsyncSniffer)
        assert server.running
        port = server.end[1]
        server.stop()
        assert not server.running
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind((SERVER, port))


def test_stopping_files_what_is_here(start: Start, tmp_path: Path) -> None:
    server = start()
    with client_of(server) as client:
        client.sr1(HERALD, timeout=PATIENCE)
        client.sr(DATA[:3], timeout=PATIENCE)
    server.stop()
    assert (tmp_path / f"vmcore.{CLIENT}.0").read_bytes() == MEMORY[: 3 * 1448]
    info = (tmp_path / f"info.{CLIENT}.0").read_text()
    assert "Dump not known to be complete: server was stopped" in info.splitlines()[-1]


def test_silent_clients_are_timed_out_though_nothing_comes(start: Start) -> None:
    events: list[Event] = []
    server = start(on_event=events.append, limits=Limits(expiry=0.3))
    with client_of(server) as client:
        client.sr1(HERALD, timeout=PATIENCE)
        client.sr1(DATA[0], timeout=PATIENCE)
        wait_for(events, Ended)
        assert [event.reason for event in events if isinstance(event, Ended)] == ["timeout"]


def test_two_clients_at_once(start: Start, tmp_path: Path) -> None:
    events: list[Event] = []
    server = start(on_event=events.append)
    with client_of(server) as first, client_of(server, source="127.83.2.3") as second:
        for client in first, second:
            client.sr1(HERALD, timeout=PATIENCE)
        assert first.data_port != second.data_port
        for message in (*DATA, KDH, FINISHED):
            for client in first, second:
                assert client.sr1(message, timeout=PATIENCE)
    server.stop()
    for host in CLIENT, "127.83.2.3":
        assert (tmp_path / f"vmcore.{host}.0").read_bytes() == MEMORY


def test_acks_to_the_port_of_a_message(start: Start, tmp_path: Path) -> None:
    server = start(ack_port=None)
    with client_of(server, sport=0) as first, client_of(server, sport=0) as second:
        send_dump(first)
        send_dump(second)
    server.stop()
    assert (tmp_path / f"vmcore.{CLIENT}.1").read_bytes() == MEMORY


def test_acks_to_the_usual_port_of_a_client_that_sends_from_another(start: Start) -> None:
    server = start()
    with client_of(server) as usual, client_of(server, sport=0) as other:
        other.send(HERALD)
        (ack,) = usual.ins.recvfrom(100)[0:1]
        assert ack == bytes(NetdumpAck(seqno=1))


def test_ipv6(start: Start, tmp_path: Path) -> None:
    try:
        server = start(address="::1", ack_port=None)
    except NetdumpError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with NetdumpSocket("::1", port=server.end[1], sport=0) as client:
        send_dump(client)
    server.stop()
    (vmcore,) = (p for p in tmp_path.glob("vmcore*") if not p.is_symlink())
    assert vmcore.read_bytes() == MEMORY


SERVE_FRAMES = """
import sys, threading
from scapy_netdump import netdumpd
server = netdumpd(sys.argv[1], iface="cable", bg=True, verbose=0)
print(*server.end, flush=True)
threading.Event().wait()
"""

SEND_DUMP = f"""
from scapy_netdump import *
with NetdumpSocket("{RIGHT}") as client:
    assert client.sr1(Netdump(seqno=1), timeout=10, verbose=0)
    data = [Netdump(seqno=n, offset=(n - 2) * 1000) / bytes([n] * 1000) for n in range(2, 42)]
    print(len(client.sr(data, timeout=0.5, retry=20, verbose=0)[1]), client.data_port >= 49152)
    print(client.sr1(Netdump(type=2, seqno=99), timeout=10, verbose=0).summary())
"""


@pytest.mark.root
def test_frames_of_an_interface(cable: tuple[Namespace, Namespace], tmp_path: Path) -> None:
    left, right = cable
    with right.background(sys.executable, "-c", SERVE_FRAMES, str(tmp_path)):
        assert left.python(SEND_DUMP) == "0 True\nnetdump ack seqno=99\n"
        deadline = time.monotonic() + PATIENCE
        while not (tmp_path / f"vmcore.{LEFT}.0").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
    expected = b"".join(bytes([n] * 1000) for n in range(2, 42))
    assert (tmp_path / f"vmcore.{LEFT}.0").read_bytes() == expected


def test_an_interface_that_is_not_there_is_explained(tmp_path: Path) -> None:
    with pytest.raises(NetdumpError, match=r"^nosuch0: .*frames need root and an interface"):
        netdumpd(tmp_path, iface="nosuch0", bg=True)


def test_heralds_at_a_data_port_begin_nothing(start: Start, tmp_path: Path) -> None:
    server = start()
    with client_of(server) as client:
        client.sr1(HERALD, timeout=PATIENCE)
        again = IP(src=CLIENT, dst=SERVER) / UDP(sport=20024, dport=client.data_port) / HERALD
        assert server.machine.make_reply(again) is None
    assert not list(tmp_path.glob("info*"))


def test_it_prints_what_it_is_asked_and_answers(
    start: Start, capsys: pytest.CaptureFixture[str]
) -> None:
    server = start(verbose=1)
    with client_of(server) as client:
        client.sr1(HERALD / NetdumpHerald(path="a\nb"), timeout=PATIENCE)
        first, port = server.end[1], client.data_port
        client.sr1(DATA[0], timeout=PATIENCE)
    server.stop()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"IP / UDP {CLIENT}:20024 > {SERVER}:{first} / netdump HERALD")
    assert f" ==> IP / UDP {SERVER}:{port} > {CLIENT}:20024 / netdump ack seqno=1" in lines[0]
    assert f"{SERVER}:{port} / netdump VMCORE seqno=2" in lines[1]
    assert lines[2].startswith(f"{CLIENT}: Dump not known to be complete: server was stopped")
    assert len(lines) == 3


class LosesEverySecondAck(Netdump_am):
    """A server that can be wrong on purpose."""

    def make_reply(self, req: Packet) -> Any:
        reply = super().make_reply(req)
        return reply if req[Netdump].seqno % 2 else None


def test_a_class_of_ones_own_answers_otherwise(tmp_path: Path) -> None:
    machine = LosesEverySecondAck(directory=tmp_path, address=SERVER, port=0, verbose=0)
    server: Any = machine.bg()
    with client_of(server) as client:
        client.sr1(HERALD, timeout=PATIENCE)
        answered, _ = client.sr(DATA, timeout=0.5)
        assert [sent.seqno for sent, _ in answered] == [3, 5, 7, 9]
    server.stop()
    assert (tmp_path / f"vmcore.{CLIENT}.0").read_bytes() == MEMORY


@given(datagrams=st.lists(st.binary(max_size=80) | st.just(bytes(HERALD)), max_size=20))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_datagrams_do_no_harm(start: Start, tmp_path: Path, datagrams: list[bytes]) -> None:
    events: list[Event] = []
    server = start(on_event=events.append)
    with client_of(server) as client:
        for datagram in datagrams:
            client.send(datagram)
        assert client.sr1(HERALD, timeout=PATIENCE)
        for datagram in datagrams:
            client.ins.sendto(datagram, (SERVER, client.data_port))
        assert client.sr1(DATA[0], timeout=PATIENCE)
    server.stop()
    assert wait_for(events, Started).client == CLIENT


def test_a_directory_that_is_not_there_is_explained(tmp_path: Path) -> None:
    with pytest.raises(NetdumpError, match="nothing-here"):
        netdumpd(tmp_path / "nothing-here", address=SERVER, port=0, bg=True)


def test_a_taken_port_is_explained(start: Start) -> None:
    port = start().end[1]
    with pytest.raises(NetdumpError, match=rf"{SERVER} port {port}: cannot listen"):
        start(port=port)


def test_an_unknown_option_is_an_error(start: Start) -> None:
    with pytest.raises(TypeError, match="nonsense"):
        start(nonsense=1)


def test_in_the_foreground_until_interrupted(tmp_path: Path) -> None:
    code = f"""
from scapy_netdump import netdumpd
print("ready", flush=True)
netdumpd({str(tmp_path)!r}, address={SERVER!r}, port=20083)
print("after")
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        running.stdout.readline()
        with NetdumpSocket(SERVER, port=20083, source=CLIENT) as client:
            assert client.sr1(HERALD, timeout=0.2, retry=100)
            assert client.sr1(DATA[0], timeout=PATIENCE)
        os.kill(running.pid, signal.SIGINT)
        shown, _ = running.communicate(timeout=60)
    assert running.returncode == 0
    assert "netdump HERALD" in shown
    assert shown.endswith("after\n")
    assert (tmp_path / f"vmcore.{CLIENT}.0").exists()
