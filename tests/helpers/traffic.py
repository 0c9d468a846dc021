# SPDX-License-Identifier: GPL-2.0-or-later
"""Synthetic netdump traffic for tests: describe a dump, get what a capture would show.

    from traffic import Dump, batch, header, lose, mirrored, pcap

    dump = Dump(vmcore=os.urandom(100_000), kdh=header(100_000), path=b"lab\\0")
    seen = mirrored(dump.traffic())            # a list of Datagrams, in the order seen
    observer.observe(batch(seen))              # straight into the core,
    Path("x.pcap").write_bytes(pcap(seen))     # or a capture file: pcap, pcapng

Everything on the way is a list of ``Datagram``; functions that spoil it (``lose``,
``mirrored``, ``coalesced``, ``snapped``, ``shuffled``, ``interleaved``) take such a list
and return another, so that they combine. ``frames`` wraps Ethernet, IP and UDP around
each. What is random takes a ``random.Random``. Imports no Scapy.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import count, groupby, pairwise
from random import Random
from typing import Any, NamedTuple

import numpy as np

from scapy_netdump import formats, wire
from scapy_netdump.core.observing.batch import Batch, Flow
from scapy_netdump.kerneldump.header import parity_of

CLIENT, SERVER = "10.99.0.2", "10.99.0.1"
EPHEMERAL_PORT = 41885
START = 1_700_000_000.0

#: What the kernel client sends at MTU 1500: payloads of 1448, chunks of 64 KiB.
PAYLOAD, CHUNK = 1448, 1 << 16


class Datagram(NamedTuple):
    """A UDP datagram as a capture shows it: addresses as text, time in seconds since 1970.
    ``captured``: how many bytes of the payload are there; None for all."""

    time: float
    source: str
    sport: int
    destination: str
    dport: int
    payload: bytes
    captured: int | None = None

    @property
    def kept(self) -> bytes:
        """The part of the payload that was captured."""
        return self.payload if self.captured is None else self.payload[: self.captured]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dump:
    """One dump, as a client sends it. Sizes in bytes.

    ``kdh`` and ``key`` are sent if they are not empty; ``kdh_first`` puts the header
    before the data (the kernel sends it last). ``ack_port``: where the server sends acks
    to, the client's own port if None. ``seqnos``: the numbers of the messages in their
    order, 1, 2, 3 if None; ``finished_seqno`` makes an exception of the last one.
    ``window``: how many messages go out before their acks come.
    ``loss`` loses that share of messages and of acks, the client sends its unacked ones
    again until they are acked, and the capture is taken ``at`` the "client" or "server".
    """

    vmcore: bytes = field(default=b"", repr=False)
    client: str = CLIENT
    client_port: int = formats.ACK_PORT
    server: str = SERVER
    server_port: int = EPHEMERAL_PORT
    ack_port: int | None = None
    path: bytes = b""
    heralded: bool = True
    finished: bool = True
    acked: bool = True
    kdh: bytes = b""
    kdh_first: bool = False
    key: bytes = b""
    payload: int = PAYLOAD
    chunk: int = CHUNK
    window: int = 1
    first_seqno: int = 1
    finished_seqno: int | None = None
    aux2: int = 0
    start: float = START
    interval: float = 1e-5
    loss: float = 0.0
    at: str = "client"
    seed: int = 0

    def traffic(self) -> list[Datagram]:
        """What a capture shows of it, messages and acks, from HERALD to FINISHED."""
        return [
            datagram._replace(time=self.start + place * self.interval)
            for place, datagram in enumerate(self._exchange(Random(self.seed)))
        ]

    def message(self, kind: int, seqno: int, offset: int = 0, data: bytes = b"") -> Datagram:
        """One message of this dump's client; a HERALD goes to the HERALD port."""
        port = formats.HERALD_PORT if kind == formats.HERALD else self.server_port
        head = struct.pack(formats.NETDUMP_FORMAT, kind, seqno, offset, len(data), self.aux2)
        return Datagram(self.start, self.client, self.client_port, self.server, port, head + data)

    def ack(self, seqno: int) -> Datagram:
        """One ack to this dump's client."""
        port = self.client_port if self.ack_port is None else self.ack_port
        return Datagram(
            self.start, self.server, self.server_port, self.client, port, wire.ack(seqno)
        )

    def chunks(self) -> Iterator[list[Datagram]]:
        """The messages without acks, as far as the client sends them before it waits."""
        seqnos = count(self.first_seqno)
        parts = [(formats.EKCD_KEY, self.key), (formats.VMCORE, self.vmcore)]
        parts.insert(0 if self.kdh_first else 2, (formats.KDH, self.kdh))
        if self.heralded:
            yield [self.message(formats.HERALD, next(seqnos), 0, self.path)]
        for kind, data in parts:
            for begin in range(0, len(data), self.chunk):
                chunk = data[begin : begin + self.chunk]
                yield [
                    self.message(kind, next(seqnos), begin + at, chunk[at : at + self.payload])
                    for at in range(0, len(chunk), self.payload)
                ]
        if self.finished:
            last = next(seqnos) if self.finished_seqno is None else self.finished_seqno
            yield [self.message(formats.FINISHED, last)]

    def _exchange(self, random: Random) -> Iterator[Datagram]:
        for unacked in self.chunks():
            while unacked:
                rest = []
                for begin in range(0, len(unacked), self.window):
                    acks = []
                    for message in unacked[begin : begin + self.window]:
                        arrived, answered = (random.random() >= self.loss for _ in range(2))
                        if arrived or self.at == "client":
                            yield message
                        if self.acked and arrived and (answered or self.at == "server"):
                            acks.append(self.ack(seqno_of(message)))
                        if not (arrived and answered):
                            rest.append(message)
                    yield from acks
                unacked = rest


def seqno_of(message: Datagram) -> int:
    """The sequence number of a message."""
    return wire.messages(message.payload)[0].seqno


def header(dumplength: int, version: int = 4, **fields: Any) -> bytes:
    """A kernel dump header; fields by their C names, its parity right unless given."""
    layout, names = formats.KDH_LAYOUTS[version]
    values: dict[str, Any] = {
        "magic": formats.MAGICS[0],
        "architecture": b"amd64",
        "architectureversion": 2,
        "dumptime": int(START),
        "blocksize": 4096,
        "hostname": b"crashed.example.org",
        "versionstring": b"FreeBSD 14.1-RELEASE\n  GENERIC\n",
        "panicstring": b"page fault",
        "version": version,
        "dumplength": dumplength,
        "unused": b"",
        **fields,
    }
    data = struct.pack(layout, *(values.get(name, 0) for name in names))
    return data if "parity" in fields else data[:-4] + struct.pack("!I", parity_of(data[:-4]))


def key_blob(random: Random, size: int = 4096) -> bytes:
    """A key as a kernel sends it: ChaCha20, a one-time key of 256 bytes, padded to a block."""
    data = struct.pack("!B32sI", 2, random.randbytes(32), 256) + random.randbytes(256)
    return data.ljust(size, b"\0")


# What happens to traffic on its way


def lose(traffic: Sequence[Datagram], rate: float, random: Random) -> list[Datagram]:
    """The capture misses some, which arrived all the same."""
    return [datagram for datagram in traffic if random.random() >= rate]


def mirrored(traffic: Sequence[Datagram]) -> list[Datagram]:
    """A mirror port shows each frame twice."""
    return [datagram for datagram in traffic for _ in range(2)]


def shuffled(traffic: Sequence[Datagram], distance: int, random: Random) -> list[Datagram]:
    """Each one comes up to ``distance`` places late."""
    places = [place + random.random() * (distance + 1) for place in range(len(traffic))]
    return [traffic[row] for row in sorted(range(len(traffic)), key=places.__getitem__)]


def interleaved(random: Random, *streams: Sequence[Datagram]) -> list[Datagram]:
    """Several streams at once, each in its own order."""
    turns = [number for number, stream in enumerate(streams) for _ in stream]
    random.shuffle(turns)
    iterators = [iter(stream) for stream in streams]
    return [next(iterators[turn]) for turn in turns]


def snapped(traffic: Sequence[Datagram], size: int) -> list[Datagram]:
    """A snap length leaves at most ``size`` bytes of each payload."""
    return [datagram._replace(captured=min(size, len(datagram.payload))) for datagram in traffic]


def coalesced(traffic: Sequence[Datagram], most: int = 44) -> list[Datagram]:
    """A host that coalesces UDP: neighbours of one flow become one super-frame of up to
    ``most``, as GRO makes them: all the same size, but the last may be shorter."""
    merged: list[Datagram] = []
    for _, same_flow in groupby(traffic, key=lambda datagram: datagram[1:5]):
        sizes: list[int] = []
        for datagram in same_flow:
            size = len(datagram.payload)
            if sizes and len(sizes) < most and size <= sizes[0] == sizes[-1]:
                merged[-1] = merged[-1]._replace(payload=merged[-1].payload + datagram.payload)
                sizes.append(size)
            else:
                merged.append(datagram)
                sizes = [size]
    return merged


# From datagrams to what the readers and the core take


def batch(traffic: Sequence[Datagram]) -> Batch:
    """Datagrams as the core takes them, without a capture file between."""
    flows: dict[Flow, int] = {}
    number = [
        flows.setdefault(
            Flow(_packed(seen.source), seen.sport, _packed(seen.destination), seen.dport),
            len(flows),
        )
        for seen in traffic
    ]
    kept = [seen.kept for seen in traffic]
    captured = np.array([len(data) for data in kept], np.int64)
    return Batch(
        buffer=np.frombuffer(b"".join(kept), np.uint8),
        start=np.cumsum(captured) - captured,
        captured=captured,
        length=np.array([len(seen.payload) for seen in traffic], np.int64),
        flow=np.array(number, np.int64),
        time=np.array([seen.time for seen in traffic], np.float64),
        flows=list(flows),
    )


def batches(traffic: Sequence[Datagram], cuts: Iterable[int]) -> Iterator[Batch]:
    """The same in several batches, cut before the places ``cuts``."""
    edges = [0, *sorted(cut for cut in set(cuts) if 0 < cut < len(traffic)), len(traffic)]
    for begin, end in pairwise(edges):
        yield batch(traffic[begin:end])


class Frame(NamedTuple):
    """An Ethernet frame: time in seconds since 1970, the bytes captured, the size sent."""

    time: float
    data: bytes
    original: int


def frames(traffic: Iterable[Datagram], vlan: int | None = None) -> Iterator[Frame]:
    """Ethernet frames around datagrams, with right checksums; IPv6 for such addresses."""
    for seen in traffic:
        head = _ethernet(seen, vlan) + _ip(seen) + _udp(seen)
        size = len(head) + len(seen.payload)
        padding = b"" if seen.captured is not None else bytes(max(0, 60 - size))
        yield Frame(seen.time, head + seen.kept + padding, max(60, size))


def pcap(
    traffic: Iterable[Datagram] | Iterable[Frame], order: str = "<", nano: bool = False
) -> bytes:
    """A classic pcap file, Ethernet; ``order`` is struct's byte order."""
    magic, scale = (0xA1B23C4D, 10**9) if nano else (0xA1B2C3D4, 10**6)
    parts = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 262144, 1)]
    for frame in _framed(traffic):
        ticks = round(frame.time * scale)
        lengths = len(frame.data), frame.original
        parts += [struct.pack(order + "IIII", *divmod(ticks, scale), *lengths), frame.data]
    return b"".join(parts)


def pcapng(traffic: Iterable[Datagram] | Iterable[Frame], order: str = "<") -> bytes:
    """A pcapng file of one section, one Ethernet interface and Enhanced Packet Blocks."""
    block = _Block(order)
    parts = [
        block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1)),
        block(1, struct.pack(order + "HHI", 1, 0, 262144)),
    ]
    for frame in _framed(traffic):
        ticks = round(frame.time * 10**6)
        lengths = len(frame.data), frame.original
        head = struct.pack(order + "IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF, *lengths)
        parts.append(block(6, head + frame.data))
    return b"".join(parts)


def _Block(order: str) -> Callable[[int, bytes], bytes]:
    def block(kind: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 4)
        size = struct.pack(order + "I", len(body) + 12)
        return struct.pack(order + "I", kind) + size + body + size

    return block


def _framed(traffic: Iterable[Any]) -> Iterator[Frame]:
    for seen in traffic:
        if isinstance(seen, Frame):
            yield seen
        else:
            yield from frames([seen])


def _packed(address: str) -> bytes:
    return ip_address(address).packed


def _mac(address: str) -> bytes:
    return b"\2\0" + _packed(address)[-4:]


def _ethernet(seen: Datagram, vlan: int | None) -> bytes:
    tag = b"" if vlan is None else struct.pack("!HH", 0x8100, vlan)
    kind = b"\x86\xdd" if ":" in seen.source else b"\x08\x00"
    return _mac(seen.destination) + _mac(seen.source) + tag + kind


def _ip(seen: Datagram) -> bytes:
    ends = _packed(seen.source) + _packed(seen.destination)
    size = 8 + len(seen.payload)
    if ":" in seen.source:
        return struct.pack("!IHBB", 6 << 28, size, 17, 255) + ends
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + size, 0, 0x4000, 255, 17, 0) + ends
    return head[:10] + struct.pack("!H", _checksum(head)) + head[12:]


def _udp(seen: Datagram) -> bytes:
    size = 8 + len(seen.payload)
    pseudo = _packed(seen.source) + _packed(seen.destination) + struct.pack("!II", size, 17)
    head = struct.pack("!HHHH", seen.sport, seen.dport, size, 0)
    return head[:6] + struct.pack("!H", _checksum(pseudo + head + seen.payload) or 0xFFFF)


def _checksum(data: bytes) -> int:
    """The Internet checksum, RFC 1071."""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    return ~(total % 0xFFFF or (0xFFFF if total else 0)) & 0xFFFF
