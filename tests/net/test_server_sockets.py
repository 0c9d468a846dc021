# SPDX-License-Identifier: GPL-2.0-or-later
"""The sockets of a server by themselves: bursts, what they do not hear, and errors they bear."""

from __future__ import annotations

import select
import socket
import sys
import time
from collections.abc import Iterator

import pytest
from helpers.receiving import PATIENCE, Client

from scapy_netdump import wire
from scapy_netdump.net.listening import SharedPort
from scapy_netdump.net.server_sockets import DataSocket, Poller
from scapy_netdump.net.udp import MAX_DATAGRAM, SOL_UDP, ReceiveBuffer

needs_joining = pytest.mark.skipif(sys.platform != "linux", reason="UDP_GRO")

SERVER, CLIENT, STRANGER = "127.73.0.1", "127.73.1.1", "127.73.2.1"


def data_socket(coalescing: bool = True, port: int = 0) -> DataSocket:
    end = SERVER, port
    return DataSocket(end, (CLIENT, 20024), buffer=1 << 20, coalescing=coalescing)


@pytest.fixture
def buffer() -> ReceiveBuffer:
    return ReceiveBuffer(1 << 18)


@pytest.fixture
def server() -> Iterator[DataSocket]:
    opened = data_socket()
    yield opened
    opened.close()


@pytest.fixture(params=["0.0.0.0", SERVER])
def shared(request) -> Iterator[SharedPort]:
    opened = SharedPort(request.param, coalescing=True)
    yield opened
    opened.close()


def wait_for(opened: DataSocket | SharedPort) -> None:
    assert select.select([opened.fileno()], [], [], PATIENCE)[0]


def test_datagrams_of_a_burst_lie_end_to_end(server, buffer):
    with Client(CLIENT) as client:
        for size in (10, 0, 3000):
            client.socket.sendto(bytes([size % 251]) * size, server.local)
        wait_for(server)
        assert server.receive(buffer) == [10, 0, 3000]
    assert bytes(buffer.view[:3010]) == b"\n" * 10 + bytes([3000 % 251]) * 3000
    assert server.receive(buffer) == []


def test_nothing_is_cut_off_when_the_buffer_fills(server):
    buffer = ReceiveBuffer(MAX_DATAGRAM + 1000)
    sizes = []
    with Client(CLIENT) as client:
        for _ in range(3):
            client.socket.sendto(bytes(60_000), server.local)
    for _ in range(3):
        wait_for(server)
        sizes.append(server.receive(buffer))
    assert sizes == [[60_000]] * 3


def test_only_the_client_is_heard(server, buffer):
    with Client(STRANGER) as stranger, Client(CLIENT) as client:
        for sender in (stranger, client, stranger, client):
            sender.socket.sendto(b"from" + sender.socket.getsockname()[0].encode(), server.local)
        wait_for(server)
        sizes = server.receive(buffer)
    assert len(sizes) == 2
    assert STRANGER.encode() not in bytes(buffer.view[: sum(sizes)])


def test_a_burst_does_not_go_on_for_ever(server, buffer):
    with Client(CLIENT) as client:
        for _ in range(200):
            client.socket.sendto(b"x", server.local)
        wait_for(server)
        assert len(server.receive(buffer)) <= DataSocket.MOST


def test_a_client_that_sends_one_at_a_time_is_found_out_when_it_no_longer_does(server, buffer):
    with Client(CLIENT) as client:
        for _ in range(100):
            client.socket.sendto(b"x", server.local)
            wait_for(server)
            assert server.receive(buffer) == [1]
        for _ in range(300):
            client.socket.sendto(b"x", server.local)
        taken = []
        while sum(taken) < 300:
            wait_for(server)
            taken.append(len(server.receive(buffer)))
    assert max(taken) == DataSocket.MOST


@pytest.mark.parametrize("coalescing", [True, False])
@pytest.mark.parametrize("count", [1, 2, 64, 65, 150])
def test_each_ack_arrives_as_a_datagram_of_its_own(coalescing, count):
    opened = data_socket(coalescing=coalescing)
    with Client(CLIENT) as client:
        for _ in range(2):
            opened.send(b"".join(map(wire.ack, range(count))))
            assert [client.hear() for _ in range(count)] == [*map(wire.ack, range(count))]
    opened.close()


def test_an_icmp_error_costs_no_ack(server):
    server.send(wire.ack(1))  # nobody is there: the next send is told of it
    with Client(CLIENT) as client:
        server.send(wire.ack(2))
        assert client.hear() == wire.ack(2)


def test_of_what_came_before_the_socket_was_connected_the_clients_is_heard(buffer, monkeypatch):
    """Between bind and connect anyone may send, and the system keeps it."""
    with Client(STRANGER) as stranger, Client(CLIENT) as client:
        connect = socket.socket.connect

        def late(sock, address):
            for sender, data in ((stranger, b"evil"), (client, b"good"), (client, b"data")):
                sender.socket.sendto(data, sock.getsockname())
            connect(sock, address)

        class Slow(socket.socket):
            connect = late

        monkeypatch.setattr(socket, "socket", Slow)
        opened = data_socket()
        assert opened.receive(buffer) == [4]
        assert bytes(buffer.view[:4]) == b"good"
        assert opened.receive(buffer) == [4]
        assert bytes(buffer.view[:4]) == b"data"
        assert opened.receive(buffer) == []
        assert opened.strangers == [(b"evil", (STRANGER, 20024))]  # to go on where it was to go
        opened.close()


def test_a_shared_port_says_who_sent_to_which_address(shared, buffer):
    with Client(CLIENT) as client, Client(STRANGER) as stranger:
        client.socket.sendto(b"one", (SERVER, shared.port))
        stranger.socket.sendto(b"three", (SERVER, shared.port))
        for sender, data in ((CLIENT, b"one"), (STRANGER, b"three")):
            wait_for(shared)
            arrival = shared.receive(buffer.view)
            assert arrival == ((sender, 20024), SERVER, len(data), [len(data)])
            assert bytes(buffer.view[: arrival.end]) == data
        assert shared.receive(buffer.view) is None
        shared.send(wire.ack(1) + wire.ack(2), SERVER, (CLIENT, 20024))
        assert [client.hear(), client.hear()] == [wire.ack(1), wire.ack(2)]
        assert client.heard_from == (SERVER, shared.port)


def test_a_dump_goes_on_at_its_port_on_a_socket_of_its_own(shared, buffer):
    opened = data_socket(port=shared.port)
    with Client(CLIENT) as client, Client(STRANGER) as stranger:
        for sender in (client, stranger) * 20:
            sender.socket.sendto(sender.socket.getsockname()[0].encode(), opened.local)
        wait_for(opened)
        sizes = []
        while taken := opened.receive(buffer):
            assert STRANGER.encode() not in bytes(buffer.view[: sum(taken)])
            sizes += taken
        assert len(sizes) == 20
        assert [shared.receive(buffer.view).sender[0] for _ in range(20)] == [STRANGER] * 20
    opened.close()


def test_no_two_shared_ports_are_one():
    """The system takes any port that is shared already for free, if the next one is shared too."""
    opened = [SharedPort(SERVER, coalescing=False) for _ in range(400)]
    assert len({port.port for port in opened}) == 400
    for port in opened:
        port.close()


@needs_joining
@pytest.mark.parametrize("together", [1, 12])
def test_datagrams_that_the_system_joined_have_their_own_sizes(shared, together):
    """udp(7): UDP_SEGMENT at the sender, UDP_GRO here; on the way they stay one."""
    buffer = ReceiveBuffer()
    opened = data_socket()
    with Client(CLIENT) as client:
        for _ in range(20):  # by now many are expected at a time, which are alone
            client.socket.sendto(bytes(1000), opened.local)
        wait_for(opened)
        assert len(opened.receive(buffer)) == 20
        client.socket.setsockopt(SOL_UDP, 103, 1000)
        for _ in range(together):
            client.socket.sendto(bytes(4300), opened.local)
        client.socket.sendto(bytes(2000), (SERVER, shared.port))
        wait_for(opened)
        assert opened.receive(buffer) == [1000, 1000, 1000, 1000, 300] * together
        wait_for(shared)
        assert shared.receive(buffer.view).sizes == [1000, 1000]
    opened.close()


@pytest.mark.parametrize("sizes", [[700] * 20, [700] * 19 + [9], [700, 9, 60_000, 0, 700] * 4])
def test_what_is_taken_in_one_call_lies_end_to_end_whatever_its_size(sizes):
    """After a turn that brought many of one size, the next are taken in one call."""
    buffer = ReceiveBuffer()
    opened = data_socket(coalescing=False)
    with Client(CLIENT) as client:
        for turn in ([700] * 20, sizes, sizes, [5]):
            sent = [bytes([number]) * size for number, size in enumerate(turn)]
            for data in sent:
                client.socket.sendto(data, opened.local)
            taken, came = [], b""
            while len(taken) < len(turn):
                wait_for(opened)
                sizes_now = opened.receive(buffer)
                taken += sizes_now
                came += bytes(buffer.view[: sum(sizes_now)])
            assert taken == turn
            assert came == b"".join(sent)
    opened.close()


def test_a_poller_tells_who_has_something():
    poller = Poller()
    opened = data_socket()
    poller.add(opened.fileno())
    assert poller.wait(0.0) == []
    with Client(CLIENT) as client:
        client.socket.sendto(b"x", opened.local)
        assert [found for found, _ in poller.wait(PATIENCE)] == [opened.fileno()]
    poller.remove(opened.fileno())
    assert poller.wait(0.0) == []
    opened.close()
    poller.close()


def test_a_poller_sleeps_when_nothing_comes():
    poller = Poller()
    opened = data_socket()
    poller.add(opened.fileno())
    with Client(CLIENT) as client:
        for _ in range(200):  # by now it looks out for what comes next
            client.socket.sendto(b"x", opened.local)
            assert poller.wait(PATIENCE)
            opened.receive(ReceiveBuffer(MAX_DATAGRAM))
    began, used = time.monotonic(), time.process_time()
    while time.monotonic() - began < 0.5:
        assert poller.wait(0.02) == []
    assert time.process_time() - used < 0.25
    opened.close()
    poller.close()
