# SPDX-License-Identifier: GPL-2.0-or-later
"""Packets as frames, and frames as capture files: pcap and pcapng. Imports Scapy.

pcap is written by Scapy. pcapng is written here (draft-ietf-opsawg-pcapng), because
Scapy's writer knows one byte order and one section.
"""

import struct
from collections.abc import Iterable, Mapping, Sequence
from io import BytesIO
from ipaddress import ip_address
from typing import NamedTuple

from scapy.config import conf
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import CookedLinux, Ether
from scapy.packet import Packet, Padding
from scapy.utils import PcapWriter
from synthetic_dump import CRASHED_AT

_SECOND = 10**9
START = (CRASHED_AT + 5) * _SECOND
_INTERVAL = 20_123  # nanoseconds from frame to frame
_SMALLEST_FRAME = 60  # Ethernet's, without its check sequence
_UNLIMITED = 262144  # bytes of a frame that tcpdump(1) keeps

_SECTION, _INTERFACE, _ENHANCED_PACKET = 0x0A0D0D0A, 1, 6
_LOCAL_USE = 0x80000001  # a block type that nobody else knows
_COMMENT, _IF_NAME, _IF_TSRESOL = 1, 2, 9


class Frame(NamedTuple):
    """A frame, and when it was captured in nanoseconds since 1970."""

    time: int
    packet: Packet


def ethernet(packets: Iterable[Packet], *tags: Packet, start: int = START) -> list[Frame]:
    """Ethernet frames, with VLAN tags if any are given, small ones padded."""
    frames = []
    for packet in packets:
        ip = packet[IP] if IP in packet else packet[IPv6]
        frame = Ether(src=_mac(ip.src), dst=_mac(ip.dst))
        for tag in tags:
            frame /= tag
        frame /= packet
        padding = bytes(max(0, _SMALLEST_FRAME - len(frame)))
        frames.append(frame / Padding(padding) if padding else frame)
    return _timed(frames, start)


def linux_cooked(packets: Iterable[Packet], start: int = START) -> list[Frame]:
    """Frames as Linux shows them on the interface "any"."""
    from_whom = (bytes.fromhex(_mac(packet[IP].src).replace(":", "")) for packet in packets)
    cooked = [
        CookedLinux(lladdrtype=1, lladdrlen=6, src=mac) / packet
        for mac, packet in zip(from_whom, packets, strict=True)
    ]
    return _timed(cooked, start)


def _mac(address: str) -> str:
    """A locally administered address for a host."""
    return (b"\2\0" + ip_address(address).packed[-4:]).hex(":")


def _timed(frames: Iterable[Packet], start: int) -> list[Frame]:
    return [Frame(start + number * _INTERVAL, frame) for number, frame in enumerate(frames)]


def pcap(
    frames: Sequence[Frame], *, order: str = "<", nano: bool = False, snaplen: int = _UNLIMITED
) -> bytes:
    """A classic capture; ``order`` as in struct. Frames keep ``snaplen`` bytes at most."""
    file = BytesIO()
    link = conf.l2types.layer2num[type(frames[0].packet)]
    writer = PcapWriter(file, linktype=link, endianness=order, nano=nano, snaplen=snaplen)
    writer.write_header(None)
    for frame in frames:
        data = bytes(frame.packet)
        seconds, nanoseconds = divmod(frame.time, _SECOND)
        fraction = nanoseconds if nano else nanoseconds // 1000
        writer.write_packet(data[:snaplen], sec=seconds, usec=fraction, wirelen=len(data))
    return file.getvalue()


def pcapng_section(order: str, interfaces: Mapping[str, Sequence[Frame]]) -> bytes:
    """A section of a pcapng file; ``interfaces`` has the frames of each, by its name.

    The first interface counts microseconds, the others nanoseconds. There are options
    and a block that readers have to skip.
    """
    head = struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1)
    blocks = [_block(order, _SECTION, head + _options(order, {_COMMENT: b"a sample"}))]
    packets = []
    for number, (name, frames) in enumerate(interfaces.items()):
        digits = 9 if number else 6
        options = _options(order, {_IF_NAME: name.encode(), _IF_TSRESOL: bytes([digits])})
        link = conf.l2types.layer2num[type(frames[0].packet)]
        head = struct.pack(order + "HHI", link, 0, _UNLIMITED)
        blocks.append(_block(order, _INTERFACE, head + options))
        packets += [(frame, number, _SECOND // 10**digits) for frame in frames]
    blocks.append(_block(order, _LOCAL_USE, b"skip me"))
    for frame, number, tick in sorted(packets, key=lambda packet: packet[0].time):
        data = bytes(frame.packet)
        high, low = divmod(frame.time // tick, 1 << 32)
        head = struct.pack(order + "IIIII", number, high, low, len(data), len(data))
        blocks.append(_block(order, _ENHANCED_PACKET, head + _aligned(data)))
    return b"".join(blocks)


def _block(order: str, kind: int, body: bytes) -> bytes:
    body = _aligned(body)
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


def _options(order: str, options: Mapping[int, bytes]) -> bytes:
    packed = [
        struct.pack(order + "HH", code, len(value)) + _aligned(value)
        for code, value in options.items()
    ]
    return b"".join(packed) + bytes(4)


def _aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
