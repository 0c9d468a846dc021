# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes a pcapng capture of UDP payloads (draft-ietf-opsawg-pcapng).

One section, one interface of raw IP packets, a packet block a datagram. The functions make
the blocks, the class keeps the file. Imports link.py for the link type, and udp_packets.py.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ..errors import CaptureError
from .link import RAW_IP
from .udp_packets import LARGEST_PAYLOAD, Endpoint, udp_headers

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_BYTE_ORDER, _VERSION, _LENGTH_UNKNOWN = 0x1A2B3C4D, (1, 0), -1
_OPTION_END, _OPTION_HARDWARE, _OPTION_APPLICATION = 0, 2, 4
_OPTION_NAME, _OPTION_TICKS = 2, 9
_NANOSECONDS = b"\x09"  # ten to the minus ninth

_BUFFER = 1 << 20
_FLUSH_INTERVAL = 1.0  # seconds


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


class PcapngWriter:
    """A new capture file of datagrams. A dump holds secrets: others may not read the file.

    ``problem`` says, in one line, why nothing more is written, if that is so: whoever is
    captured goes on.
    """

    problem: str | None = None

    def __init__(self, path: Path, application: str, name: str) -> None:
        """``application`` and ``name`` (of the interface) are told to readers of the file.

        CaptureError if the file cannot be made, or is there already.
        """
        self._path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            descriptor = os.open(path, flags, 0o600)
        except FileExistsError:
            raise CaptureError(f"{path}: is there already; move it away first") from None
        except OSError as error:
            raise CaptureError(f"{path}: cannot be written: {error.strerror}") from None
        self._file = open(descriptor, "wb", _BUFFER)  # noqa: SIM115
        self._flushed = time.monotonic()
        self._write(section(application) + interface(RAW_IP, name))
        self.flush()

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
        self.problem = f"{self._path}: the capture ends here: {error.strerror}"
        with suppress(OSError):  # it tries once more to write what it holds
            self._file.close()
