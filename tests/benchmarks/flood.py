# SPDX-License-Identifier: GPL-2.0-or-later
"""Forged HERALDs from random addresses while dumps run and real clients want to begin.

    python tests/benchmarks/flood.py                           10,000 a second for 20 s; needs root
    python tests/benchmarks/flood.py --rate 2000 --seconds 10

One dump runs all the time, a message every 2 ms, each acked before the next is sent. Clients with
the kernel's patience (a HERALD a second, 12 times) begin dumps one after the other and finish them.
Told are: how many of them got in, how long the running dump waited for its acks, and the memory and
the descriptors of the server before and during the flood. Exits with 1 if a client is kept out, an
ack of the running dump is lost, or memory or descriptors grow.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from multiprocessing import Event, Process
from multiprocessing.synchronize import Event as Flag
from pathlib import Path
from random import Random

from scapy_netdump import wire
from scapy_netdump.formats import ACK_PORT, FINISHED, HERALD, HERALD_PORT, VMCORE

SERVER = "127.67.255.254"
TRIES, PATIENCE = 12, 1.0

#: How much more memory is no growth: what a server that has seen little has not touched yet. MiB.
SLACK = 16


def flood(rate: int, over: Flag) -> None:
    """Send HERALDs from random addresses until ``over``."""
    random = Random(1)
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    message = wire.header(HERALD, 1, 0, 6) + b"a/b/c\0"
    udp = struct.pack("!HHHH", ACK_PORT, HERALD_PORT, 8 + len(message), 0) + message
    server = socket.inet_aton(SERVER)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0)
    begun, sent = time.monotonic(), 0
    while not over.is_set():
        while sent < (time.monotonic() - begun) * rate:
            client = bytes([127, random.randrange(100, 250), *random.randbytes(2)])
            raw.sendto(head + client + server + udp, (SERVER, 0))
            sent += 1
        time.sleep(0.0005)
    print(f"{sent} forged HERALDs, {sent / (time.monotonic() - begun):.0f} a second")


class Client:
    """Says HERALD and sends messages, each until it is acked, as the kernel does."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, ACK_PORT))
        self._socket.settimeout(PATIENCE)
        self._to = SERVER, HERALD_PORT
        self._seqno = 0

    def say(self, kind: int, offset: int = 0, payload: bytes = b"") -> float | None:
        """Seconds until the ack; None if there was none."""
        self._seqno += 1
        datagram = wire.header(kind, self._seqno, offset, len(payload)) + payload
        begun = time.monotonic()
        for _ in range(TRIES):
            self._socket.sendto(datagram, self._to)
            try:
                data, sender = self._socket.recvfrom(2048)
                while wire.ack(self._seqno) != data:
                    data, sender = self._socket.recvfrom(2048)
            except (TimeoutError, ConnectionError):
                continue
            if kind == HERALD:
                self._to = sender
            return time.monotonic() - begun
        return None

    def close(self) -> None:
        self._socket.close()


@dataclass
class Seen:
    """What came of it: ack times of the running dump, and what the server needed."""

    waited: list[float] = field(default_factory=list)
    lost: int = 0
    memory: list[int] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)


def run_a_dump(client: Client, pid: int, seen: Seen, over: threading.Event) -> None:
    offset = 0
    while not over.is_set():
        waited = client.say(VMCORE, offset, bytes(1000))
        if waited is None:
            seen.lost += 1
        else:
            seen.waited.append(waited)
            offset += 1000
        if len(seen.waited) % 100 == 0:
            seen.memory.append(memory_of(pid))
            seen.descriptors.append(len(os.listdir(f"/proc/{pid}/fd")))
        time.sleep(0.002)


def memory_of(pid: int) -> int:
    """Resident memory in MiB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") >> 20


def gets_in(number: int) -> bool:
    """Whether a client can dump: HERALD, a message, FINISHED."""
    client = Client(f"127.68.{number}.1")
    try:
        steps = (HERALD, 0, b""), (VMCORE, 0, b"y" * 500), (FINISHED, 0, b"")
        return all(client.say(*step) is not None for step in steps)
    finally:
        client.close()


def measure(rate: int, seconds: float, clients: int, directory: str) -> int:
    """Run it; returns the exit status."""
    command = [sys.executable, "-m", "scapy_netdump", "serve", "--json", "-a", SERVER]
    server = subprocess.Popen([*command, "-d", directory], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    while json.loads(server.stdout.readline())["event"] != "listening":
        pass
    threading.Thread(target=server.stdout.read, daemon=True).start()
    running = Client("127.68.255.1")
    assert running.say(HERALD) is not None
    quiet, loud, over = Seen(), Seen(), threading.Event()
    timer = threading.Timer(3.0, over.set)
    timer.start()
    run_a_dump(running, server.pid, quiet, over)
    stop = Event()
    forger = Process(target=flood, args=(rate, stop))
    forger.start()
    over.clear()
    dumping = threading.Thread(target=run_a_dump, args=(running, server.pid, loud, over))
    dumping.start()
    time.sleep(1)
    end, got_in = time.monotonic() + seconds, 0
    for number in range(clients):
        got_in += gets_in(number)
    time.sleep(max(0.0, end - time.monotonic()))
    over.set()
    dumping.join()
    stop.set()
    forger.join()
    server.terminate()
    server.wait(60)
    print(f"{got_in} of {clients} clients got in")
    for name, seen in (("before", quiet), ("during", loud)):
        waited = sorted(seen.waited)
        p50, p99 = (waited[int(len(waited) * part)] * 1e3 for part in (0.5, 0.99))
        print(
            f"{name}: acks of the running dump after {p50:.2f} ms (median), {p99:.2f} (p99), "
            f"{waited[-1] * 1e3:.1f} (longest), {seen.lost} lost; server: "
            f"{max(seen.memory)} MiB, {max(seen.descriptors)} descriptors"
        )
    grew = max(loud.memory) > max(quiet.memory) + SLACK
    more = max(loud.descriptors) > max(quiet.descriptors) + 16
    return int(got_in < clients or loud.lost > 0 or grew or more)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--clients", type=int, default=12)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="netdump-flood-") as directory:
        return measure(options.rate, options.seconds, options.clients, directory)


if __name__ == "__main__":
    sys.exit(main())
