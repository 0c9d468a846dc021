# SPDX-License-Identifier: GPL-2.0-or-later
"""NetdumpSocket against a server on loopback that acks as netdumpd does."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator

import pytest
from helpers.ack_server import Server, ack_once
from scapy.all import Raw, conf

from scapy_netdump.errors import NetdumpError
from scapy_netdump.layers import KernelDumpHeader, Netdump, NetdumpAck, NetdumpHerald
from scapy_netdump.scapy_tools import NetdumpSocket

# In Scapy, the thread that sends may stop a sniffer at the moment that it ends by itself.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnhandledThreadExceptionWarning",
)

SERVER, CLIENT = "127.83.1.1", "127.83.1.2"
PATIENCE = 10
HERALD = Netdump(seqno=1) / NetdumpHerald(path="lab")
FINISHED = Netdump(type="FINISHED", seqno=2)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conf, "verb", 0)


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server(SERVER)
    started.start()
    yield started
    started.close()


@pytest.fixture
def client(server: Server) -> Iterator[NetdumpSocket]:
    with NetdumpSocket(SERVER, port=server.port, source=CLIENT) as opened:
        yield opened


def data(seqnos: range) -> list[Netdump]:
    return [Netdump(seqno=n, offset=n * 8) / Raw(struct.pack("!Q", n)) for n in seqnos]


def test_the_ack_comes_from_another_port_and_data_goes_there(server, client):
    assert client.data_port is None
    ack = client.sr1(HERALD, timeout=PATIENCE)
    assert isinstance(ack, NetdumpAck)
    assert ack.seqno == 1
    assert client.data_port not in (None, server.port)
    assert client.sr1(Netdump(seqno=2) / b"memory", timeout=PATIENCE).seqno == 2
    assert server.heard == [
        (server.port, bytes(HERALD)),
        (client.data_port, bytes(Netdump(seqno=2) / b"memory")),
    ]


def test_messages_leave_from_the_port_that_acks_go_to(client):
    assert client.sport == 20024


@pytest.mark.parametrize("threaded", [True, False])
def test_many_messages_are_matched_by_seqno(server, client, threaded):
    client.sr1(HERALD, timeout=PATIENCE)
    messages = data(range(2, 202))
    answered, unanswered = client.sr(messages, timeout=PATIENCE, threaded=threaded)
    assert not unanswered
    assert [(sent.seqno, got.seqno) for sent, got in answered] == [(n, n) for n in range(2, 202)]
    assert all(got.time >= sent.sent_time for sent, got in answered)


def test_retries_make_up_for_loss_both_ways(server, client):
    client.sr1(HERALD, timeout=PATIENCE)
    lottery = random.Random(3)
    server.answer = lambda message: [] if lottery.random() < 0.3 else ack_once(message)
    messages = data(range(2, 102))
    answered, unanswered = client.sr(messages, timeout=0.2, retry=30)
    assert not unanswered
    assert sorted(sent.seqno for sent, _ in answered) == list(range(2, 102))
    assert len(server.heard) > 101


def test_a_lost_herald_is_sent_again(server, client):
    lost = iter([True, False])
    server.answer = lambda message: [] if next(lost) else ack_once(message)
    assert client.sr1(HERALD, timeout=0.2, retry=5).seqno == 1
    assert [port for port, _ in server.heard] == [server.port] * 2


def test_no_answer_is_none_after_the_timeout(server, client):
    server.answer = lambda message: []
    assert client.sr1(HERALD, timeout=0.1) is None


def test_multi_shows_every_ack(server, client):
    server.answer = lambda message: ack_once(message) * 3
    answered, _ = client.sr(HERALD, timeout=0.3, multi=True)
    assert [got.seqno for _, got in answered] == [1, 1, 1]


def test_inter_waits_between_messages(client):
    client.sr1(HERALD, timeout=PATIENCE)
    answered, _ = client.sr(data(range(2, 5)), timeout=PATIENCE, inter=0.05)
    times = [sent.sent_time for sent, _ in answered]
    assert times[2] - times[0] >= 0.1


def test_several_acks_in_a_datagram_are_taken_apart(server, client):
    client.sr1(HERALD, timeout=PATIENCE)
    server.answer = lambda message: (
        [struct.pack("!3I", 2, 3, 4)] if ack_once(message) == [struct.pack("!I", 4)] else []
    )
    answered, unanswered = client.sr(data(range(2, 5)), timeout=PATIENCE)
    assert not unanswered
    assert all(isinstance(got, NetdumpAck) for _, got in answered)


def test_what_is_no_ack_is_shown_and_answers_nothing(server, client):
    client.sr1(HERALD, timeout=PATIENCE)
    server.answer = lambda message: [b"odd", *ack_once(message)]
    seen = []
    sniffing = client.sr(FINISHED, timeout=PATIENCE, stop_filter=lambda p: seen.append(p) or False)
    assert [got.seqno for _, got in sniffing[0]] == [2]
    assert [type(p) for p in seen] == [Raw, NetdumpAck]


def test_before_the_heralds_ack_all_goes_to_the_heralds_port(server, client):
    assert client.sr1(Netdump(seqno=5) / b"early", timeout=0.1) is None
    assert [port for port, _ in server.heard] == [server.port]


def test_a_second_herald_leads_to_a_second_port(server, client):
    client.sr1(HERALD, timeout=PATIENCE)
    first = client.data_port
    client.sr1(HERALD, timeout=PATIENCE)
    assert client.data_port != first
    client.sr1(FINISHED, timeout=PATIENCE)
    assert server.heard[-1][0] == client.data_port


def test_another_seqno_does_not_answer_the_herald(server, client):
    server.answer = lambda message: [struct.pack("!I", 9)]
    assert client.sr1(HERALD, timeout=0.2) is None
    assert client.data_port is None


def test_strangers_and_other_ports_are_not_heard(server, client):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.83.1.3", 0))
        server.answer = lambda message: []
        client.send(HERALD)
        stranger.sendto(b"\0\0\0\1", (CLIENT, 20024))
        assert client.recv() is None
    assert client.data_port is None
    client.sr1(HERALD, timeout=0.1)  # the server has heard the first by now
    server.answer = ack_once
    client.sr1(HERALD, timeout=PATIENCE)
    client.send(FINISHED)
    server.herald_socket.sendto(b"\0\0\0\2", (CLIENT, 20024))
    received = [client.recv(), client.recv()]
    assert [p.seqno for p in received if p] == [2]


def test_an_icmp_error_is_no_ack_and_ends_nothing(server, client):
    client.sr1(HERALD, timeout=PATIENCE)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind((SERVER, 0))
        closed_port = gone.getsockname()[1]
    port, client.data_port = client.data_port, closed_port
    for _ in range(3):  # each is answered by a port-unreachable
        assert client.sr1(FINISHED, timeout=0.1) is None
    client.data_port = port
    assert client.sr1(Netdump(seqno=3) / b"m", timeout=PATIENCE).seqno == 3


def test_any_source_port_for_servers_that_answer_it():
    server = Server(SERVER, ack_port=None)
    server.start()
    with NetdumpSocket(SERVER, port=server.port, sport=0, source=CLIENT) as client:
        assert client.sport not in (0, 20024)
        assert client.sr1(HERALD, timeout=PATIENCE).seqno == 1
        assert client.sr1(FINISHED, timeout=PATIENCE).seqno == 2
    server.close()


def test_ipv6():
    try:
        server = Server("::1", ack_port=None)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    server.start()
    with NetdumpSocket("::1", port=server.port, sport=0) as client:
        assert client.sr1(HERALD, timeout=PATIENCE).seqno == 1
        answered, unanswered = client.sr(data(range(2, 50)), timeout=PATIENCE)
        assert len(answered) == 48
        assert not unanswered
    server.close()


def test_a_taken_port_is_explained(client):
    with pytest.raises(NetdumpError, match=rf"{CLIENT} port 20024 is taken: .*sport=0"):
        NetdumpSocket(SERVER, source=CLIENT)


def test_an_unknown_server_is_explained():
    with pytest.raises(NetdumpError, match=r"^no-such-host\.invalid: "):
        NetdumpSocket("no-such-host.invalid", sport=0)


def test_a_foreign_source_is_explained():
    with pytest.raises(NetdumpError, match=r"192\.0\.2\.77 port 0: "):
        NetdumpSocket(SERVER, sport=0, source="192.0.2.77")


def test_the_default_source_is_what_the_system_would_choose():
    with NetdumpSocket(SERVER, sport=0) as opened:
        assert opened.ins.getsockname()[0] == "127.0.0.1"


def test_no_way_to_the_server_is_explained():
    with pytest.raises(NetdumpError, match=r"^255\.255\.255\.255: "):
        NetdumpSocket("255.255.255.255", sport=0)


def test_a_message_that_fits_no_datagram_is_explained(client):
    with pytest.raises(NetdumpError, match=rf"{SERVER} port \d+: Message too long"):
        client.send(Netdump() / Raw(bytes(65500)))


def test_the_largest_payload_passes(server, client):
    client.sr1(HERALD, timeout=PATIENCE)
    assert client.sr1(Netdump(seqno=2) / Raw(bytes(65483)), timeout=PATIENCE).seqno == 2


def test_malformed_messages_can_be_sent(server, client):
    client.send(b"runt")
    client.send(Netdump(seqno=2, len=99) / b"short")
    client.sr1(KernelDumpHeader(), timeout=0.1)
    assert [len(message) for _, message in server.heard] == [4, 29, 512]


def test_sniffing_on_the_socket(server, client):
    client.send(HERALD)
    (ack,) = client.sniff(count=1, timeout=PATIENCE)
    assert ack.seqno == 1


def test_select_knows_of_acks_that_are_still_to_be_taken(server, client):
    server.answer = lambda message: [ack_once(message)[0] * 2]
    client.send(HERALD)
    assert NetdumpSocket.select([client], PATIENCE) == [client]
    assert client.recv().seqno == 1
    with NetdumpSocket(SERVER, sport=0) as other:
        assert NetdumpSocket.select([client, other], PATIENCE) == [client]
    assert client.recv().seqno == 1
    assert NetdumpSocket.select([client], 0) == []


def test_closed_sockets_free_their_port(server):
    for _ in range(2):
        opened = NetdumpSocket(SERVER, port=server.port, source=CLIENT)
        assert opened.fileno() > 0
        opened.close()
        opened.close()
