# SPDX-License-Identifier: GPL-2.0-or-later
"""The dump server as a process of its own: killed, out of room, and small in memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.receiving import QUIET, Client, message
from helpers.traffic import header

from scapy_netdump import open_dump, wire
from scapy_netdump.formats import EKCD_KEY, FINISHED, KDH, VMCORE
from scapy_netdump.store.live_dumps import LiveDumps

SERVER, CLIENT = "127.72.0.1", "127.72.1.1"

PROGRAM = """
import json, resource, signal, sys
from pathlib import Path
from scapy_netdump.server.loop import ServerLoop
from scapy_netdump.store.live_dumps import LiveDumps

directory, address, largest, files = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])
if files:
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
if largest:
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
tell = lambda event: print(json.dumps(event.as_dict()), flush=True)
with ServerLoop(LiveDumps(directory), (address,), 0, on_event=tell) as server:
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    server.run()
"""


@contextmanager
def process(
    directory: Path, largest: int = 0, files: int = 0
) -> Iterator[tuple[subprocess.Popen[str], tuple[str, int]]]:
    """A server, and where it listens; no file of it gets larger than ``largest`` bytes, and no
    more than ``files`` are open."""
    limits = map(str, (largest, files))
    arguments = [sys.executable, "-c", PROGRAM, str(directory), SERVER, *limits]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as server:
        try:
            listening = read(server, "listening")
            yield server, (listening["address"], listening["port"])
        finally:
            server.kill()


def read(server: subprocess.Popen[str], kind: str) -> dict:
    """The next event of a kind."""
    for line in server.stdout:
        event = json.loads(line)
        if event["event"] == kind:
            return event
    raise AssertionError(f"ended without {kind}")


def test_what_was_acked_is_on_disk_when_the_server_is_killed(tmp_path):
    data = os.urandom(50_000)
    with process(tmp_path) as (server, address), Client(CLIENT) as client:
        assert client.herald(address)
        for offset in range(0, len(data), 1000):
            assert client.say(VMCORE, offset, data[offset : offset + 1000])
        server.kill()
        server.wait()
    (part,) = tmp_path.glob("vmcore.*.part")
    assert part.read_bytes() == data
    (info,) = tmp_path.glob("info.*")
    assert "being received" in info.read_text()


def test_a_finished_that_was_acked_is_remembered_when_the_server_is_killed(tmp_path):
    data = os.urandom(50_000)
    with process(tmp_path) as (server, address), Client(CLIENT) as client:
        assert client.herald(address)
        client.dump(data, header(len(data)), size=10_000)
        server.kill()
        server.wait()
    LiveDumps(tmp_path).close()
    assert (tmp_path / f"vmcore.{CLIENT}.0").read_bytes() == data
    assert (tmp_path / f"info.{CLIENT}.0").read_text().endswith("\nDump complete\n")
    assert os.readlink(tmp_path / f"vmcore.{CLIENT}.last") == f"vmcore.{CLIENT}.0"


def test_what_is_here_is_known_when_the_server_is_killed(tmp_path):
    """But for the last second."""
    data = os.urandom(200_000)
    with process(tmp_path) as (server, address), Client(CLIENT) as client:
        assert client.herald(address)
        for offset in (*range(0, 70_000, 10_000), *range(100_000, 200_000, 10_000)):
            assert client.say(VMCORE, offset, data[offset : offset + 10_000])
            time.sleep(0.15)
        time.sleep(0.5)
        server.kill()
        server.wait()
    LiveDumps(tmp_path).close()
    (part,) = tmp_path.glob("vmcore.*.part")
    with open_dump(part) as dump:
        assert dump.missing[0] == (70_000, 100_000)
        assert not dump.verdict.complete
        known = 200_000 - sum(end - start for start, end in dump.missing)
    assert known >= 100_000


def test_new_dumps_are_refused_before_an_old_one_lacks_descriptors(tmp_path):
    data = os.urandom(3000)
    with process(tmp_path, files=160) as (server, address), Client(CLIENT) as old:
        assert old.herald(address)
        assert old.say(VMCORE, 0, data[:1000])
        clients = [Client(f"127.72.{number}.1") for number in range(3, 63)]
        begun = 0
        for client in clients:
            assert client.herald(address)
            begun += client.say(VMCORE, 0, b"x", patience=0.05)
        assert 0 < begun < 30
        refused = read(server, "refused")
        assert "filed" in refused["reason"]
        assert old.say(VMCORE, 1000, data[1000:])
        assert old.say(EKCD_KEY, 0, b"key")
        assert old.tell(message(VMCORE, 900, 0, b"other")) == wire.ack(900)
        assert old.say(KDH, 0, header(len(data)))
        assert old.say(FINISHED)
        ended = read(server, "ended")
        for client in clients:
            client.socket.close()
    assert ended["client"] == CLIENT
    assert Path(ended["files"]["vmcore"]).read_bytes() == data


def test_without_room_nothing_is_acked_and_the_dump_ends_as_an_error(tmp_path):
    with process(tmp_path, largest=10_000) as (server, address), Client(CLIENT) as client:
        assert client.herald(address)
        for offset in range(0, 10_000, 1000):
            assert client.say(VMCORE, offset, bytes(1000))
        assert not client.say(VMCORE, 10_000, bytes(1000), QUIET)
        failed = read(server, "write_error")
        client.seqno += 1
        assert client.say(FINISHED)  # a client that gives up says nothing; then it times out
        ended = read(server, "ended")
        assert (failed["file"], failed["offset"]) == ("vmcore", 10_000)
        assert "File too large" in failed["error"]
        assert ended["reason"] == "error"
        assert (tmp_path / f"vmcore.{CLIENT}.0").stat().st_size == 10_000
        assert client.herald(address)  # which goes on with others


def test_sigterm_files_the_dump_and_ends_well(tmp_path):
    with process(tmp_path) as (server, address), Client(CLIENT) as client:
        assert client.herald(address)
        assert client.say(VMCORE, 0, b"data")
        server.send_signal(signal.SIGTERM)
        assert read(server, "ended")["reason"] == "interrupted"
        assert read(server, "stopped")
        assert server.wait() == 0
    assert (tmp_path / f"vmcore.{CLIENT}.0").read_bytes() == b"data"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_64_clients_take_little_memory(tmp_path):
    with process(tmp_path) as (server, address):
        clients = [Client(f"127.72.2.{number}") for number in range(1, 65)]
        for client in clients:
            assert client.herald(address)
            assert client.say(VMCORE, 0, bytes(60_000))
            assert client.say(KDH, 0, header(60_000))
        for client in clients:
            assert client.say(FINISHED)
            client.socket.close()
            assert read(server, "ended")["complete"]  # at once: a full pipe would stop the server
        status = Path(f"/proc/{server.pid}/status").read_text()
        peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        assert int(peak.split()[1]) < 64_000
