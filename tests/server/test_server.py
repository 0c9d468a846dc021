# SPDX-License-Identifier: GPL-2.0-or-later
"""`Server` in a program: started, waited for, stopped, and what goes wrong in its thread.

The loop that it runs has its tests in test_loop.py.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.receiving import PATIENCE, Client
from helpers.traffic import header

from scapy_netdump import (
    Ended,
    Event,
    Limits,
    NetdumpError,
    ServeOptions,
    Server,
    SocketError,
    StoreError,
    UsageError,
    WaitTimeoutError,
    send_dump,
    serve,
)
from scapy_netdump.core.receiving.events import Heralded, Listening, Stopped
from scapy_netdump.formats import FINISHED, VMCORE
from scapy_netdump.net.server_sockets import has_ipv6

DATA = bytes(range(256)) * 100
SERVER, CLIENT, OTHER = "127.73.0.1", "127.73.1.1", "127.73.2.1"

needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


def dump(server: Server, client: str, data: bytes) -> None:
    """Send a whole dump from a client at an address."""
    with Client(client) as sender:
        assert sender.herald(server.address)
        sender.dump(data, header(len(data)))


def server_threads() -> list[threading.Thread]:
    return [one for one in threading.enumerate() if one.name.startswith("netdump-")]


def test_a_dump_is_sent_and_waited_for(tmp_path: Path) -> None:
    (tmp_path / "vmcore").write_bytes(data := os.urandom(200_000))
    crash = tmp_path / "crash"
    crash.mkdir()
    with Server(crash, address=SERVER, port=0) as server:
        assert server.address[0] == SERVER
        assert server.address[1] > 0
        result = send_dump(tmp_path / "vmcore", server.address, client=CLIENT)
        ended = server.wait(client=CLIENT, timeout=PATIENCE)
        assert Path(ended.files["vmcore"] or "").read_bytes() == data
        assert Path(ended.files["info"] or "").read_text().endswith("Dump complete\n")
    assert result.finished
    assert (ended.reason, ended.client) == ("success", CLIENT)
    assert server_threads() == []


def test_the_directory_may_be_a_text(tmp_path: Path) -> None:
    with Server(str(tmp_path), address=SERVER, port=0) as server:
        dump(server, CLIENT, b"data")
        ended = server.wait(timeout=PATIENCE)
    assert ended.files["vmcore"] == str(tmp_path / f"vmcore.{CLIENT}.0")


def test_each_dump_is_returned_once_the_oldest_first(tmp_path: Path) -> None:
    with Server(tmp_path, address=SERVER, port=0) as server:
        for number in range(3):
            dump(server, CLIENT, bytes([number]) * 100)
            assert server.wait(timeout=PATIENCE).dump == number + 1
        with pytest.raises(WaitTimeoutError):
            server.wait(timeout=0)


def test_a_client_may_be_waited_for_and_others_stay_to_be_waited_for(tmp_path: Path) -> None:
    with Server(tmp_path, address=SERVER, port=0) as server:
        dump(server, OTHER, b"other")
        dump(server, CLIENT, b"client")
        with pytest.raises(WaitTimeoutError, match=r"no dump from 127\.73\.9\.9"):
            server.wait("127.73.9.9", timeout=0.1)
        assert server.wait(CLIENT, PATIENCE).client == CLIENT
        with pytest.raises(WaitTimeoutError):
            server.wait(CLIENT, timeout=0)
        assert server.wait(timeout=PATIENCE).client == OTHER


def test_several_threads_wait_each_for_its_client(tmp_path: Path) -> None:
    clients = [f"127.73.3.{number}" for number in range(1, 9)]
    found: dict[str, str] = {}

    def wait(client: str) -> None:
        found[client] = server.wait(client, PATIENCE).client

    with Server(tmp_path, address=SERVER, port=0) as server:
        threads = [threading.Thread(target=wait, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        for client in reversed(clients):
            dump(server, client, b"data")
        for thread in threads:
            thread.join()
    assert found == {client: client for client in clients}


@needs_ipv6
def test_an_address_is_known_in_any_form_and_what_is_none_is_told(tmp_path: Path) -> None:
    options = ServeOptions(ack_port=None)
    with Server(tmp_path, address="::1", port=0, options=options) as server:
        send_dump(b"data", server.address, client_port=0)
        assert server.wait("0:0:0:0:0:0:0:1", PATIENCE).client == "::1"
        with pytest.raises(UsageError, match="localhost: not an IPv4 or IPv6 address"):
            server.wait("localhost", PATIENCE)


def test_the_timeout_is_kept(tmp_path: Path) -> None:
    with Server(tmp_path, address=SERVER, port=0) as server:
        begun = time.monotonic()
        with pytest.raises(WaitTimeoutError, match=r"no dump has ended within 0\.2 seconds"):
            server.wait(timeout=0.2)
        assert 0.2 <= time.monotonic() - begun < PATIENCE


@needs_ipv6
def test_all_addresses_and_the_first_are_told(tmp_path: Path) -> None:
    with Server(tmp_path, address=[SERVER, "::1"], port=0) as server:
        assert [address for address, _ in server.addresses] == [SERVER, "::1"]
        assert server.address == server.addresses[0]
    with Server(tmp_path, port=0) as server:
        assert [address for address, _ in server.addresses] == ["0.0.0.0", "::"]


@pytest.mark.parametrize("address", [None, "0.0.0.0", pytest.param("::", marks=needs_ipv6)])
def test_the_address_told_is_one_that_a_dump_can_be_sent_to(
    tmp_path: Path, address: str | None
) -> None:
    with Server(tmp_path, address=address, port=0) as server:
        assert {port for _, port in server.addresses} == {server.address[1]}
        client = "::1" if ":" in server.address[0] else CLIENT
        send_dump(DATA, server.address, client=client)
        ended = server.wait(timeout=PATIENCE)
    assert Path(ended.files["vmcore"] or "").read_bytes() == DATA


def test_a_port_that_is_taken_at_the_second_address_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.73.0.2", 0))
        port = taken.getsockname()[1]
        both = Server(tmp_path, address=(SERVER, "127.73.0.2"), port=port)
        with pytest.raises(SocketError, match=f"127.73.0.2 port {port}: cannot listen"), both:
            pass


def test_options_hold(tmp_path: Path) -> None:
    options = ServeOptions(ack_port=None, limits=Limits(expiry=0.2))
    with (
        Server(tmp_path, address=SERVER, port=0, options=options) as server,
        Client(CLIENT, 0) as client,
    ):
        assert client.herald(server.address)
        assert client.say(VMCORE, 0, b"data")
        assert server.wait(timeout=PATIENCE).reason == "timeout"


# Stopping


def test_it_may_be_stopped_from_another_thread_twice_and_files_what_runs(tmp_path: Path) -> None:
    with Server(tmp_path, address=SERVER, port=0) as server, Client(CLIENT) as client:
        assert client.herald(server.address)
        assert client.say(VMCORE, 0, b"data")
        stoppers = [threading.Thread(target=server.stop) for _ in range(2)]
        for stopper in stoppers:
            stopper.start()
        assert server.wait(timeout=PATIENCE).reason == "interrupted"
        with pytest.raises(NetdumpError, match="the server has stopped, and there is no dump left"):
            server.wait()
    server.stop()
    assert (tmp_path / f"vmcore.{CLIENT}.0").read_bytes() == b"data"


def test_who_waits_is_told_that_it_stops(tmp_path: Path) -> None:
    told: list[str] = []

    def wait() -> None:
        try:
            server.wait()
        except NetdumpError as error:
            told.append(str(error))

    with Server(tmp_path, address=SERVER, port=0) as server:
        waiting = threading.Thread(target=wait)
        waiting.start()
        server.stop()
        waiting.join(PATIENCE)
    assert len(told) == 1
    assert "the server has stopped" in told[0]


def test_leaving_files_a_running_dump_which_can_be_waited_for_afterwards(tmp_path: Path) -> None:
    with Server(tmp_path, address=SERVER, port=0) as server, Client(CLIENT) as client:
        assert client.herald(server.address)
        assert client.say(VMCORE, 0, b"data")
    ended = server.wait()
    assert ended.reason == "interrupted"
    assert Path(ended.files["vmcore"] or "").read_bytes() == b"data"


def test_on_event_hears_all_and_may_stop_the_server(tmp_path: Path) -> None:
    told: list[Event] = []

    def tell(event: Event) -> None:
        told.append(event)
        if isinstance(event, Ended):
            server.stop()

    with Server(tmp_path, address=SERVER, port=0, on_event=tell) as server:
        dump(server, CLIENT, b"data")
        server.wait(timeout=PATIENCE)
        with pytest.raises(NetdumpError, match="has stopped"):
            server.wait()
    assert isinstance(told[0], Listening)
    assert isinstance(told[-1], Stopped)


def test_an_exception_in_the_with_ends_it_and_comes_out(tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        Server(tmp_path, address=SERVER, port=0) as server,
    ):
        raise ZeroDivisionError
    with pytest.raises(NetdumpError, match="has stopped"):
        server.wait()
    assert server_threads() == []


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_nothing_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with Server(tmp_path, address=SERVER, port=0) as server:
            dump(server, CLIENT, b"data")
    assert len(os.listdir("/proc/self/fd")) == before


# What goes wrong


def test_a_port_that_is_taken_is_told_on_entering(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((SERVER, 0))
        server = Server(tmp_path, address=SERVER, port=taken.getsockname()[1])
        with pytest.raises(SocketError, match="cannot listen: Address already in use"):
            server.__enter__()
    assert server_threads() == []


def test_a_directory_that_is_none_is_told_on_entering(tmp_path: Path) -> None:
    server = Server(tmp_path / "none", address=SERVER, port=0)
    with pytest.raises(StoreError, match="none"):
        server.__enter__()


class OurError(Exception):
    pass


def fail_at(kind: type[Event]) -> Callable[[Event], None]:
    """An on_event that cannot take events of a kind."""

    def fail(event: Event) -> None:
        if isinstance(event, kind):
            raise OurError(kind.kind)

    return fail


def failing(directory: Path, then: Callable[[Server], object]) -> None:
    """Run a server whose thread fails when a HERALD comes, and do something after that."""
    on_event = fail_at(Heralded)
    with Server(directory, address=SERVER, port=0, on_event=on_event) as server:
        with Client(CLIENT) as client:
            client.herald(server.address, patience=0.2)
        then(server)


def test_an_error_in_the_thread_is_raised_by_wait_and_comes_out_of_the_with(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def wait(server: Server) -> None:
        with pytest.raises(OurError, match="heralded") as raised:
            server.wait(timeout=PATIENCE)
        raise raised.value

    with pytest.raises(OurError, match="heralded"):
        failing(tmp_path, wait)
    assert capfd.readouterr() == ("", "")


def test_an_error_in_the_thread_that_nobody_waited_for_is_raised_on_leaving(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    left: list[Server] = []
    with pytest.raises(OurError):
        failing(tmp_path, left.append)
    assert capfd.readouterr() == ("", "")
    with pytest.raises(OurError):
        left[0].wait()


def test_a_programs_own_error_comes_out_and_tells_of_that_of_the_thread(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError) as raised:
        failing(tmp_path, lambda server: 1 // 0)
    assert isinstance(raised.value.__context__, OurError)


def test_an_error_that_comes_of_that_of_the_thread_tells_of_it_once(tmp_path: Path) -> None:
    def fail(server: Server) -> None:
        try:
            server.wait(timeout=PATIENCE)
        except OurError:
            raise KeyError from None

    with pytest.raises(KeyError) as raised:
        failing(tmp_path, fail)
    assert isinstance(raised.value.__context__, OurError)
    assert raised.value.__context__.__context__ is None


def test_a_dump_that_on_event_fails_on_is_filed_and_returned_first(tmp_path: Path) -> None:
    server = Server(tmp_path, address=SERVER, port=0, on_event=fail_at(Ended))
    with pytest.raises(OurError), server:
        dump(server, CLIENT, b"data")
    assert server.wait(timeout=PATIENCE).complete
    with pytest.raises(OurError):
        server.wait(timeout=PATIENCE)
    assert (tmp_path / f"vmcore.{CLIENT}.0").read_bytes() == b"data"


def test_on_event_cannot_wait(tmp_path: Path) -> None:
    server = Server(tmp_path, address=SERVER, port=0, on_event=lambda event: server.wait())
    with pytest.raises(UsageError, match="the server would wait for itself"), server:
        server.wait(timeout=PATIENCE)


def test_before_it_is_entered_there_is_nothing_to_wait_for_and_it_serves_once(
    tmp_path: Path,
) -> None:
    server = Server(tmp_path, address=SERVER, port=0)
    for use in (server.wait, server.stop, lambda: server.address):
        with pytest.raises(NetdumpError, match="not started"):
            use()
    with server, pytest.raises(NetdumpError, match="serves once"):
        server.__enter__()
    with pytest.raises(NetdumpError, match="serves once"):
        server.__enter__()


# Elsewhere than in a thread


def test_with_asyncio_both_run_in_threads_of_it(tmp_path: Path) -> None:
    async def receive_and_send() -> Ended:
        with Server(tmp_path, address=SERVER, port=0) as server:
            waiting = asyncio.create_task(asyncio.to_thread(server.wait, timeout=PATIENCE))
            result = await asyncio.to_thread(
                send_dump, b"from a coroutine", server.address, client=CLIENT
            )
            assert result.finished
            return await waiting

    ended = asyncio.run(receive_and_send())
    assert Path(ended.files["vmcore"] or "").read_bytes() == b"from a coroutine"


SERVE = """
import sys
from scapy_netdump import serve

def tell(event):
    print(event.kind, getattr(event, "port", ""), flush=True)

serve(sys.argv[1], address=sys.argv[2], port=0, on_event=tell)
"""


def test_serve_ends_in_good_order_with_ctrl_c(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SERVE, str(tmp_path), SERVER]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell may ignore it
    ) as end:
        assert end.stdout is not None
        assert end.stderr is not None
        kind, port = end.stdout.readline().split()
        assert kind == "listening"
        with Client(CLIENT) as client:
            assert client.herald((SERVER, int(port)))
            assert client.say(VMCORE, 0, b"data")
            end.send_signal(signal.SIGINT)
            told = end.stdout.read().split()
        assert end.wait(PATIENCE) == 0
        assert end.stderr.read() == ""
    assert told[-2:] == ["ended", "stopped"]
    assert (tmp_path / f"vmcore.{CLIENT}.0").read_bytes() == b"data"


def test_serve_tells_what_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        serve(tmp_path / "none", address=SERVER, port=0)


def test_finished_is_acked_again_after_wait_returned(tmp_path: Path) -> None:
    """A dump that was waited for is filed; its client may still ask whether it is."""
    with Server(tmp_path, address=SERVER, port=0) as server, Client(CLIENT) as client:
        assert client.herald(server.address)
        client.dump(b"data", header(4))
        server.wait(timeout=PATIENCE)
        assert client.say(FINISHED)


@pytest.mark.parametrize("timeout", [float("inf"), 1e10])
def test_a_wait_may_be_as_long_as_anyone_likes(tmp_path: Path, timeout: float) -> None:
    with Server(tmp_path, address="127.0.0.1", port=0) as server:
        threading.Timer(0.2, server.stop).start()
        with pytest.raises(NetdumpError, match="the server has stopped"):
            server.wait(timeout=timeout)
