# SPDX-License-Identifier: GPL-2.0-or-later
"""Capture files piece by piece, for the odd ones, and what the readers find in them.

    from captures import block, datagrams_in, frames_in, record, small_windows

traffic.py makes whole captures of netdump traffic; here are the parts that files with
damage, several sections or strange interfaces are put together from. ``frames_in`` and
``datagrams_in`` read a file given as bytes, mapped or as a stream.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple
from unittest.mock import patch

from scapy_netdump.capture import chain as chain_module
from scapy_netdump.capture import windows as windows_module
from scapy_netdump.capture.datagrams import DatagramFinder
from scapy_netdump.capture.frames import Frames
from scapy_netdump.capture.reader import CaptureReader
from scapy_netdump.capture.source import Source, open_source
from scapy_netdump.core.observing.batch import Batch, Bytes, Flow

ETHERNET = 1

SECTION = 0x0A0D0D0A
INTERFACE, OLD_PACKET, SIMPLE_PACKET, NAMES, STATISTICS, ENHANCED = 1, 2, 3, 4, 5, 6
CUSTOM = 0x00000BAD


class Seen(NamedTuple):
    """A frame as a reader found it."""

    time: float
    data: bytes
    original: int
    link: int


class SeenDatagram(NamedTuple):
    """A datagram as a reader found it: ``data`` is what was captured of ``length`` bytes."""

    time: float
    flow: Flow
    data: bytes
    length: int


# The classic file


def pcap_header(
    order: str = "<", nano: bool = False, snaplen: int = 262_144, link: int = ETHERNET
) -> bytes:
    magic = 0xA1B23C4D if nano else 0xA1B2C3D4
    return struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snaplen, link)


def record(
    data: bytes,
    time: tuple[int, int] = (1_700_000_000, 0),
    original: int | None = None,
    order: str = "<",
    included: int | None = None,
) -> bytes:
    """A record; ``time`` in seconds and ticks, ``included`` what it claims to hold."""
    size = len(data)
    lengths = size if included is None else included, size if original is None else original
    return struct.pack(order + "IIII", *time, *lengths) + data


# pcapng


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


def section(order: str = "<", options: bytes = b"") -> bytes:
    return block(SECTION, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1) + options, order)


def interface(
    link: int = ETHERNET, snaplen: int = 0, options: bytes = b"", order: str = "<"
) -> bytes:
    return block(INTERFACE, struct.pack(order + "HHI", link, 0, snaplen) + options, order)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def enhanced(
    data: bytes,
    ticks: int = 0,
    number: int = 0,
    original: int | None = None,
    options: bytes = b"",
    order: str = "<",
) -> bytes:
    sizes = len(data), len(data) if original is None else original
    head = struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, *sizes)
    return block(ENHANCED, head + data + bytes(-len(data) % 4) + options, order)


def simple(data: bytes, original: int | None = None, order: str = "<") -> bytes:
    size = len(data) if original is None else original
    return block(SIMPLE_PACKET, struct.pack(order + "I", size) + data, order)


def old_packet(data: bytes, ticks: int = 0, number: int = 0, order: str = "<") -> bytes:
    head = struct.pack(
        order + "HHIIII", number, 0xFFFF, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data)
    )
    return block(OLD_PACKET, head + data, order)


# What is found


class StreamSource(Source):
    """Bytes that come as from a pipe."""

    def __init__(self, data: bytes) -> None:
        super().__init__("stream")
        self._data = data

    def read_into(self, buffer: memoryview) -> int:
        piece, self._data = self._data[: len(buffer)], self._data[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        self._data = b""


class Recorder(DatagramFinder):
    """A finder that keeps the frames that it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Seen] = []

    def find(self, buffer: Bytes, frames: Frames) -> Batch:
        columns = (frames.time, frames.start, frames.captured, frames.original, frames.link)
        for time, start, captured, original, link in zip(
            *(column.tolist() for column in columns), strict=True
        ):
            self.seen.append(Seen(time, buffer[start : start + captured].tobytes(), original, link))
        return super().find(buffer, frames)


@contextmanager
def opened(data: bytes, mapped: bool) -> Iterator[Source]:
    if not mapped:
        yield StreamSource(data)
        return
    with tempfile.NamedTemporaryFile(prefix="capture") as file:
        file.write(data)
        file.flush()
        with open_source(file.name) as source:
            yield source


def frames_in(
    data: bytes, *, careful: bool = False, mapped: bool = True
) -> tuple[list[Seen], list[str]]:
    """The frames of a capture, and what the reader says is wrong, without the name."""
    recorder = Recorder()
    with opened(data, mapped) as source:
        reader = CaptureReader(source, recorder, careful)
        for _ in reader:
            pass
        prefix = f"{source.name}: "
    assert reader.frames == len(recorder.seen)
    return recorder.seen, [problem.removeprefix(prefix) for problem in reader.problems]


def cut_at(place: int, left: int) -> list[str]:
    """The problems of a capture that ends within the record at ``place``."""
    left_out = "1 byte" if left == 1 else f"{left} bytes"
    return [f"record that reaches beyond the end at byte {place}: the last {left_out} left out"]


def datagrams_in(
    data: bytes, *, careful: bool = False, mapped: bool = True, port: int | None = None
) -> list[SeenDatagram]:
    """The datagrams of a capture that may be netdump."""
    found: list[SeenDatagram] = []
    with opened(data, mapped) as source:
        for batch in CaptureReader(source, DatagramFinder(port, careful), careful):
            found += seen_in(batch)
    return found


def seen_in(batch: Batch) -> list[SeenDatagram]:
    """The datagrams of a batch."""
    columns = (batch.time, batch.flow, batch.start, batch.captured, batch.length)
    return [
        SeenDatagram(
            time, batch.flows[flow], batch.buffer[start : start + captured].tobytes(), length
        )
        for time, flow, start, captured, length in zip(
            *(column.tolist() for column in columns), strict=True
        )
    ]


@contextmanager
def small_windows(size: int, lane_spacing: int = 1 << 14, min_lanes: int = 16) -> Iterator[None]:
    """Windows of ``size`` bytes, so that records straddle them everywhere, and lanes close
    enough for a small capture. No record may be longer than a window."""
    changes = [
        (windows_module, "WINDOW", size),
        (windows_module, "_BUFFER", size),
        (windows_module, "_FIRST_WINDOW", min(size, 1 << 16)),
        (chain_module, "LANE_SPACING", lane_spacing),
        (chain_module, "MIN_LANES", min_lanes),
    ]
    with ExitStack() as stack:
        for module, name, value in changes:
            stack.enter_context(patch.object(module, name, value))
        yield
