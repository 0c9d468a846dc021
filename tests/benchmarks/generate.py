# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes big captures of a netdump, as the FreeBSD kernel client sends one, for the benchmarks.

    python tests/benchmarks/generate.py OUT --size 1000MiB --payload 1448 --format pcap --seed 1

writes the capture OUT and, beside it, OUT.sha256: the SHA-256 of the vmcore that a right recovery
rebuilds. Seen on the wire are ARP, HERALD and the ack that names the ephemeral port, VMCORE
messages in chunks of 64 KiB with each ack one to three data frames behind, KDH and FINISHED.
``--noise`` repeats 1 % of the frames, displaces another 1 % by a few positions and mixes in 5 % of
other traffic. The same arguments give the same bytes.

Numpy lays out all frames of one length at once, so a gigabyte takes seconds, in memory that does
not grow with the size. Imports numpy, Scapy for the other traffic, and this project's layers
for the dump header.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from frames import (
    CLIENT_IP,
    CLIENT_MAC,
    SERVER_IP,
    SERVER_MAC,
    Array,
    acks,
    file_header,
    messages,
    pcap_records,
    pcapng_records,
)
from numpy.lib.stride_tricks import sliding_window_view
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Packet, Raw

from scapy_netdump.formats import FINISHED, HERALD, KDH, VMCORE
from scapy_netdump.layers import KernelDumpHeader

CHUNK = 64 * 1024  # the kernel fills a buffer of this size before it sends (MAXDUMPPGS)
CHUNKS_PER_BLOCK = 64  # vmcore bytes held at a time: 4 MiB
LONGEST_DELAY = 3  # data frames between a data frame and its ack
PAGE = 4096
START = 1_794_500_000_000_000  # microseconds since 1970: November 2026


@dataclass(frozen=True, slots=True)
class Options:
    """What to make: vmcore bytes, payload bytes of a message, pcap or pcapng, seed, noise."""

    size: int
    payload: int
    format: str
    seed: int
    noise: bool


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames of one length: structured rows, and where each belongs in the block (a sort key)."""

    rows: Array
    key: Array

    def __len__(self) -> int:
        return len(self.key)


def dump_header(dumplength: int) -> bytes:
    """A version 4 kernel dump header for ``dumplength`` bytes of vmcore."""
    return bytes(
        KernelDumpHeader(
            dumplength=dumplength,
            dumpextent=dumplength,
            dumptime=START // 1_000_000,
            hostname="crashbox.example.org",
            versionstring="FreeBSD 15.0-RELEASE\n",
            panicstring="page fault",
        )
    )


# ---------------------------------------------------------------- the dump


def vmcore_blocks(size: int, rng: np.random.Generator) -> Iterator[Array]:
    """The vmcore in blocks: pages of random bytes and pages of few different words in turn."""
    words = rng.integers(0, 2**64, 16, np.uint64)  # repeated like the pointers of a real kernel
    for start in range(0, size, CHUNK * CHUNKS_PER_BLOCK):
        pages = np.empty((CHUNK * CHUNKS_PER_BLOCK // PAGE, PAGE // 8), np.uint64)
        half = (len(pages) // 2, PAGE // 8)
        pages[0::2] = rng.integers(0, 2**64, half, np.uint64)
        pages[1::2] = words[rng.integers(0, len(words), half, np.uint8)]
        yield pages.reshape(-1).view(np.uint8)[: size - start]


def split(size: int, payload: int) -> tuple[Array, Array]:
    """Offsets and lengths of the messages for ``size`` bytes, which begin with a chunk."""
    offset = np.add.outer(np.arange(0, size, CHUNK), np.arange(0, CHUNK, payload)).ravel()
    offset = offset[offset < size]
    end = np.minimum(offset // CHUNK * CHUNK + CHUNK, size)
    return offset, np.minimum(payload, end - offset)


def vmcore_frames(
    data: Array, start: int, seqno: Array, payload: int, rng: np.random.Generator
) -> list[Frames]:
    """VMCORE messages and their acks for ``data``, which belongs at offset ``start``."""
    offset, length = split(len(data), payload)
    # A chunk's last acks come before the next chunk: the kernel waits for them.
    key = np.arange(len(offset)) + offset // CHUNK * (LONGEST_DELAY + 1.0)
    found = []
    for size in np.unique(length):
        of_size = np.flatnonzero(length == size)
        content = sliding_window_view(data, int(size))[offset[of_size]]
        rows = messages(VMCORE, seqno[of_size], start + offset[of_size], content)
        found.append(Frames(rows, key[of_size]))
    acked = key + rng.integers(1, LONGEST_DELAY + 1, len(key)) + 0.5
    return [*found, Frames(acks(seqno), np.maximum.accumulate(acked))]


def single(type: int, seqno: int, payload: bytes = b"") -> list[Frames]:
    """One message and its ack."""
    number = np.array([seqno])
    content = np.array([list(payload)], np.uint8)
    return [
        Frames(messages(type, number, np.array([0]), content), np.array([0.0])),
        Frames(acks(number), np.array([1.0])),
    ]


def raw(packet: Packet, key: Array) -> Frames:
    """A frame that is not netdump's, once for each of ``key``."""
    octets = bytes(packet)
    return Frames(np.full(len(key), np.void(octets), f"V{len(octets)}"), key)


def arp_exchange() -> list[Frames]:
    """The client asks for the server's address, and is told."""
    question = ARP(op=1, hwsrc=CLIENT_MAC, psrc=CLIENT_IP, pdst=SERVER_IP)
    answer = ARP(op=2, hwsrc=SERVER_MAC, psrc=SERVER_IP, hwdst=CLIENT_MAC, pdst=CLIENT_IP)
    return [
        raw(Ether(src=CLIENT_MAC, dst="ff:ff:ff:ff:ff:ff") / question, np.array([0.0])),
        raw(Ether(src=SERVER_MAC, dst=CLIENT_MAC) / answer, np.array([1.0])),
    ]


# ---------------------------------------------------------------- noise


def disturbed(frames: Frames, rng: np.random.Generator) -> Frames:
    """One frame in a hundred comes twice, one in a hundred up to four positions off."""
    times = 1 + (rng.random(len(frames)) < 0.01)
    rows, key = np.repeat(frames.rows, times), np.repeat(frames.key, times)
    moved = rng.random(len(key)) < 0.01
    return Frames(rows, key + moved * rng.uniform(-4, 4, len(key)))


def other_traffic(rng: np.random.Generator) -> list[Packet]:
    """Frames of other protocols and hosts, to and from the machines of the dump as well."""
    ether: Packet = Ether(src=SERVER_MAC, dst="02:00:00:00:99:03")
    web: Packet = IP(src=SERVER_IP, dst="10.99.0.3", id=1) / TCP(sport=443, dport=50123, flags="A")
    syslog: Packet = UDP(sport=514, dport=514) / Raw(b"<13>Nov 12 16:13:20 crashbox kernel: hello")
    quic: Packet = UDP(sport=443, dport=61000)
    ip6: Packet = IPv6(src="2001:db8::1", dst="2001:db8::2")
    return [
        ether / ARP(op=1, hwsrc=SERVER_MAC, psrc=SERVER_IP, pdst="10.99.0.3"),
        ether / web,
        ether / web / Raw(rng.bytes(1460)),
        ether / IP(src=SERVER_IP, dst="10.99.0.4") / syslog,
        ether / IP(src="10.99.0.5", dst=SERVER_IP) / quic / Raw(rng.bytes(1350)),
        ether / ip6 / TCP(sport=22, dport=50999, flags="PA") / Raw(rng.bytes(180)),
        ether / ip6 / quic / Raw(rng.bytes(1232)),
    ]


def mixed(frames: list[Frames], traffic: list[Packet], rng: np.random.Generator) -> list[Frames]:
    """The frames of a block, disturbed, among 5 % other traffic."""
    count = sum(map(len, frames)) // 20
    kind = rng.integers(0, len(traffic), count)
    key = rng.uniform(0, max(part.key.max() for part in frames), count)
    others = [raw(packet, key[kind == number]) for number, packet in enumerate(traffic)]
    return [*(disturbed(part, rng) for part in frames), *others]


# ---------------------------------------------------------------- putting it together


class Writer:
    """Appends blocks of frames to a capture file, in key order, each some microseconds later."""

    def __init__(self, file: BinaryIO, format: str, rng: np.random.Generator) -> None:
        self._file = file
        self._records = pcap_records if format == "pcap" else pcapng_records
        self._rng = rng
        self._time = START
        file.write(file_header(format))

    def write(self, frames: list[Frames]) -> None:
        order = np.argsort(np.concatenate([part.key for part in frames]), kind="stable")
        time = np.empty(len(order), np.int64)
        time[order] = self._time + self._rng.integers(1, 12, len(order)).cumsum()
        self._time = int(time.max())
        records: list[bytes] = []
        for part in frames:
            first = len(records)
            rows = self._records(part.rows, time[first : first + len(part)])
            records += rows.view(f"V{rows.dtype.itemsize}").tolist()
        self._file.write(b"".join(map(records.__getitem__, order.tolist())))


def generate(path: Path, options: Options) -> str:
    """Writes the capture, and returns the SHA-256 of its vmcore (hexadecimal)."""
    rng = np.random.default_rng(options.seed)
    digest = hashlib.sha256()
    noise = partial(mixed, traffic=other_traffic(rng), rng=rng) if options.noise else list
    with path.open("wb") as file:
        writer = Writer(file, options.format, rng)
        writer.write(arp_exchange())
        writer.write(single(HERALD, 1))
        start, seqno = 0, 2
        for data in vmcore_blocks(options.size, rng):
            digest.update(data.data)
            numbers = seqno + np.arange(len(split(len(data), options.payload)[0]))
            writer.write(noise(vmcore_frames(data, start, numbers, options.payload, rng)))
            start, seqno = start + len(data), seqno + len(numbers)
        writer.write(single(KDH, seqno, dump_header(options.size)))
        writer.write(single(FINISHED, seqno + 1))
    return digest.hexdigest()


def byte_count(text: str) -> int:
    """``1000MiB``, ``4096`` or ``3.5GB`` as a number of bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(?:([KMG])(i?)B)?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 1000MiB or 1GB")
    number, unit, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** (" KMG".index(unit or " ")))


def payload_size(text: str) -> int:
    """A number of bytes that fits in an IPv4 datagram with its 52 bytes of headers."""
    if not text.isdecimal() or not 1 <= int(text) <= 65535 - 52:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {65535 - 52}")
    return int(text)


def main() -> int:
    parser = argparse.ArgumentParser(description="make a big capture of a netdump")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--size", type=byte_count, default="1000MiB", help="bytes of vmcore")
    parser.add_argument("--payload", type=payload_size, default=1448, help="bytes a message")
    parser.add_argument("--format", choices=("pcap", "pcapng"), default="pcap")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--noise", action="store_true", help="duplicates, reorder, other traffic")
    arguments = parser.parse_args()
    options = Options(**{name: value for name, value in vars(arguments).items() if name != "out"})
    line = generate(arguments.out, options) + "  vmcore\n"
    Path(f"{arguments.out}.sha256").write_text(line)
    sys.stdout.write(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
