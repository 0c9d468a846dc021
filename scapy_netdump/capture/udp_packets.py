# SPDX-License-Identifier: GPL-2.0-or-later
"""IP packets around UDP payloads, for captures of what went through a socket.

A socket does not tell what the headers were: addresses, ports and lengths are right, all else
is as plain as may be. RFC 768, RFC 791, RFC 8200. Standard library only.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TypeAlias

#: A packed address (4 or 16 bytes) and a UDP port.
Endpoint: TypeAlias = tuple[bytes, int]

_UDP = 17
_HOPS = 64
_UDP_HEADER = 8

#: The largest UDP payload of an IPv4 packet; its 16-bit length counts the headers too.
LARGEST_PAYLOAD = 65535 - 20 - _UDP_HEADER


def udp_headers(source: Endpoint, destination: Endpoint, payload: bytes | memoryview) -> bytes:
    """The IP and UDP headers of ``payload``; both addresses must be of one kind."""
    length = _UDP_HEADER + len(payload)
    addresses = source[0] + destination[0]
    if len(addresses) == 8:
        return _ipv4_headers(source, destination, length)
    udp = struct.pack("!HHHH", source[1], destination[1], length, 0)
    ip = struct.pack("!IHBB", 6 << 28, length, _UDP, _HOPS) + addresses
    pseudo = addresses + struct.pack("!II", length, _UDP)
    checksum = _checksum(b"".join((pseudo, udp, payload))) or 0xFFFF  # IPv6 insists on one
    return ip + udp[:6] + struct.pack("!H", checksum)


@lru_cache(maxsize=1024)
def _ipv4_headers(source: Endpoint, destination: Endpoint, length: int) -> bytes:
    """The same for all datagrams of a length: UDP's checksum is 0, which says there is none."""
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, _HOPS, _UDP, 0)
    ip += source[0] + destination[0]
    ip = ip[:10] + struct.pack("!H", _checksum(ip)) + ip[12:]
    return ip + struct.pack("!HHHH", source[1], destination[1], length, 0)


def _checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071): adding words with the carry brought round is counting
    modulo 65535, which the whole number does at once."""
    words = int.from_bytes(data, "big") << 8 * (len(data) % 2)
    rest = words % 0xFFFF
    return 0xFFFF ^ (rest if rest or not words else 0xFFFF)
