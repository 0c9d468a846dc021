# SPDX-License-Identifier: GPL-2.0-or-later
"""ICMP errors as a router, or a stranger, sends them; needs root, for a raw socket.

python icmp.py CLIENT SERVER MTU: "fragmentation needed" for all ports of the server that a dump may
go to, again and again.
"""

from __future__ import annotations

import socket
import struct
import sys
import time

_UDP, _ICMP = 17, 1


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    words = sum(struct.unpack(f"!{len(data) // 2}H", data))
    return ~(words + (words >> 16) + (words >> 32)) & 0xFFFF


def too_big(client: tuple[str, int], server: tuple[str, int], mtu: int) -> bytes:
    """ICMPv6 "packet too big" (RFC 4443, 3.2) for a datagram that the client sent to the server.
    The system fills in the checksum."""
    addresses = [socket.inet_pton(socket.AF_INET6, end[0]) for end in (client, server)]
    ip = struct.pack("!IHBB16s16s", 6 << 28, 1480, _UDP, 64, *addresses)
    udp = struct.pack("!HHHH", client[1], server[1], 1480, 0)
    return struct.pack("!BBHI", 2, 0, 0, mtu) + ip + udp


def error(
    kind: int, code: int, client: tuple[str, int], server: tuple[str, int], mtu: int = 0
) -> bytes:
    """An ICMP error (RFC 792) for a datagram that the client sent to the server; ``mtu`` is that
    of the next hop (RFC 1191)."""
    addresses = [socket.inet_aton(end[0]) for end in (client, server)]
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 1500, 1, 0x4000, 64, _UDP, 0, *addresses)
    udp = struct.pack("!HHHH", client[1], server[1], 1480, 0)
    rest = struct.pack("!BBHHH", kind, code, 0, 0, mtu)
    checksum = _checksum(rest + ip + udp)
    return struct.pack("!BBHHH", kind, code, checksum, 0, mtu) + ip + udp


class Forger:
    """Sends ICMP errors to a client, from the server's address."""

    def __init__(self, client: tuple[str, int], server: str) -> None:
        self._client, self._server = client, server
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, _ICMP)
        self._socket.bind((server, 0))

    def send(self, port: int, kind: int, code: int, mtu: int = 0) -> None:
        packet = error(kind, code, self._client, (self._server, port), mtu)
        self._socket.sendto(packet, (self._client[0], 0))

    def close(self) -> None:
        self._socket.close()


if __name__ == "__main__":
    forger = Forger((sys.argv[1], 20024), sys.argv[2])
    print("forging", flush=True)
    while True:
        for port in (20023, 40_000):
            forger.send(port, 3, 4, int(sys.argv[3]))
        time.sleep(0.001)
