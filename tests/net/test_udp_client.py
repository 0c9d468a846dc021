# SPDX-License-Identifier: GPL-2.0-or-later
"""The client's socket: where it sends from, whom it listens to, and what it makes of ICMP."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator

import pytest
from helpers.icmp import Forger, too_big

from scapy_netdump.errors import UsageError
from scapy_netdump.formats import ACK_PORT
from scapy_netdump.net.transport import TransportError
from scapy_netdump.net.udp_client import UdpTransport

CLIENT = "127.85.67.1"  # U, C
SERVER = "127.85.67.2"
OTHER = "127.85.67.3"
PATIENCE = 10.0


def bound(address: str, family: int = socket.AF_INET) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_DGRAM)
    opened.bind((address, 0))
    opened.settimeout(PATIENCE)
    return opened


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with bound(SERVER) as opened:
        yield opened


@pytest.fixture
def transport() -> Iterator[UdpTransport]:
    opened = UdpTransport(SERVER, CLIENT)
    yield opened
    opened.close()


def received(transport: UdpTransport) -> list[tuple[bytes, int]]:
    """The first that comes, however long it takes."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := transport.receive(1.0):
            return found
    raise AssertionError("nothing came")


def test_it_sends_from_port_20024(transport: UdpTransport, server: socket.socket) -> None:
    transport.send(b"abcdef", 4, server.getsockname()[1])
    assert [server.recvfrom(100) for _ in range(2)] == [
        (b"abcd", (CLIENT, ACK_PORT)), (b"ef", (CLIENT, ACK_PORT)),
    ]  # fmt: skip


def test_port_0_is_any_port(server: socket.socket) -> None:
    transport = UdpTransport(SERVER, CLIENT, port=0)
    transport.send(b"x", 1, server.getsockname()[1])
    assert server.recvfrom(100)[1] == (CLIENT, transport.port)
    assert transport.port not in (0, ACK_PORT)
    transport.close()


def test_a_port_that_is_taken_is_told_in_one_line(transport: UdpTransport) -> None:
    with pytest.raises(TransportError, match=r"^UDP port 20024 is taken.*--port 0.*$") as error:
        UdpTransport(SERVER, CLIENT)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("server", "client", "message"),
    [
        ("no-such-host.invalid", None, "no-such-host.invalid: "),
        ("", None, "not a host name|: "),
        ("x" * 300, None, "x: "),
        (SERVER, "192.0.2.77", "cannot send from 192.0.2.77, port 0: Cannot assign"),
        (SERVER, "::1", "::1: "),
    ],
)
def test_what_is_no_way_to_the_server_is_told(
    server: str, client: str | None, message: str
) -> None:
    with pytest.raises(TransportError, match=message):
        UdpTransport(server, client, port=0).close()


def test_an_answer_may_come_from_any_port_of_the_server(transport: UdpTransport) -> None:
    with bound(SERVER) as one, bound(SERVER) as other:
        ports = [end.getsockname()[1] for end in (one, other)]
        for number, end in enumerate((one, other)):
            end.sendto(bytes([0, 0, 0, number]), (CLIENT, ACK_PORT))
        found = received(transport)
        while len(found) < 2:
            found += received(transport)
        assert found == [(b"\0\0\0\0", ports[0]), (b"\0\0\0\1", ports[1])]


def test_what_comes_from_elsewhere_is_dropped(
    transport: UdpTransport, server: socket.socket
) -> None:
    with bound(OTHER) as other:
        for _ in range(100):
            other.sendto(b"\0\0\0\1", (CLIENT, ACK_PORT))
    server.sendto(b"\0\0\0\2", (CLIENT, ACK_PORT))
    assert received(transport) == [(b"\0\0\0\2", server.getsockname()[1])]


def test_many_acks_come_in_few_payloads(transport: UdpTransport, server: socket.socket) -> None:
    for number in range(50):
        server.sendto(number.to_bytes(4, "big"), (CLIENT, ACK_PORT))
    data = b""
    while len(data) < 200:
        data += b"".join(payload for payload, _ in received(transport))
    assert data == b"".join(number.to_bytes(4, "big") for number in range(50))


def test_nothing_comes_within_the_time(transport: UdpTransport) -> None:
    assert transport.receive(0) == []
    began = time.monotonic()
    assert transport.receive(0.05) == []
    assert time.monotonic() - began >= 0.04


def test_an_icmp_error_ends_nothing_and_is_remembered(transport: UdpTransport) -> None:
    with bound(SERVER) as server:
        gone = server.getsockname()[1]
    assert transport.trouble == ""
    for _ in range(20):
        transport.send(bytes(10_000), 1000, gone)
        transport.receive(0.01)
    if sys.platform == "linux":
        assert transport.trouble == "Connection refused"
    began = time.monotonic()
    assert transport.receive(0.2) == []
    assert transport.receive(0.2) == []
    assert time.monotonic() - began > 0.1  # the errors are not told again and again
    with bound(SERVER) as server:
        transport.send(b"hello", 5, server.getsockname()[1])
        assert server.recv(100) == b"hello"
        server.sendto(b"\0\0\0\3", (CLIENT, ACK_PORT))
        assert received(transport)[0][0] == b"\0\0\0\3"


@pytest.mark.parametrize("mtu", [-1, 0, 99, 65_536])
def test_an_mtu_that_is_none_is_told(mtu: int) -> None:
    with pytest.raises(UsageError, match=f"{mtu}: not an MTU; 100 to 65535"):
        UdpTransport(SERVER, port=0, mtu=mtu)


@pytest.mark.parametrize("family", ["127.85.67.2", "::1"])
def test_the_largest_messages_are_sent_in_fragments(family: str) -> None:
    transport = UdpTransport(family, family, port=0, mtu=65_535)
    with bound(family, socket.AF_INET6 if ":" in family else socket.AF_INET) as server:
        size = transport.mtu_payload + 24
        transport.send(bytes(2 * size), size, server.getsockname()[1])
        assert [arrived(server)[0] for _ in range(2)] == [size, size]
    transport.close()


def test_a_socket_that_is_no_more_is_an_error(transport: UdpTransport) -> None:
    gone = UdpTransport(SERVER, CLIENT, port=0)
    gone.close()
    with pytest.raises(TransportError, match=f"cannot send to {SERVER}: Bad file descriptor"):
        gone.send(b"x", 1, 9)


# include/uapi/linux/in.h and in6.h: IP_RECVFRAGSIZE, IPV6_RECVFRAGSIZE
FRAGMENT_SIZE = {socket.AF_INET: (0, 25), socket.AF_INET6: (41, 77)}


def arrived(server: socket.socket) -> tuple[int, bool]:
    """The size of the next datagram, and whether it came in fragments."""
    level, told = FRAGMENT_SIZE[server.family]
    server.setsockopt(level, told, 1)
    data, control, _, _ = server.recvmsg(1 << 16, 100)
    return len(data), any(kind == told for _, kind, _ in control)


@pytest.fixture
def forger() -> Iterator[Forger]:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs root on Linux")
    forger = Forger((CLIENT, ACK_PORT), SERVER)
    yield forger
    forger.close()


@pytest.mark.root
@pytest.mark.parametrize(
    ("kind", "code", "mtu"),
    [*((3, code, 0) for code in range(16)), (3, 4, 68), (3, 4, 1400), (11, 0, 0), (12, 0, 0)],
)
def test_no_icmp_error_ends_or_shrinks_anything(
    transport: UdpTransport, server: socket.socket, forger: Forger, kind: int, code: int, mtu: int
) -> None:
    """What RFC 792 and RFC 1812 have; each comes before a burst, and again behind it."""
    port = server.getsockname()[1]
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    for _ in range(3):
        forger.send(port, kind, code, mtu)
        transport.send(bytes(40 * 1472), 1472, port)
        assert [arrived(server) for _ in range(40)] == [(1472, False)] * 40
        forger.send(port, kind, code, mtu)
        transport.receive(0.001)
    assert transport.trouble
    server.sendto(b"\0\0\0\1", (CLIENT, ACK_PORT))
    assert received(transport)[0][0] == b"\0\0\0\1"


@pytest.mark.root
@pytest.mark.parametrize("mtu", [0, 68, 1280, 1400])
def test_packet_too_big_ends_and_slows_nothing_with_ipv6(mtu: int) -> None:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs root on Linux")
    transport = UdpTransport("::1", "::1", port=0)
    icmp = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    with bound("::1", socket.AF_INET6) as server, icmp:
        port = server.getsockname()[1]
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        for _ in range(3):
            icmp.sendto(too_big(("::1", transport.port), ("::1", port), mtu), ("::1", 0))
            transport.send(bytes(40 * 1452), 1452, port)
            assert [arrived(server) for _ in range(40)] == [(1452, False)] * 40
    assert not transport.trouble
    transport.close()


@pytest.mark.parametrize(
    ("server", "mtu", "payload"),
    [
        (SERVER, None, 1448), (SERVER, 1500, 1448), (SERVER, 9000, 8948), (SERVER, 65_535, 65_483),
        ("::1", None, 1208), ("::1", 1500, 1428),
    ],
)  # fmt: skip
def test_payloads_fit_the_mtu(server: str, mtu: int | None, payload: int) -> None:
    transport = UdpTransport(server, port=0, mtu=mtu)
    assert transport.mtu_payload == payload
    transport.close()


def test_ipv6() -> None:
    transport = UdpTransport("::1", "::1", port=0)
    with bound("::1", socket.AF_INET6) as server:
        transport.send(b"abcdef", 3, server.getsockname()[1])
        assert [server.recv(10) for _ in range(2)] == [b"abc", b"def"]
        server.sendto(b"\0\0\0\1", ("::1", transport.port))
        assert received(transport) == [(b"\0\0\0\1", server.getsockname()[1])]
    transport.close()
