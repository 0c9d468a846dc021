# SPDX-License-Identifier: GPL-2.0-or-later
"""Real `netdump serve` processes, and a small client that talks to them."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scapy_netdump.formats import FINISHED, HERALD, VMCORE
from scapy_netdump.wire import acks, header

#: Seconds after which something will not come any more. Nothing waits as long when all is well.
PATIENCE = 30.0


class Serving:
    """`netdump serve --json` on a free port of an address, in a process of its own."""

    def __init__(
        self,
        directory: Path,
        *options: object,
        address: str = "127.0.0.1",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        command = [
            *(sys.executable, "-m", "scapy_netdump", "serve", "--json", "--port", "0"),
            *("-a", address, "-d", directory, "--ack-port", "source", *options),
        ]
        self.process = subprocess.Popen(
            [str(word) for word in command],
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(environment or {})},
        )
        self.address = address
        self.told: list[dict[str, Any]] = []
        self._events: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port: int = self.wait_for("listening")["port"]

    def __enter__(self) -> Serving:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                self._reader.join()
                stream.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._events.put(json.loads(line))
        self._events.put(None)

    def wait_for(self, kind: str) -> dict[str, Any]:
        """The next event of a kind; those before it are in ``told``."""
        while True:
            event = self._events.get(timeout=PATIENCE)
            if event is None:
                assert self.process.stderr is not None
                raise AssertionError(f"ended without {kind}: {self.process.stderr.read()}")
            self.told.append(event)
            if event["event"] == kind:
                return event

    def wait_for_end(self) -> None:
        """The end of its events."""
        while (event := self._events.get(timeout=PATIENCE)) is not None:
            self.told.append(event)

    def stop(self, number: int = signal.SIGTERM) -> str:
        """End it in good order; what it wrote to standard error. ``told`` has all events."""
        self.process.send_signal(number)
        assert self.process.wait(PATIENCE) == 0
        self.wait_for_end()
        assert self.process.stderr is not None
        errors = self.process.stderr.read()
        assert "Traceback" not in errors
        return errors

    def kinds(self) -> list[str]:
        """What was told, but for progress."""
        return [event["event"] for event in self.told if event["event"] != "progress"]


class Client:
    """Sends a dump message by message, as netdumpd's own test client does."""

    def __init__(self, serving: Serving, address: str | None = None) -> None:
        self._herald_end = serving.address, serving.port
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address or serving.address, 0))
        self.socket.settimeout(1.0)
        self.end = self._herald_end
        self.seqno = 0

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, kind: int, offset: int = 0, payload: bytes = b"") -> None:
        """Send a message until it is acked."""
        self.seqno += 1
        for _ in range(int(PATIENCE)):
            to = self._herald_end if kind == HERALD else self.end
            self.socket.sendto(header(kind, self.seqno, offset, len(payload)) + payload, to)
            try:
                answer, self.end = self.socket.recvfrom(100)
            except (TimeoutError, ConnectionRefusedError):
                continue
            if self.seqno in acks(answer):
                return
        raise AssertionError("no ack")

    def dump(self, vmcore: bytes, path: bytes = b"", *, finish: bool = True) -> None:
        """Send a whole dump."""
        self.send(HERALD, 0, path)
        for at in range(0, len(vmcore), 1000):
            self.send(VMCORE, at, vmcore[at : at + 1000])
        if finish:
            self.send(FINISHED)
