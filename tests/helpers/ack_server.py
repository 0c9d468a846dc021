# SPDX-License-Identifier: GPL-2.0-or-later
"""A server that acks as netdumpd does and keeps nothing: a thread, or a process of its own.

python ack_server.py ADDRESS
"""

from __future__ import annotations

import select
import socket
import struct
import sys
import threading
from collections.abc import Callable

Answer = Callable[[bytes], list[bytes]]


def ack_once(message: bytes) -> list[bytes]:
    return [message[4:8]]


def as_netdumpd(message: bytes) -> list[bytes]:
    """It takes no payload of more than 4096 bytes, and says nothing (PROTOCOL.md, its fault 2)."""
    return ack_once(message) if len(message) <= 24 + 4096 else []


class Server(threading.Thread):
    """Answers HERALDs from a new port each, and what comes to those ports from there."""

    def __init__(self, address: str, ack_port: int | None = 20024, port: int = 0) -> None:
        super().__init__(daemon=True)
        self.family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.address, self.ack_port = address, ack_port
        self.answer: Answer = ack_once
        self.heard: list[tuple[int, bytes]] = []  # the port that a message came to, and it
        self._bell, self._rung = socket.socketpair()
        self.herald_socket = self._open(port)
        self.port: int = self.herald_socket.getsockname()[1]
        self.sockets = [self.herald_socket]

    def _open(self, port: int = 0) -> socket.socket:
        opened = socket.socket(self.family, socket.SOCK_DGRAM)
        opened.bind((self.address, port))
        return opened

    def run(self) -> None:
        while True:
            ready, _, _ = select.select([self._rung, *self.sockets], [], [])
            if self._rung in ready:
                return
            for opened in ready:
                self._hear(opened)

    def _hear(self, opened: socket.socket) -> None:
        message, sender = opened.recvfrom(65535)
        self.heard.append((opened.getsockname()[1], message))
        if opened is self.herald_socket:
            if message[:4] != struct.pack("!I", 1):
                return
            opened = self._open()
            self.sockets.append(opened)
        for answer in self.answer(message):
            opened.sendto(answer, (sender[0], self.ack_port or sender[1]))

    def close(self) -> None:
        self._bell.close()
        self.join(10)
        for opened in (self._rung, *self.sockets):
            opened.close()


if __name__ == "__main__":
    server = Server(sys.argv[1], port=20023)
    print("listening", flush=True)
    server.run()
