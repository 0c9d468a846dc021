# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes a capture of what goes through a server's or a client's own sockets.

The file is pcapng (draft-ietf-opsawg-pcapng): one section, one interface of raw IP packets, a
packet block a datagram. A socket does not tell what the headers were: addresses, ports and
lengths are right, all else is as plain as may be (RFC 768, RFC 791, RFC 8200).
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from itertools import chain
from pathlib import Path
from typing import TypeAlias

from ..errors import CaptureError
from ..wire import HEADER_SIZE, Buffer, messages
from .link import RAW_IP

#: A packed address (4 or 16 bytes) and a UDP port.
Endpoint: TypeAlias = tuple[bytes, int]

_UDP = 17
_HOPS = 64
_UDP_HEADER = 8

#: The largest UDP payload of an IPv4 packet; its 16-bit length counts the headers too.
LARGEST_PAYLOAD = 65535 - 20 - _UDP_HEADER

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_BYTE_ORDER, _VERSION, _LENGTH_UNKNOWN = 0x1A2B3C4D, (1, 0), -1
_OPTION_END, _OPTION_HARDWARE, _OPTION_APPLICATION = 0, 2, 4
_OPTION_NAME, _OPTION_TICKS = 2, 9
_NANOSECONDS = b"\x09"  # ten to the minus ninth

_BUFFER = 1 << 20
_FLUSH_INTERVAL = 1.0  # seconds

#: Files of one name, with their numbers.
_MOST_FILES = 10_000


class CaptureTap:
    """Writes datagrams into a capture, as they were on the wire before a system joined them."""

    def __init__(self, writer: PcapngWriter) -> None:
        self._writer = writer

    def datagrams(
        self,
        source: tuple[str, int],
        destination: tuple[str, int],
        data: Buffer,
        sizes: Sequence[int],
    ) -> None:
        """Datagrams of these ``sizes``, end to end in ``data``, went from one to the other."""
        ends = (_packed(source[0]), source[1]), (_packed(destination[0]), destination[1])
        if len(ends[0][0]) != len(ends[1][0]):
            return  # an end that is not known: no packet can be made of it
        self._writer.write(_datagrams(memoryview(data), sizes), *ends)


def _datagrams(data: memoryview, sizes: Sequence[int]) -> Iterator[memoryview]:
    position = 0
    for size in sizes:
        datagram = data[position : position + size]
        if size <= HEADER_SIZE:  # an ack, or a message without a payload
            yield datagram
        else:
            yield from _apart(datagram)
        position += size


def _apart(data: memoryview) -> Iterator[memoryview]:
    """A datagram, or those that it was joined from (UDP_GRO): each message was one."""
    found = messages(data)
    begin = 0
    for message in found[:-1]:
        yield data[begin : message.end]
        begin = message.end
    if begin < len(data):
        yield data[begin:]


@lru_cache(maxsize=1024)
def _packed(address: str) -> bytes:
    """An address as its 4 or 16 bytes; IPv4 in IPv6's clothes is IPv4."""
    known = ip_address(address.partition("%")[0])
    if isinstance(known, IPv6Address) and known.ipv4_mapped:
        known = known.ipv4_mapped
    return known.packed


class PcapngWriter:
    """A new capture file of datagrams. A dump holds secrets: others may not read the file.

    ``path`` is what it is called: where there is a file of the name that was asked for, say since
    a program was killed, it is kept, and the new one has a number (``NAME-1.pcapng``).
    ``problem`` says, in one line, why nothing more is written, if that is so: whoever is
    captured goes on.
    """

    problem: str | None = None

    def __init__(self, path: Path, application: str, name: str) -> None:
        """``application`` and ``name`` (of the interface) are told to readers of the file.

        CaptureError if the file cannot be made.
        """
        self.path, descriptor = _new_file(path)
        self._file = open(descriptor, "wb", _BUFFER)  # noqa: SIM115
        self._flushed = time.monotonic()
        self._write(section(application) + interface(RAW_IP, name))
        self.flush()

    def give_to(self, uid: int, gid: int) -> None:
        """Have the file belong to this user and group."""
        os.fchown(self._file.fileno(), uid, gid)

    def write(
        self, payloads: Iterable[bytes | memoryview], source: Endpoint, destination: Endpoint
    ) -> None:
        """Add datagrams that went from ``source`` to ``destination`` just now.

        Readers see them within a second, if others follow; else after ``flush``.
        """
        now = time.time_ns()
        blocks = []
        for payload in payloads:
            payload = payload[:LARGEST_PAYLOAD]
            blocks.append(packet(now, udp_headers(source, destination, payload), payload))
        self._write(b"".join(blocks))
        if time.monotonic() - self._flushed > _FLUSH_INTERVAL:
            self.flush()

    def flush(self) -> None:
        """Let readers see what was written up to now."""
        self._flushed = time.monotonic()
        if self.problem is None:
            try:
                self._file.flush()
            except OSError as error:
                self._fail(error)

    def close(self) -> None:
        """Write what is left."""
        self.flush()
        if self.problem is None:
            self._file.close()

    def _write(self, block: bytes) -> None:
        if self.problem is None:
            try:
                self._file.write(block)
            except OSError as error:
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.problem = f"{self.path}: the capture ends here: {error.strerror}"
        with suppress(OSError):  # it tries once more to write what it holds
            self._file.close()


def _new_file(path: Path) -> tuple[Path, int]:
    """The first of the names that is free, and a descriptor. CaptureError if there is none."""
    numbered = (path.with_name(f"{path.stem}-{n}{path.suffix}") for n in range(1, _MOST_FILES))
    try:
        for name in chain((path,), numbered if path.is_file() else ()):
            with suppress(FileExistsError):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                return name, os.open(name, flags, 0o600)
    except OSError as error:
        raise CaptureError(f"{path}: cannot be written: {error.strerror}") from None
    raise CaptureError(f"{path}: is there already; move it away first")


def section(application: str) -> bytes:
    """The Section Header Block with which a file begins."""
    head = struct.pack("<IHHq", _BYTE_ORDER, *_VERSION, _LENGTH_UNKNOWN)
    return _block(_SECTION, head + _options((_OPTION_APPLICATION, application.encode())))


def interface(link: int, name: str) -> bytes:
    """The Interface Description Block of packets with times in nanoseconds."""
    head = struct.pack("<HHI", link, 0, 0)  # no snap length
    return _block(
        _INTERFACE, head + _options((_OPTION_NAME, name.encode()), (_OPTION_TICKS, _NANOSECONDS))
    )


def packet(nanoseconds: int, headers: bytes, payload: bytes | memoryview) -> bytes:
    """The Enhanced Packet Block of a packet on interface 0; the time counts from 1970."""
    size = len(headers) + len(payload)
    total = 32 + size + -size % 4
    return b"".join(
        (
            struct.pack("<IIIIIII", _PACKET, total, 0, *divmod(nanoseconds, 1 << 32), size, size),
            headers,
            payload,
            bytes(-size % 4),
            struct.pack("<I", total),
        )
    )


def _block(kind: int, body: bytes) -> bytes:
    total = 12 + len(body)
    return struct.pack("<II", kind, total) + body + struct.pack("<I", total)


def _options(*options: tuple[int, bytes]) -> bytes:
    """Options, each filled up to a multiple of four bytes, and the one that ends them."""
    parts: list[bytes] = []
    for code, value in (*options, (_OPTION_END, b"")):
        parts += struct.pack("<HH", code, len(value)), value, bytes(-len(value) % 4)
    return b"".join(parts)


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
