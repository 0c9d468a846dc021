# SPDX-License-Identifier: GPL-2.0-or-later
"""Recovery with other tools, as a user without this project would write it; for the benchmarks.

    python tests/benchmarks/others.py dpkt|tshark|scapy CAPTURE VMCORE

Each finds the VMCORE messages in a classic pcap and writes their payloads where they belong.
Imports netdump's numbers, and dpkt or Scapy when it is asked for: start-up counts.
"""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

from scapy_netdump.formats import ACK_PORT, NETDUMP_FORMAT, VMCORE

HEADER = struct.Struct(NETDUMP_FORMAT)

Piece = tuple[int, Any]


def pieces(datagrams: Iterator[bytes]) -> Iterator[Piece]:
    """The offset and payload of each VMCORE message."""
    for datagram in datagrams:
        if len(datagram) >= HEADER.size:
            type_, _seqno, offset, size, _aux2 = HEADER.unpack_from(datagram)
            if type_ == VMCORE and size == len(datagram) - HEADER.size:
                yield offset, datagram[HEADER.size :]


def with_dpkt(capture: str) -> Iterator[Piece]:
    """dpkt's reader, and its packets down to UDP."""
    import dpkt  # type: ignore[import-untyped]

    def datagrams() -> Iterator[bytes]:
        with open(capture, "rb") as file:
            for _time, frame in dpkt.pcap.Reader(file):
                udp = dpkt.ethernet.Ethernet(frame).data.data
                if isinstance(udp, dpkt.udp.UDP) and udp.sport == ACK_PORT:
                    yield udp.data

    return pieces(datagrams())


def with_tshark(capture: str) -> Iterator[Piece]:
    """tshark's field output, UDP payloads in hexadecimal."""
    command = ["tshark", "-r", capture, "-Y", f"udp.srcport == {ACK_PORT}"]
    command += ["-T", "fields", "-e", "udp.payload"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tshark:
        assert tshark.stdout is not None
        yield from pieces(map(bytes.fromhex, tshark.stdout))


def with_scapy(capture: str) -> Iterator[Piece]:
    """Scapy's reader, and this project's layers, a packet at a time."""
    from scapy.layers.l2 import Ether  # noqa: F401  (registers Ethernet for the reader)
    from scapy.utils import PcapReader

    from scapy_netdump.layers import Netdump

    with PcapReader(capture) as reader:
        for packet in reader:
            if Netdump in packet and packet[Netdump].type == VMCORE:
                message = packet[Netdump]
                yield message.offset, bytes(message.payload)


WAYS: dict[str, Callable[[str], Iterator[Piece]]] = {
    "dpkt": with_dpkt,
    "tshark": with_tshark,
    "scapy": with_scapy,
}


def main() -> int:
    way, capture, vmcore = sys.argv[1:]
    with open(vmcore, "wb") as file:
        for offset, payload in WAYS[way](capture):
            file.seek(offset)
            file.write(payload)
    return 0


if __name__ == "__main__":
    sys.exit(main())
