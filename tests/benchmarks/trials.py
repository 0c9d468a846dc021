# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs one transfer: a receiver and a sender, each on a core of its own, and what it cost.

Every file that was received is compared with what was sent. Linux only, and standard library only,
so that this process stays small while it waits.
"""

from __future__ import annotations

import json
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from measure import CommandFailed, blocks
from programs import Programs

SERVER = "127.66.0.1"  # addresses that nothing else uses, on the fixed port of HERALDs
FIRST_CLIENT = "127.66.1.1"
HERALD_PORT = 20023
PATIENCE = 300.0  # seconds for one transfer
STOPPING = 30.0  # seconds for a process to end after SIGTERM
POLL = 0.002


@dataclass(frozen=True, slots=True)
class Run:
    """What one transfer cost.

    ``size`` bytes in ``seconds``; the measured process used ``cpu`` seconds, and other load kept
    receiver and sender from their cores for ``waited`` seconds. ``peak``: its largest resident
    memory in bytes. ``resent``: messages sent more than once; ``lost``: messages that the link
    threw away; ``longest``: until the ack of a slow client beside a fast one, in milliseconds.
    """

    size: int
    seconds: float
    cpu: float
    waited: float
    peak: int
    resent: int
    lost: int = 0
    longest: float = 0.0

    @property
    def speed(self) -> float:
        """MB/s."""
        return self.size / 1e6 / self.seconds

    @property
    def cpu_per_gb(self) -> float:
        """CPU seconds of the measured process for each 10^9 bytes."""
        return self.cpu / (self.size / 1e9)


@dataclass(frozen=True, slots=True)
class Load:
    """What the generator does: options as generator.c tells them, on ``share`` x the size.

    The size is divided among ``clients``; ``slow`` clients come on top.
    """

    options: str = ""
    clients: int = 1
    slow: int = 0
    share: float = 1.0


def processor_clock(process: int) -> int:
    """The clock of all CPU time a process used (clock_getcpuclockid(3); the formula is Linux's)."""
    return (~process << 3) | 2


def stolen_time() -> float:
    """CPU time that the hypervisor took from this machine since boot (/proc/stat, proc_stat(5))."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return int(fields[8]) / os.sysconf("SC_CLK_TCK")


class Watch:
    """Clocks over a stretch of time: wall, CPU of some processes, what others kept from them."""

    def __init__(self, *processes: subprocess.Popen[str]) -> None:
        self._processes = [process.pid for process in processes]
        self._start = self._now()

    def _now(self) -> tuple[float, list[float], float]:
        used = [time.clock_gettime(processor_clock(number)) for number in self._processes]
        waited = stolen_time()
        for (
            number
        ) in self._processes:  # its second field: nanoseconds, ready to run but not running
            waited += int(Path(f"/proc/{number}/schedstat").read_text().split()[1]) / 1e9
        return time.monotonic(), used, waited

    def read(self) -> tuple[float, list[float], float]:
        """Since the start: seconds, CPU seconds of each process, seconds that they waited for
        their cores or the machine for its host."""
        now, used, waited = self._now()
        start, used_before, waited_before = self._start
        spent = [after - before for after, before in zip(used, used_before, strict=True)]
        return now - start, spent, waited - waited_before


def ahead_on(core: int) -> None:
    """Binds this process to a core and, if that is allowed, puts it ahead of others there.

    Where sessions are scheduled as groups, the group's nice value counts (sched(7), autogroup).
    """
    os.sched_setaffinity(0, {core})
    with suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text("-20")


def peak_memory(process: subprocess.Popen[str]) -> int:
    """The most resident memory of a running process so far, in bytes (proc_pid_status(5))."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise CommandFailed(f"{process.args!r} ended early")


def listening() -> bool:
    """Whether someone waits for HERALDs at our address (/proc/net/udp, proc_net(5))."""
    address = int.from_bytes(socket.inet_aton(SERVER), sys.byteorder)
    return f" {address:08X}:{HERALD_PORT:04X} " in Path("/proc/net/udp").read_text()


@contextmanager
def running(
    command: list[str],
    core: int,
    place: Path,
    environment: dict[str, str] | None = None,
    stdin: int = subprocess.DEVNULL,
) -> Iterator[subprocess.Popen[str]]:
    """A process that is bound to a core, and stopped at the end if it still runs."""
    with (place / f"{Path(command[0]).name}.stderr").open("w") as messages:
        process = subprocess.Popen(
            command,
            cwd=place,
            env={**os.environ, **(environment or {})},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=messages,
            text=True,
            start_new_session=True,
            preexec_fn=partial(ahead_on, core),
        )
    try:
        yield process
    finally:
        with process:
            process.kill()


def ended(process: subprocess.Popen[str], place: Path, patience: float) -> str:
    """The output of a process that ends well by itself or by a signal sent to it before."""
    try:
        output, _ = process.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"no end in {patience:.0f} s: {process.args!r}") from None
    if process.returncode not in (0, -signal.SIGTERM):
        name = Path(process.args[0]).name  # type: ignore[index]
        said = (place / f"{name}.stderr").read_text().strip()
        raise CommandFailed(f"status {process.returncode}: {process.args!r}: {said}")
    return output


def stopped(process: subprocess.Popen[str], place: Path) -> str:
    process.send_signal(signal.SIGTERM)
    return ended(process, place, STOPPING)


def facts(output: str, process: subprocess.Popen[str]) -> dict[str, Any]:
    """The JSON object in the last line of a program's output."""
    try:
        found = json.loads(output.splitlines()[-1])
    except (ValueError, LookupError):
        raise CommandFailed(f"no figures from {process.args!r}: {output!r}") from None
    assert isinstance(found, dict)
    return found


def begins_like(file: Path, source: Path) -> bool:
    """Whether a file is the source or a first part of it."""
    pairs = zip(blocks(file), blocks(source), strict=False)
    return file.stat().st_size <= source.stat().st_size and all(
        theirs.startswith(ours) for ours, theirs in pairs
    )


def verify(place: Path, source: Path, clients: int) -> None:
    """Checks that so many whole copies of the source were received, and nothing else.

    Slow clients send a part of it. Raises CommandFailed.
    """
    files = [
        path
        for path in place.glob("vmcore*")
        if not path.is_symlink() and path.suffix != ".map"
    ]  # fmt: skip
    wrong = [path.name for path in files if not begins_like(path, source)]
    whole = sum(path.stat().st_size == source.stat().st_size for path in files)
    if wrong or whole != clients:
        raise CommandFailed(f"{whole} of {clients} received files are whole; wrong: {wrong}")


class Bench:
    """A place for files, two cores, the programs, and the size of what is transferred."""

    def __init__(self, directory: Path, programs: Programs, netdump: str, size: int) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self._receiver_core, self._sender_core = cores[0], cores[-1]
        self._directory = directory
        self._programs = programs
        self._netdump = shlex.split(netdump)
        self._size = size

    def source(self, share: float) -> Path:
        """A file to send, of random bytes; made when first asked for."""
        size = int(self._size * share)
        path = self._directory / f"source-{size}"
        if not path.exists():
            with path.open("wb") as file:
                for start in range(0, size, 1 << 20):
                    file.write(os.urandom(min(1 << 20, size - start)))
        return path

    def server(self, offload: bool = True) -> tuple[list[str], dict[str, str]]:
        """The command and environment of the server that is measured.

        Without offload its system can neither join nor split datagrams.
        """
        preload = {} if offload else {"LD_PRELOAD": str(self._programs.without_offload)}
        return [*self._netdump, "serve", "-a", SERVER, "-d", "."], preload

    def c_server(self) -> tuple[list[str], dict[str, str]]:
        """The server to compare with."""
        return [str(self._programs.server), SERVER], {}

    def receive(self, server: tuple[list[str], dict[str, str]], load: Load) -> Run:
        """A server under load from the generator. Raises CommandFailed."""
        source = self.source(load.share / load.clients)
        generator = [str(self._programs.generator), "-a", FIRST_CLIENT, "-c", str(load.clients)]
        generator += [*load.options.split(), "-s", str(load.slow), SERVER, str(source)]
        with self._receiver(*server) as (receiver, place):
            core, pipe = self._sender_core, subprocess.PIPE
            with running(generator, core, place, stdin=pipe) as sender:
                assert sender.stdout
                assert sender.stdin
                if not sender.stdout.readline():
                    ended(sender, place, STOPPING)  # tells why
                watch = Watch(receiver, sender)
                sender.stdin.write("\n")
                sender.stdin.flush()
                line = sender.stdout.readline()
                _, (cpu, _), waited = watch.read()
                ended(sender, place, STOPPING)
            found = facts(line, sender)
            peak = peak_memory(receiver)
            stopped(receiver, place)
            verify(place, source, load.clients)
        seconds, longest = found["seconds"], found["slow_longest_ms"]
        return Run(found["bytes"], seconds, cpu, waited, peak, found["resent"], longest=longest)

    def client(self, options: str) -> list[str]:
        """The command of the client that is measured; {source} stands for the file it sends."""
        return [*self._netdump, "send", "{source}", "-s", SERVER, "--port", "0", *options.split()]

    def c_client(self, options: str) -> list[str]:
        """The generator as a client, with its options."""
        return [str(self._programs.generator), *f"-p 0 {options}".split(), SERVER, "{source}"]

    def send(self, client: list[str], link: str, share: float) -> Run:
        """A client that sends to the sink; ``link`` is the sink's options. Raises CommandFailed."""
        source = self.source(share)
        size = source.stat().st_size
        sink = [str(self._programs.sink), *link.split(), SERVER, "vmcore", str(size)]
        with self._receiver(sink, {}) as (receiver, place):
            _, (_, cpu), waited = self._deliver(client, source, receiver, place)
            found = facts(stopped(receiver, place), receiver)
            verify(place, source, 1)
        resent = found["came"] - found["received"]
        return Run(size, found["seconds"], cpu, waited, 0, resent, found["lost"])

    def send_to_server(self, client: list[str], share: float) -> Run:
        """A client that sends to our server, from its start to its end. Raises CommandFailed."""
        source = self.source(share)
        command, environment = self.server()
        with self._receiver([*command, "--ack-port", "source"], environment) as (receiver, place):
            seconds, (cpu, _), waited = self._deliver(client, source, receiver, place)
            peak = peak_memory(receiver)
            stopped(receiver, place)
            verify(place, source, 1)
        return Run(source.stat().st_size, seconds, cpu, waited, peak, 0)

    @contextmanager
    def _receiver(
        self, command: list[str], environment: dict[str, str]
    ) -> Iterator[tuple[subprocess.Popen[str], Path]]:
        """A receiver that listens, in a new directory."""
        if listening():
            raise CommandFailed(f"another server listens on {SERVER} port {HERALD_PORT}")
        with TemporaryDirectory(dir=self._directory) as name:
            place = Path(name)
            with running(command, self._receiver_core, place, environment) as receiver:
                end = time.monotonic() + STOPPING
                while not listening():
                    if receiver.poll() is not None or time.monotonic() > end:
                        ended(receiver, place, POLL)  # tells why
                    time.sleep(POLL)
                yield receiver, place

    def _deliver(
        self, client: list[str], source: Path, receiver: subprocess.Popen[str], place: Path
    ) -> tuple[float, list[float], float]:
        """Runs a client; what the clocks tell of its time. Raises CommandFailed."""
        command = [str(source) if word == "{source}" else word for word in client]
        with running(command, self._sender_core, place) as sender:
            watch = Watch(receiver, sender)
            sender_end = os.pidfd_open(sender.pid)
            select.select([sender_end], [], [], PATIENCE)
            os.close(sender_end)
            read = watch.read()  # before anyone waits for the process: its clock is still there
            ended(sender, place, STOPPING)
        return read
