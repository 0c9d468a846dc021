# SPDX-License-Identifier: GPL-2.0-or-later
"""Many clients that dump, break off and begin again, on real sockets, and what the server says.

    python tests/benchmarks/soak.py                          32 clients, 3 minutes
    python tests/benchmarks/soak.py --clients 8 --seconds 20
    python tests/benchmarks/soak.py --no-slow-disk           without strace

The clients behave as the kernel does (PROTOCOL.md): a HERALD until any ack comes, chunks of up to
46 messages, what is not acked sent again with the same numbers, and given up after some tries.
They lose datagrams of both directions, break off anywhere, begin again at once, leave out the
header or FINISHED; dumps of a client begin with the same pages, and every few seconds the server is
stopped and continued. Its disk is slow: every so manieth write, rename and fsync takes a second (by
strace, where there is one). Each dump that the server calls complete is compared with what was
sent, header included; at the end every payload that was acked is looked for in the files of its
client.
Half of the clients number each dump from 1, as the kernel does; the others never use a number
twice. An ack whose number a dump before had too, not long ago, may be late: the client takes it for
its own, as the kernel does, but nothing is looked for.
Exits with 1 if a dump is called complete and is not, or an acked byte is nowhere.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from scapy_netdump import wire
from scapy_netdump.formats import FINISHED, HERALD, HERALD_PORT, KDH, VMCORE
from scapy_netdump.kerneldump.header import pack_header

PAYLOAD, CHUNK = 1448, 46
TIMEOUT, TRIES = 0.2, 6

#: An ack is later than this only if the server was stopped for longer. Seconds.
LATE = 5.0
SERVER = "127.66.255.254"

#: Each so manieth of these calls of a thread takes a second.
SLOW = {"pwritev2": 300, "renameat": 200, "fsync": 50}


@dataclass
class Source:
    """A dump that was sent, and which of its payloads were acked: offsets."""

    vmcore: bytes
    kdh: bytes
    acked: set[int] = field(default_factory=set)


@dataclass
class Rates:
    """Chances: for each datagram to be lost, for each chunk to be the last."""

    loss: float
    abort: float


class Client(threading.Thread):
    """A machine that panics again and again until ``stop``."""

    def __init__(self, number: int, rates: Rates, seed: int) -> None:
        super().__init__(daemon=True)
        self.address = f"127.66.{number >> 8}.{number & 255 or 255}"
        self.sources: list[Source] = []
        self.stop = threading.Event()
        self._numbers_go_on = number % 2 == 0
        self._random = Random(seed * 1000 + number)
        self._rates = rates
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind((self.address, 20024))
        self._socket.settimeout(TIMEOUT)
        self._same = self._random.randbytes(64 << 10)
        self._to: tuple[str, int] = (SERVER, HERALD_PORT)
        self._seqno = 0
        self._sent: dict[int, float] = {}  # when which number was sent, in this dump
        self._before: dict[int, float] = {}  # and in those before it

    def run(self) -> None:
        while not self.stop.is_set():
            self._dump()
            if self._random.random() < 0.5:
                time.sleep(self._random.random() * 0.3)
        self._socket.close()

    def _dump(self) -> None:
        random = self._random
        size = random.randrange(1, 300_000)
        vmcore = (self._same[: random.choice([0, 4096, 65536])] + random.randbytes(size))[:size]
        number = len(self.sources)
        kdh = pack_header(
            architecture="amd64", dumplength=size, blocksize=4096, dumptime=number,
            hostname=self.address, panicstring=f"panic {number}",
        )  # fmt: skip
        source = Source(vmcore, kdh)
        self.sources.append(source)
        self._to = (SERVER, HERALD_PORT)
        self._seqno = 1000 * number if self._numbers_go_on else 0
        self._before |= self._sent
        self._sent = {}
        if not self._delivered([(HERALD, 0, b"")], None):
            return
        for chunk in self._chunks(source):
            if random.random() < self._rates.abort or not self._delivered(chunk, source):
                return

    def _chunks(self, source: Source) -> Iterator[list[tuple[int, int, bytes]]]:
        pieces = [
            (VMCORE, at, source.vmcore[at : at + PAYLOAD])
            for at in range(0, len(source.vmcore), PAYLOAD)
        ]
        for at in range(0, len(pieces), CHUNK):
            yield pieces[at : at + CHUNK]
        if self._random.random() < 0.9:
            yield [(KDH, 0, source.kdh)]
        if self._random.random() < 0.9:
            yield [(FINISHED, 0, b"")]

    def _delivered(self, chunk: list[tuple[int, int, bytes]], source: Source | None) -> bool:
        """Send a chunk until all of it is acked; False if that takes too many tries."""
        waiting = {}
        for kind, offset, payload in chunk:
            self._seqno += 1
            waiting[self._seqno] = kind, offset, payload
        for _ in range(TRIES):
            for seqno, (kind, offset, payload) in waiting.items():
                if self._random.random() >= self._rates.loss:
                    message = wire.header(kind, seqno, offset, len(payload)) + payload
                    self._socket.sendto(message, self._to)
                    self._sent[seqno] = time.monotonic()
            end = time.monotonic() + TIMEOUT
            while waiting and time.monotonic() < end:
                for seqno in self._heard(source is None):
                    kind, offset, _ = waiting.pop(seqno, (0, 0, b""))
                    late = time.monotonic() - self._before.get(seqno, 0.0) < LATE
                    if source is not None and kind == VMCORE and not late:
                        source.acked.add(offset)
                if source is None and self._to[1] != HERALD_PORT:
                    return True
            if not waiting:
                return True
        return False

    def _heard(self, heralding: bool) -> tuple[int, ...]:
        try:
            data, sender = self._socket.recvfrom(1 << 16)
        except (TimeoutError, ConnectionError):
            return ()
        if self._random.random() < self._rates.loss:
            return ()
        if heralding and len(data) % 4 == 0:
            self._to = sender
        return wire.acks(data)


class Judge(threading.Thread):
    """Reads what the server tells, and compares each dump with what its client sent."""

    def __init__(self, process: subprocess.Popen[str], clients: dict[str, Client]) -> None:
        super().__init__(daemon=True)
        self.verdicts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.ready = threading.Event()
        self._process = process
        self._clients = clients

    def run(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            if event["event"] == "listening":
                self.ready.set()
            elif event["event"] == "ended":
                self.verdicts[event["verdict"]] += 1
                if event["complete"]:
                    self._compare(event)

    def _compare(self, event: dict) -> None:
        files = event["files"]
        vmcore = Path(files["vmcore"]).read_bytes()
        kdh = Path(files["kdh"]).read_bytes() if files["kdh"] else None
        for source in self._clients[event["client"]].sources:
            if source.vmcore == vmcore and kdh in (None, source.kdh):
                source.acked.clear()  # all of it is there, and need not be looked for
                os.unlink(files["vmcore"])
                return
        self.wrong.append(f"{files['vmcore']}: {event['status']}, and is none that was sent")


def server_of(tracer: subprocess.Popen[str]) -> int:
    """The process that is traced."""
    return int(Path(f"/proc/{tracer.pid}/task/{tracer.pid}/children").read_text().split()[0])


def lost(client: Client, directory: Path) -> Iterator[str]:
    """Acked payloads of a client that are in none of its files."""
    found = directory.glob(f"*.{client.address}.*")
    files = [path for path in found if not path.is_symlink()]
    vmcores = [path.read_bytes() for path in files if path.name.startswith("vmcore")]
    others = b"".join(path.read_bytes() for path in files if path.name.startswith("other"))
    for number, source in enumerate(client.sources):
        for offset in source.acked:
            payload = source.vmcore[offset : offset + PAYLOAD]
            held = any(vmcore[offset : offset + len(payload)] == payload for vmcore in vmcores)
            if not held and payload not in others:
                yield f"{client.address} dump {number}: acked bytes at {offset} are nowhere"


def slow_disk() -> list[str]:
    """What makes some calls of a program take a second; nothing without strace(1)."""
    if shutil.which("strace") is None:
        print("no strace: the disk is as fast as it is")
        return []
    words = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null"]
    for call, every in SLOW.items():
        words += ["-e", f"inject={call}:delay_enter=1000000:when={every}+{every}"]
    return [*words, "-e", f"trace={','.join(SLOW)}"]


def soak(
    clients: int, seconds: float, rates: Rates, seed: int, directory: Path, before: list[str]
) -> int:
    """Run it, with the words ``before`` the server's command; returns the exit status."""
    command = [*before, sys.executable, "-m", "scapy_netdump", "serve", "--json", "-a", SERVER]
    command += ["-d", str(directory), "--herald-rate", "10000", "--max-clients", str(2 * clients)]
    command += ["--linger", "2"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    machines = [Client(number, rates, seed) for number in range(1, clients + 1)]
    judge = Judge(process, {machine.address: machine for machine in machines})
    judge.start()
    if not judge.ready.wait(30):
        raise SystemExit("the server did not start")
    pid = server_of(process) if before else process.pid
    for machine in machines:
        machine.start()
    random, end = Random(seed), time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(3)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(random.random())
        os.kill(pid, signal.SIGCONT)
    for machine in machines:
        machine.stop.set()
    for machine in machines:
        machine.join()
    os.kill(pid, signal.SIGTERM)
    process.wait(120)
    judge.join()
    missing = [line for machine in machines for line in lost(machine, directory)]
    sent = sum(len(machine.sources) for machine in machines)
    told = ", ".join(f"{count} {verdict}" for verdict, count in judge.verdicts.most_common())
    print(f"{sent} dumps begun by {clients} clients in {seconds:.0f} s; the server ended: {told}")
    print(f"complete and not what was sent: {len(judge.wrong)}; acked and nowhere: {len(missing)}")
    for line in [*judge.wrong, *missing][:20]:
        print(line)
    return 1 if judge.wrong or missing or process.returncode else 0


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--loss", type=float, default=0.02)
    parser.add_argument("--abort", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-slow-disk", dest="slow", action="store_false")
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="netdump-soak-"))
    try:
        rates = Rates(options.loss, options.abort)
        before = slow_disk() if options.slow else []
        return soak(options.clients, options.seconds, rates, options.seed, directory, before)
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    sys.exit(main())
