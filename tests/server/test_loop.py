# SPDX-License-Identifier: GPL-2.0-or-later
"""The dump server on real sockets: the reference server's observed answers, and its faults.

PROTOCOL.md lists both. Clients have addresses of their own in 127.0.0.0/8, as several tests
may run at once.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from pathlib import Path
from random import Random

import pytest
from helpers.receiving import PATIENCE, QUIET, Client, MemorySinks, message, serving
from helpers.traffic import header

from scapy_netdump import wire
from scapy_netdump.core.receiving.events import (
    Ended,
    HeaderReceived,
    Listening,
    Progress,
    Started,
    Stopped,
)
from scapy_netdump.core.receiving.limits import Limits
from scapy_netdump.errors import NetdumpError
from scapy_netdump.formats import FINISHED, HERALD, KDH, VMCORE
from scapy_netdump.net.server_sockets import has_ipv6
from scapy_netdump.server import loop
from scapy_netdump.server.loop import ServerLoop

SERVER, CLIENT, STRANGER = "127.71.0.1", "127.71.1.1", "127.71.2.1"

needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc")


@pytest.fixture
def server(tmp_path):
    with serving(tmp_path, SERVER) as server:
        yield server


@pytest.fixture
def client(server):
    with Client(CLIENT) as client:
        assert client.herald(server.address)
        yield client


def stored(directory: Path, host: str = CLIENT, number: int = 0) -> bytes:
    return (directory / f"vmcore.{host}.{number}").read_bytes()


def info(directory: Path, host: str = CLIENT, number: int = 0) -> str:
    return (directory / f"info.{host}.{number}").read_text()


def wait_until(true) -> None:
    end = time.monotonic() + PATIENCE
    while not true() and time.monotonic() < end:
        time.sleep(0.01)
    assert true()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_dump_is_received_and_filed(tmp_path, server, client):
    data = os.urandom(200_000)
    client.dump(data, header(len(data)))
    (ended,) = server.told(Ended)
    assert (ended.reason, ended.client, ended.client_port) == ("success", CLIENT, 20024)
    assert stored(tmp_path) == data
    assert info(tmp_path).endswith("Dump complete\n")
    assert Path(ended.files["vmcore"]) == tmp_path / f"vmcore.{CLIENT}.0"


def test_it_says_where_it_listens_and_when_it_stops(tmp_path):
    with serving(tmp_path, SERVER) as server:
        (listening,) = server.told(Listening)
        assert (listening.address, listening.port) == server.address
        assert listening.receive_buffer >= 1 << 16
    assert isinstance(server.events[-1], Stopped)


# "Observed answers" of PROTOCOL.md


def test_the_herald_is_acked_from_a_new_port_of_the_same_address(server, client):
    assert client.server[0] == SERVER
    assert client.server[1] != server.address[1]


def test_acks_go_to_port_20024_whatever_port_the_client_sends_from(server):
    with Client(CLIENT) as listener, Client(CLIENT, 0) as sender:
        sender.socket.sendto(message(HERALD, 7), server.address)
        assert listener.hear() == wire.ack(7)
        sender.socket.sendto(message(VMCORE, 8, 0, b"data"), listener.heard_from)
        assert listener.hear() == wire.ack(8)
        assert sender.hear(QUIET) is None


def test_a_repeated_message_is_acked_again(client):
    for _ in range(3):
        assert client.tell(message(VMCORE, 9, 0, b"data")) == wire.ack(9)


@pytest.mark.parametrize(
    "datagram",
    [
        message(VMCORE, 3, 0, b"data") + b"more",
        message(VMCORE, 3, 0, b"data")[:-1],
        message(6, 3, 0, b"data"),
        message(0, 3),
        b"runt",
        b"",
        message(HERALD, 3),
    ],
    ids=["len below", "len above", "unknown type", "type 0", "runt", "empty", "HERALD"],
)
def test_on_the_data_port_this_is_not_answered_and_does_no_harm(server, client, datagram):
    assert client.say(VMCORE, 0, b"good")
    assert client.tell(datagram, QUIET) is None
    assert client.say(VMCORE, 4, b"data")
    assert client.say(FINISHED)
    assert server.told(Ended)[0].reason == "success"


@pytest.mark.parametrize("kind", [VMCORE, KDH, FINISHED, 9])
def test_on_the_herald_port_nothing_but_a_herald_is_answered(server, kind):
    with Client(CLIENT) as client:
        client.socket.sendto(message(kind, 3, 0, b"data"), server.address)
        assert client.hear(QUIET) is None
        assert client.herald(server.address)


@pytest.mark.parametrize(
    "path",
    [b"missing\0", b"/etc\0", b"../..\0", b"link\0", b"plain\0", b"lab", b"\0"],
    ids=["missing", "absolute", "escape", "link", "plain file", "no NUL", "empty"],
)
def test_a_path_that_cannot_be_leads_to_the_default_one(tmp_path, server, path):
    (tmp_path / "plain").write_text("")
    (tmp_path / "lab").mkdir()
    (tmp_path / "link").symlink_to("/")
    with Client(CLIENT) as client:
        assert client.herald(server.address, path)
        client.dump(b"data")
    server.told(Ended)
    assert stored(tmp_path) == b"data"
    assert bool(server.told(Started)[0].note) == (path != b"\0")


def test_a_path_that_is_there_is_taken(tmp_path, server):
    (tmp_path / "lab").mkdir()
    with Client(CLIENT) as client:
        assert client.herald(server.address, b"lab\0")
        client.dump(b"data")
    server.told(Ended)
    assert stored(tmp_path / "lab") == b"data"


def test_a_short_header_is_acked_and_noted_in_info(tmp_path, server, client):
    assert client.say(VMCORE, 0, b"data")
    assert client.say(KDH, 0, header(4)[:200])
    server.told(HeaderReceived)
    assert "dump header of 200 bytes" in info(tmp_path)


def test_a_long_header_is_acked_and_what_is_too_much_ignored(tmp_path, server, client):
    assert client.say(VMCORE, 0, b"data")
    assert client.say(KDH, 0, header(4) + b"extra")
    assert client.say(FINISHED)
    assert server.told(Ended)[0].reason == "success"
    assert (tmp_path / f"kdh.{CLIENT}.0").read_bytes() == header(4)


@pytest.mark.parametrize("wrong", [{"magic": b"Linux"}, {"parity": 1}])
def test_a_wrong_magic_or_parity_is_noted_and_never_refused(tmp_path, server, client, wrong):
    client.dump(b"data", header(4, **wrong))
    assert server.told(Ended)[0].verdict == "contradicted"
    assert stored(tmp_path) == b"data"
    assert "Fail" in info(tmp_path)


def test_a_herald_again_before_any_data_is_the_same_dump(server, client):
    port = client.server
    assert client.herald(server.address)
    assert client.server == port
    client.dump(b"data")
    assert len(server.told(Started)) == 1


def test_a_herald_after_data_begins_a_new_dump_and_the_old_one_counts_as_timed_out(
    tmp_path, server, client
):
    assert client.say(VMCORE, 0, b"old")
    assert client.herald(server.address)
    client.dump(b"new")
    old, new = sorted(server.told(Ended, 2), key=lambda event: event.dump)
    assert (old.reason, new.reason) == ("timeout", "success")
    assert stored(tmp_path) == b"old"
    assert stored(tmp_path, number=1) == b"new"


# The reference server's faults


def test_1_what_was_acked_is_in_the_file_at_once(tmp_path, client):
    data = os.urandom(5000)
    for offset in range(0, 5000, 1000):
        assert client.say(VMCORE, offset, data[offset : offset + 1000])
        part = tmp_path / f"vmcore.{CLIENT}.0.part"
        assert part.read_bytes() == data[: offset + 1000]


def test_2_payloads_may_have_any_size_that_udp_takes(tmp_path, server, client):
    data = os.urandom(5 * 65_483)
    client.dump(data, size=65_483)
    server.told(Ended)
    assert stored(tmp_path) == data


def test_3_after_finished_everything_is_acked_again(server, client):
    client.dump(b"data", header(4))
    server.told(Ended)
    for _ in range(3):
        assert client.say(FINISHED)
        assert client.say(KDH, 0, header(4))
    assert len(server.told(Ended)) == 1


def test_3_a_slow_disk_delays_neither_the_ack_of_finished_nor_other_clients():
    sinks = MemorySinks()
    release = threading.Event()
    with serving(sinks, SERVER) as server, Client(CLIENT) as slow, Client(STRANGER) as other:
        assert slow.herald(server.address)
        assert slow.say(VMCORE, 0, b"data")
        sinks.dumps[0].sync = lambda: release.wait(PATIENCE)
        assert slow.say(FINISHED)
        assert other.herald(server.address)
        other.dump(b"data")
        (ended,) = server.told(Ended)
        assert ended.client == STRANGER
        assert slow.say(FINISHED)
        release.set()
        assert len(server.told(Ended, 2)) == 2


@needs_linux
def test_4_heralds_take_no_descriptor_and_leave_no_file(tmp_path):
    with serving(tmp_path, SERVER) as server:
        server.told(Listening)
        before = open_files()
        for number in range(200):
            with Client(f"127.71.3.{number + 1}") as client:
                assert client.herald(server.address)
        assert open_files() == before
    assert list(tmp_path.iterdir()) == []


class SlowSinks(MemorySinks):
    """Dumps in memory, on a disk on which ``stuck`` offsets of a vmcore wait until `release`."""

    def __init__(self) -> None:
        super().__init__()
        self.stuck: set[int] = set()
        self.waiting = threading.Event()
        self.released = threading.Event()
        self.fail = self._wait

    def _wait(self, kind: int, offset: int) -> None:
        if kind == VMCORE and offset in self.stuck:
            self.waiting.set()
            assert self.released.wait(PATIENCE)


@pytest.mark.parametrize("first", [0, 1000], ids=["first bytes", "later bytes"])
def test_a_write_that_the_disk_holds_up_holds_up_nobody_else(first):
    sinks = SlowSinks()
    with serving(sinks, SERVER) as server, Client(CLIENT) as slow, Client(STRANGER) as other:
        assert slow.herald(server.address)
        for offset in range(0, first, 500):
            assert slow.say(VMCORE, offset, bytes(500))
        assert other.herald(server.address)
        assert other.say(VMCORE, 0, b"data")
        sinks.stuck = {first}
        burst = [message(VMCORE, 10 + n, first + 500 * n, bytes([n]) * 500) for n in range(3)]
        for datagram in burst:
            slow.socket.sendto(datagram, slow.server)
        assert sinks.waiting.wait(PATIENCE)
        delays = []
        for number in range(20):
            begun = time.monotonic()
            assert other.say(VMCORE, 4 + 4 * number, b"more")
            delays.append(time.monotonic() - begun)
        assert max(delays) < 1.0
        port, herald = slow.server, message(HERALD, 9)
        slow.socket.sendto(herald, server.address)
        assert slow.hear(QUIET) is None  # what it sent before is not taken yet
        sinks.released.set()
        heard = {}
        while (ack := slow.hear(QUIET)) is not None:
            heard[ack] = slow.heard_from
        assert heard[wire.ack(10)] == port
        assert heard[wire.ack(9)] != port  # another dump would go there
        for datagram in burst:  # as a client does that hears no ack
            assert slow.tell(datagram) == datagram[4:8]
        slow.seqno = 20
        assert slow.say(FINISHED)
        assert other.say(FINISHED)
        server.told(Ended, 2)
    data = bytes(first) + b"".join(bytes([n]) * 500 for n in range(3))
    assert sorted(sinks.vmcores()) == sorted([data, b"data" + b"more" * 20])


def test_a_dump_that_was_held_up_before_a_herald_is_heard_again():
    sinks = SlowSinks()
    with serving(sinks, SERVER) as server, Client(CLIENT) as client:
        assert client.herald(server.address)
        assert client.say(VMCORE, 0, bytes(1000))
        sinks.stuck = {1000}
        relay = server.server._relay
        with relay._lock:  # a moment in which it does nothing: the HERALD is the first it sees
            client.socket.sendto(message(HERALD, 9), server.address)
            client.socket.sendto(message(VMCORE, 10, 1000, b"held up"), client.server)
        assert sinks.waiting.wait(PATIENCE)
        client.socket.sendto(message(VMCORE, 11, 1007, b"behind it"), client.server)
        time.sleep(3 * QUIET)  # by now another thread runs the loop, and has seen that
        sinks.released.set()
        heard = {client.hear() for _ in range(3)}
        assert heard == {wire.ack(number) for number in (9, 10, 11)}
        assert client.say(VMCORE, 1016, b"goes on")


def test_no_herald_overtakes_data_that_was_received_and_is_not_taken(monkeypatch):
    """Of two clients at one port, while the disk holds up the first of them."""
    monkeypatch.setattr(loop, "_SLOTS", 1)
    sinks = SlowSinks()
    sinks.stuck = {5000}
    with serving(sinks, SERVER) as server, Client(CLIENT) as slow, Client(STRANGER) as other:
        assert slow.herald(server.address)
        assert other.herald(server.address)
        with server.server._relay._lock:
            slow.socket.sendto(message(HERALD, 9), server.address)
            slow.socket.sendto(message(VMCORE, 2, 5000, b"held up"), slow.server)
            other.socket.sendto(message(VMCORE, 2, 0, b"its dump"), other.server)
        assert sinks.waiting.wait(PATIENCE)
        time.sleep(3 * QUIET)
        other.socket.sendto(message(HERALD, 9), server.address)  # it began again
        assert other.hear(QUIET) is None
        sinks.released.set()
        assert [other.hear(), other.hear()] == [wire.ack(2), wire.ack(9)]


class StutteringSinks(MemorySinks):
    """Dumps in memory, on a disk that takes a moment now and then."""

    def __init__(self) -> None:
        super().__init__()
        self._random = Random(1)
        self.fail = self._wait

    def _wait(self, kind: int, offset: int) -> None:
        if self._random.random() < 0.1:
            time.sleep(self._random.random() / 20)


def test_dumps_are_what_was_sent_on_a_disk_that_stutters():
    """The loop goes from thread to thread all the time."""

    def dump(number: int) -> None:
        with Client(f"127.71.7.{number + 1}") as client:
            for data in contents[number]:
                assert client.herald(server.address)
                for start in range(0, len(data), 3000):
                    burst = [
                        message(VMCORE, start + n, start + n, data[start + n : start + n + 100])
                        for n in range(0, min(3000, len(data) - start), 100)
                    ]
                    waiting = {datagram[4:8]: datagram for datagram in burst}
                    while waiting:
                        for datagram in waiting.values():
                            client.socket.sendto(datagram, client.server)
                        while waiting and (ack := client.hear(0.3)) is not None:
                            waiting.pop(ack, None)
                client.seqno = len(data)
                assert client.say(FINISHED)
                client.seqno = 0

    contents = [[os.urandom(9000) for _ in range(3)] for _ in range(8)]
    sinks = StutteringSinks()
    with serving(sinks, SERVER) as server:
        threads = [threading.Thread(target=dump, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    sent = [data for of_client in contents for data in of_client]
    assert sorted(sinks.vmcores()) == sorted(sent)


def test_several_disks_may_be_stuck_at_once_and_a_server_stops_all_the_same():
    sinks = SlowSinks()
    sinks.stuck = {0}
    with serving(sinks, SERVER) as server:
        clients = [Client(f"127.71.6.{number + 1}") for number in range(5)]
        for number, client in enumerate(clients):
            assert client.herald(server.address)
            client.socket.sendto(message(VMCORE, 2, 0, b"data"), client.server)
            wait_until(lambda number=number: len(sinks.dumps) == number + 1)
        with Client(STRANGER) as other:
            assert other.herald(server.address)
            assert other.say(VMCORE, 4, b"data")
        server.server.stop()
        time.sleep(0.1)
        sinks.released.set()
        assert len(server.told(Ended, 6)) == 6
        for client in clients:
            client.socket.close()
    assert sorted(sinks.vmcores()) == [b"\0\0\0\0data"] + [b"data"] * 5


def test_one_bad_message_among_joined_ones_costs_itself_alone(tmp_path, server, client):
    sent = [message(VMCORE, 2 + n, 1000 * n, bytes([65 + n]) * 1000) for n in range(10)]
    sent[1] = sent[1][:16] + (999).to_bytes(4, "big") + sent[1][20:]
    client.socket.setsockopt(17, 103, len(sent[0]))
    client.socket.sendto(b"".join(sent), client.server)
    assert {client.hear() for _ in range(9)} == {wire.ack(2 + n) for n in range(10) if n != 1}
    assert client.hear(QUIET) is None


@needs_linux
def test_4_no_descriptor_is_left_when_dumps_end(tmp_path):
    with serving(tmp_path, SERVER, limits=Limits(linger=0.1, heralds=1e6)) as server:
        server.told(Listening)
        before = open_files()
        for _ in range(20):
            with Client(CLIENT) as client:
                assert client.herald(server.address)
                client.dump(b"data", header(4))
        server.told(Ended, 20)
        wait_until(lambda: open_files() == before)
    before = open_files()
    with serving(tmp_path, SERVER):
        pass
    assert open_files() == before


def test_5_a_late_or_forged_herald_does_not_harm_a_running_dump(tmp_path, server, client):
    data = os.urandom(10_000)
    port = client.server
    for offset in range(0, 10_000, 1000):
        assert client.say(VMCORE, offset, data[offset : offset + 1000])
        assert client.herald(server.address)
        client.server = port
    assert client.say(KDH, 0, header(10_000))
    assert client.say(FINISHED)
    assert server.told(Ended)[0].reason == "success"
    assert stored(tmp_path) == data


def test_5_icmp_errors_end_nothing(tmp_path, server):
    data = os.urandom(5000)
    with Client(CLIENT) as client:
        assert client.herald(server.address)
        port = client.server
    for offset in range(0, 5000, 1000):
        with Client(CLIENT, 20024) as sender:
            sender.socket.sendto(message(VMCORE, 5, offset, data[offset : offset + 1000]), port)
        time.sleep(0.01)  # the ack comes to a closed port, mostly
    with Client(CLIENT) as client:
        client.server = port
        client.dump(data, size=1000)
    server.told(Ended)
    assert stored(tmp_path) == data


@pytest.mark.parametrize("ack_port", [20024, None])
def test_messages_from_another_address_are_not_taken(tmp_path, ack_port):
    with (
        serving(tmp_path, SERVER, ack_port=ack_port) as server,
        Client(CLIENT) as client,
        Client(STRANGER) as stranger,
    ):
        assert client.herald(server.address)
        assert client.say(VMCORE, 0, b"good")
        stranger.server = client.server
        assert not stranger.say(VMCORE, 0, b"evil", QUIET)
        assert not stranger.say(VMCORE, 4, b"evil", QUIET)
        assert not stranger.say(FINISHED, patience=QUIET)
        assert client.say(FINISHED)
        server.told(Ended)
        assert stored(tmp_path) == b"good"


def test_6_finished_does_not_make_a_dump_with_a_hole_a_success(tmp_path, server, client):
    assert client.say(VMCORE, 0, b"data")
    assert client.say(KDH, 0, header(1000))
    assert client.say(FINISHED)
    (ended,) = server.told(Ended)
    assert (ended.reason, ended.missing) == ("incomplete", [(4, 1000)])
    assert info(tmp_path).endswith("Dump incomplete: 996 of 1000 bytes missing in 1 range\n")
    assert Path(ended.files["map"]).exists()


def test_9_a_second_header_neither_doubles_info_nor_renames_again(tmp_path, server, client):
    assert client.say(VMCORE, 0, b"data")
    for _ in range(3):
        assert client.say(KDH, 0, header(4, compression=2))
    assert client.say(FINISHED)
    assert client.say(KDH, 0, header(4, compression=2))
    server.told(Ended)
    assert (tmp_path / f"vmcore.{CLIENT}.0.zst").read_bytes() == b"data"
    assert info(tmp_path).count("Panic String") == 1


def test_9_a_header_of_version_1_is_read_as_one(server, client):
    client.dump(b"data", header(4, version=1))
    assert server.told(Ended)[0].reason == "success"
    assert server.told(HeaderReceived)[0].kdh.panicstring == "page fault"


def test_11_info_is_there_from_the_first_byte(tmp_path, client):
    assert client.say(VMCORE, 0, b"data")
    assert info(tmp_path).startswith(
        f"Dump from {CLIENT} [{CLIENT}]\nDump incomplete: being received"
    )


def test_stopping_files_a_running_dump_with_its_map(tmp_path):
    with serving(tmp_path, SERVER) as server, Client(CLIENT) as client:
        assert client.herald(server.address)
        assert client.say(VMCORE, 0, b"data")
        assert client.say(VMCORE, 10, b"data")
        server.server.stop()
        (ended,) = server.told(Ended)
    assert ended.reason == "interrupted"
    assert stored(tmp_path) == b"data\0\0\0\0\0\0data"
    assert "server was stopped" in info(tmp_path)
    assert Path(ended.files["map"]).read_text().count("?") >= 2


def test_a_client_that_falls_silent_is_timed_out(tmp_path):
    with serving(tmp_path, SERVER, limits=Limits(expiry=0.2)) as server, Client(CLIENT) as client:
        assert client.herald(server.address)
        assert client.say(VMCORE, 0, b"data")
        (ended,) = server.told(Ended)
        assert ended.reason == "timeout"
        assert "client timed out" in info(tmp_path)


# Addresses and ports


def test_acks_may_go_to_the_port_a_message_came_from(tmp_path):
    with (
        serving(tmp_path, SERVER, ack_port=None) as server,
        Client(CLIENT, 0) as first,
        Client(CLIENT, 0) as second,
    ):
        assert first.herald(server.address)
        assert second.herald(server.address)
        assert first.server != second.server
        first.dump(b"one")
        second.dump(b"two")
        server.told(Ended, 2)
        assert {stored(tmp_path), stored(tmp_path, number=1)} == {b"one", b"two"}


def test_answers_come_from_the_address_that_was_called(tmp_path):
    with serving(tmp_path, "0.0.0.0") as server, Client(CLIENT) as client:
        called = ("127.71.9.9", server.address[1])
        assert client.herald(called)
        assert client.server[0] == called[0]
        client.dump(b"data")
        assert server.told(Started)[0].server == called[0]


@needs_ipv6
def test_ipv6(tmp_path):
    with serving(tmp_path, "::", ack_port=None) as server, Client("::1", 0) as client:
        assert client.herald(("::1", server.address[1]))
        assert client.server[0] == "::1"
        data = os.urandom(70_000)
        client.dump(data, size=1428)
        (ended,) = server.told(Ended)
        assert ended.client == "::1"
        assert Path(ended.files["vmcore"]).read_bytes() == data


def test_a_herald_from_another_port_does_not_shut_out_the_client(tmp_path, server):
    """The first one may be forged: what the client sends from is not known by it."""
    with Client(CLIENT) as listener, Client(CLIENT, 0) as sender:
        assert listener.herald(server.address)
        sender.socket.sendto(message(HERALD, 7), server.address)
        assert listener.hear() == wire.ack(7)
        sender.socket.sendto(message(VMCORE, 8, 0, b"data"), listener.heard_from)
        assert listener.hear() == wire.ack(8)
        assert listener.say(FINISHED)
        assert len(server.told(Started)) == 1


@needs_ipv6
def test_several_addresses(tmp_path):
    addresses = (SERVER, "127.71.0.2", "::1")
    with serving(tmp_path, addresses) as server:
        assert [address for address, _ in server.server.addresses] == list(addresses)
        assert len({port for _, port in server.server.addresses}) == 1
        for called in server.server.addresses[:2]:
            with Client(CLIENT) as client:
                assert client.herald(called)
                assert client.server[0] == called[0]


def test_a_port_that_is_taken_and_an_address_that_is_none_are_told_in_a_line():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((SERVER, 0))
        with pytest.raises(NetdumpError, match="cannot listen: Address already in use"):
            ServerLoop(MemorySinks(), (SERVER,), taken.getsockname()[1]).start()
    with pytest.raises(NetdumpError, match="not an address"):
        ServerLoop(MemorySinks(), ("no such host.",)).start()


@pytest.mark.parametrize("port", [-1, 65_536, 70_000])
def test_a_port_that_is_none_is_told_and_is_not_taken_for_another(port):
    with pytest.raises(NetdumpError, match=f"there is no port {port}"):
        ServerLoop(MemorySinks(), (SERVER,), port).start()


# Bulk


def window(client: Client, data: bytes, size: int, coalesce: bool) -> None:
    """Send a vmcore, many messages at a time, with what is not acked again and again."""
    waiting = {
        number: message(VMCORE, number, offset, data[offset : offset + size])
        for number, offset in enumerate(range(0, len(data), size), 1)
    }
    end = time.monotonic() + PATIENCE
    while waiting and time.monotonic() < end:
        numbers = sorted(waiting)[:40]
        if coalesce:
            client.socket.setsockopt(17, 103, 24 + size)
            client.socket.sendto(b"".join(waiting[number] for number in numbers), client.server)
            client.socket.setsockopt(17, 103, 0)
        else:
            for number in numbers:
                client.socket.sendto(waiting[number], client.server)
        while any(number in waiting for number in numbers):
            acks = client.hear(0.5)
            if acks is None:
                break
            for number in wire.acks(acks):
                waiting.pop(number, None)
    assert not waiting


@pytest.mark.parametrize("coalescing", [True, False], ids=["GRO", "no GRO"])
@pytest.mark.parametrize("coalesce", [True, False], ids=["GSO", "no GSO"])
def test_bursts(tmp_path, coalescing, coalesce):
    if coalesce and sys.platform != "linux":
        pytest.skip("needs UDP_SEGMENT")
    data = os.urandom(2_000_000)
    with serving(tmp_path, SERVER, coalescing=coalescing) as server, Client(CLIENT) as client:
        assert client.herald(server.address)
        window(client, data, 1448, coalesce)
        client.seqno = -(-len(data) // 1448)
        assert client.say(FINISHED)
        (ended,) = server.told(Ended)
        assert (ended.reason, ended.conflicting_bytes) == ("success", 0)
        assert stored(tmp_path) == data


def test_bursts_from_two_ports_of_a_client_are_answered_each_at_its_own(tmp_path):
    with (
        serving(tmp_path, SERVER, ack_port=None) as server,
        Client(CLIENT, 0) as first,
        Client(CLIENT, 0) as second,
    ):
        assert first.herald(server.address)
        for number in range(40):
            sender = (first, second)[number % 2]
            datagram = message(VMCORE, number, number * 4, b"data")
            sender.socket.sendto(datagram, first.server)
        for sender, numbers in ((first, range(0, 40, 2)), (second, range(1, 40, 2))):
            assert [sender.hear() for _ in numbers] == [wire.ack(number) for number in numbers]


def test_64_clients_at_once(tmp_path):
    def dump(number: int) -> None:
        with Client(f"127.71.4.{number + 1}") as client:
            assert client.herald(server.address)
            client.dump(contents[number], size=4000)

    contents = [os.urandom(40_000) for _ in range(64)]
    with serving(tmp_path, SERVER) as server:
        threads = [threading.Thread(target=dump, args=(number,)) for number in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {event.reason for event in server.told(Ended, 64)} == {"success"}
    for number, data in enumerate(contents):
        assert stored(tmp_path, f"127.71.4.{number + 1}") == data


def test_10000_hostile_datagrams(tmp_path, server, client):
    random = Random(1)
    good = message(VMCORE, 1, 0, bytes(50))
    heralds = 2  # the client's own, and the honest one's
    with Client(STRANGER) as stranger:
        stranger.server = client.server
        for number in range(10_000):
            datagram = bytearray(good[: random.randrange(len(good) + 1)])
            for _ in range(random.randrange(4)):
                if datagram:
                    datagram[random.randrange(len(datagram))] = random.randrange(256)
            if len(datagram) >= 4:
                datagram[3] = random.randrange(6) if number % 2 else 1
            to = server.address if number % 3 == 0 else client.server
            heralds += len(datagram) == len(good) and datagram[3] == HERALD
            (client if number % 5 else stranger).socket.sendto(datagram, to)
            if number % 50 == 0:
                # A client that begins again begins a dump; nothing else does.
                assert len(list(tmp_path.glob("info.*.[0-9]*"))) <= heralds
                assert len(os.listdir(tmp_path)) < 4 * heralds
                client.hear(0.001)
    with Client("127.71.5.1") as honest:
        assert honest.herald(server.address)
        honest.dump(b"data", header(4))
    wait_until(lambda: any(event.client == "127.71.5.1" for event in server.told(Ended)))
    assert stored(tmp_path, "127.71.5.1") == b"data"


# What else it offers


def test_names_are_looked_up_without_delaying_anyone_and_not_for_too_long(tmp_path):
    asked: list[str] = []
    release = threading.Event()

    def resolve(address: str) -> None:
        asked.append(address)
        if address == CLIENT:
            release.wait(PATIENCE)

    options = {"resolve": resolve, "resolve_timeout": 1.0}
    try:
        with (
            serving(tmp_path, SERVER, **options) as server,
            Client(CLIENT) as slow,
            Client(STRANGER) as quick,
        ):
            slow.socket.sendto(message(HERALD, 1), server.address)
            assert quick.herald(server.address)
            quick.dump(b"data")
            assert slow.hear() == wire.ack(1)
            assert sorted(asked) == [CLIENT, STRANGER]
            assert quick.herald(server.address)
            assert sorted(asked) == [CLIENT, STRANGER, STRANGER]
    finally:
        release.set()


def test_a_tap_sees_every_datagram_both_ways(tmp_path):
    seen = []

    class Seen:
        def datagrams(self, source, destination, data, sizes):
            position = 0
            for size in sizes:
                seen.append((source, destination, bytes(data[position : position + size])))
                position += size

    with serving(tmp_path, SERVER, tap=Seen()) as server, Client(CLIENT) as client:
        address = server.address
        assert client.herald(address)
        client.dump(b"data")
        data, acks = client.server, (CLIENT, 20024)
    assert seen == [
        (acks, address, message(HERALD, 1)),
        (data, acks, wire.ack(1)),
        (acks, data, message(VMCORE, 2, 0, b"data")),
        (data, acks, wire.ack(2)),
        (acks, data, message(FINISHED, 3)),
        (data, acks, wire.ack(3)),
    ]


def test_progress_is_told_while_data_comes(tmp_path):
    with serving(tmp_path, SERVER, progress=0.05) as server, Client(CLIENT) as client:
        assert client.herald(server.address)
        assert client.say(KDH, 0, header(100))
        assert client.say(VMCORE, 0, b"data")
        wait_until(lambda: server.told(Progress)[-1].bytes_received == 4)
        assert server.told(Progress)[-1].bytes_expected == 100


def test_one_client_at_full_speed_does_not_keep_another_waiting(tmp_path):
    """A few milliseconds, unless the machine is busy elsewhere: hence the median."""
    stop = threading.Event()

    def flood(client: Client) -> None:
        datagram = message(VMCORE, 1, 0, bytes(1448))
        while not stop.is_set():
            for _ in range(64):
                client.socket.sendto(datagram, client.server)

    with serving(tmp_path, SERVER) as server, Client(CLIENT) as fast, Client(STRANGER) as slow:
        assert fast.herald(server.address)
        assert slow.herald(server.address)
        thread = threading.Thread(target=flood, args=(fast,))
        thread.start()
        try:
            delays = []
            for number in range(15):
                begun = time.monotonic()
                assert slow.say(VMCORE, number * 4, b"data")
                delays.append(time.monotonic() - begun)
        finally:
            stop.set()
            thread.join()
    assert sorted(delays)[7] < 0.1
