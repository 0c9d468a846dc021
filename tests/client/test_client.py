# SPDX-License-Identifier: GPL-2.0-or-later
"""`send_dump` to a real server over real sockets, and how it ends when there is none."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from helpers.serving import Serving
from helpers.traffic import header

from scapy_netdump import send_dump
from scapy_netdump.client.prepare import prepared
from scapy_netdump.client.send import SendError, Sending, SendResult, send
from scapy_netdump.core.sending.faults import Rates
from scapy_netdump.core.sending.sender import Counters, Patience
from scapy_netdump.formats import ACK_PORT, HERALD_PORT
from scapy_netdump.net.udp_client import UdpTransport
from scapy_netdump.net.wrapped import TracedTransport
from scapy_netdump.wire import ack, messages

CLIENT = "127.67.76.1"  # C, L
SERVER = "127.67.76.2"
NOBODY = "127.67.76.3"
VMCORE = Random(1).randbytes(3_000_001)
StartFading = Callable[[str, int], object]
SHORT = Patience(polls=100, retries=2)


@pytest.fixture
def vmcore(tmp_path: Path) -> Path:
    path = tmp_path / "vmcore.0"
    path.write_bytes(VMCORE)
    return path


@pytest.fixture
def crash(tmp_path: Path) -> Path:
    path = tmp_path / "crash"
    path.mkdir()
    return path


@pytest.fixture
def serving(crash: Path) -> Iterator[Serving]:
    """A server at the ports that the protocol knows."""
    options = ("--port", HERALD_PORT, "--ack-port", ACK_PORT)
    with Serving(crash, *options, address=SERVER) as started:
        yield started


def filed(serving: Serving) -> tuple[dict[str, Any], bytes]:
    """How the dump ended for the server, and its vmcore."""
    ended = serving.wait_for("ended")
    return ended, Path(ended["files"]["vmcore"]).read_bytes()


@pytest.mark.parametrize("kernel", [False, True])
def test_a_dump_arrives(serving: Serving, vmcore: Path, kernel: bool) -> None:
    result = send_dump(str(vmcore), SERVER, client=CLIENT, sending=Sending(kernel=kernel))
    ended, received = filed(serving)
    assert received == VMCORE
    assert ended["reason"] == "success"
    assert result.finished
    assert result.bytes == result.acknowledged == len(VMCORE)
    if not kernel:  # whose chunks each end with a shorter message
        assert result.messages == -(-len(VMCORE) // 1448) + len(("HERALD", "KDH", "FINISHED"))
    assert result.seconds > 0
    assert (result.round_trip > 0) == (not kernel)


@pytest.mark.parametrize("kernel", [False, True])
def test_it_arrives_over_a_bad_network(serving: Serving, vmcore: Path, kernel: bool) -> None:
    sending = Sending(
        kernel=kernel,
        faults=Rates(loss=0.05, reorder=0.05, duplicate=0.02, corrupt=0.02),
        patience=Patience(polls=100, retries=100),
        seed=3,
    )
    result = send_dump(str(vmcore), SERVER, client=CLIENT, sending=sending)
    ended, received = filed(serving)
    assert received == VMCORE
    assert ended["complete"]
    assert result.dropped > 50
    assert result.retransmissions >= result.dropped


@pytest.mark.parametrize("kernel", [False, True])
def test_it_arrives_when_every_datagram_is_held_back(
    serving: Serving, tmp_path: Path, kernel: bool
) -> None:
    small = tmp_path / "small"
    small.write_bytes(VMCORE[:100_000])
    sending = Sending(kernel=kernel, faults=Rates(reorder=1.0))
    assert send_dump(str(small), SERVER, client=CLIENT, sending=sending).finished
    assert filed(serving)[1] == VMCORE[:100_000]


def test_the_path_and_jumbo_messages(serving: Serving, crash: Path, vmcore: Path) -> None:
    (crash / "lab").mkdir()
    sending = Sending(path="lab")
    result = send_dump(str(vmcore), SERVER, client=CLIENT, mtu=65_535, sending=sending)
    ended, received = filed(serving)
    assert received == VMCORE
    assert Path(ended["files"]["vmcore"]).parent == crash / "lab"
    assert result.messages == -(-len(VMCORE) // 65_483) + 3


@pytest.mark.parametrize("address", ["::1", "127.0.0.1"])
def test_a_server_that_answers_the_source_port(crash: Path, vmcore: Path, address: str) -> None:
    with Serving(crash, address=address) as serving:
        assert send_dump(str(vmcore), address, port=serving.port, client_port=0).finished
        assert filed(serving)[1] == VMCORE


def test_progress_is_told(serving: Serving, vmcore: Path) -> None:
    told: list[tuple[int, int, float]] = []

    def progress(counters: Counters, size: int, seconds: float) -> None:
        told.append((counters.acknowledged, size, seconds))

    send_dump(str(vmcore), SERVER, client=CLIENT, progress=progress)
    assert told == sorted(told)
    assert {size for _, size, _ in told} == {len(VMCORE)}
    assert told[-1][0] == len(VMCORE)
    assert len({done for done, _, _ in told}) > 5


class Fading(threading.Thread):
    """A server that acks so many messages and falls silent; with 0 it is silent from the start."""

    def __init__(self, address: str, count: int) -> None:
        super().__init__(daemon=True)
        self._count = count
        self._heralds = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._heralds.bind((address, HERALD_PORT))
        self._data = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._data.bind((address, 0))
        self.start()

    def run(self) -> None:
        if self._count:
            datagram, client = self._heralds.recvfrom(1 << 16)
            self._data.sendto(ack(messages(datagram)[0].seqno), client)
        for _ in range(self._count - 1):
            datagram, client = self._data.recvfrom(1 << 16)
            self._data.sendto(ack(messages(datagram)[0].seqno), client)

    def close(self) -> None:
        if self._count:
            self.join()
        self._heralds.close()
        self._data.close()


@pytest.fixture
def fading() -> Iterator[StartFading]:
    """Starts such servers."""
    with ExitStack() as started:
        yield lambda address, count: started.callback(Fading(address, count).close)


def ending(
    vmcore: Path, server: str | tuple[str, int], client: str, kernel: bool = False
) -> tuple[str, SendResult]:
    sending = Sending(patience=SHORT, kernel=kernel)
    with pytest.raises(SendError) as error:
        send_dump(str(vmcore), server, client=client, sending=sending)
    assert "\n" not in str(error.value)
    return str(error.value), error.value.result


@pytest.mark.parametrize("kernel", [False, True])
def test_no_answer_to_the_herald(fading: StartFading, vmcore: Path, kernel: bool) -> None:
    number = 10 + kernel
    fading(f"127.67.76.{number}", 0)
    told, result = ending(vmcore, f"127.67.76.{number}", CLIENT, kernel)
    assert told.startswith(f"no answer to the HERALD from 127.67.76.{number}")
    assert "check the address" in told
    assert not result.finished
    assert (result.acknowledged, result.bytes) == (0, len(VMCORE))


@pytest.mark.parametrize("kernel", [False, True])
def test_nobody_listens(vmcore: Path, kernel: bool) -> None:
    for server, port in ((NOBODY, 20023), ((NOBODY, 20099), 20099)):
        told, _ = ending(vmcore, server, CLIENT, kernel)
        assert told.startswith(f"the HERALD came to no server at {NOBODY}, UDP port {port}: ")
        assert "Connection refused; start one there" in told


@pytest.mark.parametrize("kernel", [False, True])
def test_a_server_that_falls_silent(fading: StartFading, vmcore: Path, kernel: bool) -> None:
    number = 12 + kernel
    fading(f"127.67.76.{number}", 11)
    told, result = ending(vmcore, f"127.67.76.{number}", CLIENT, kernel)
    assert told.startswith("gave up at byte 14480 of the VMCORE messages: ")
    assert not result.finished
    assert result.acknowledged < result.bytes


def test_a_server_that_does_not_confirm_the_end(fading: StartFading, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(bytes(100))
    fading("127.67.76.14", 3)  # HERALD, VMCORE, KDH
    told, result = ending(small, "127.67.76.14", CLIENT)
    assert "did not confirm the end" in told
    assert result.acknowledged == result.bytes == 100


class Shrinking:
    """A dump whose file becomes shorter while it is read."""

    key = b""
    kdh = header(100_000)
    size = 100_000

    def read(self, offset: int, size: int) -> bytes:
        return bytes(max(0, min(size, 50_000 - offset)))


def test_a_file_that_becomes_shorter_is_told(serving: Serving) -> None:
    dump: Any = Shrinking()
    transport = UdpTransport(SERVER, CLIENT)
    with closing(transport), pytest.raises(SendError, match="the file became shorter"):
        send(dump, transport)
    assert filed(serving)[0]["reason"] == "incomplete"


def test_the_traced_transport_tells_what_passes(serving: Serving, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(bytes(3000))
    told: list[str] = []
    with prepared(str(small)) as dump, closing(UdpTransport(SERVER, CLIENT)) as plain:
        send(dump, TracedTransport(plain, told.append))
    sent: Sequence[str] = [line for line in told if line.startswith("to port")]
    assert sent[0] == "to port 20023: 1 HERALD message, number 1 to 1, 0 bytes"
    assert "3 VMCORE messages, number 2 to 4, from byte 0, 3000 bytes" in sent[1]
    assert any(line.startswith("from port") and "acks 1" in line for line in told)
