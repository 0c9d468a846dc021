# SPDX-License-Identifier: GPL-2.0-or-later
"""From captured frames to the UDP datagrams that may be netdump.

The usual frame (Ethernet, IPv4 without options or fragments, UDP) is picked out by
numpy, and what is surely something else is dropped the same way. Whatever remains, be it
tagged, IPv6, a fragment or on another link layer, takes the careful path, one at a time.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from .. import formats
from ..core.observing.batch import Batch, Bytes, Flow, Ints, Mask, gather
from ..core.observing.messages import MOST_OF_HERALD, heralds
from ..wire import HEADER_SIZE
from .frames import Frames
from .ip import Datagram, UdpDecoder
from .link import ETHERNET, network_layer

_IPV4, _ARP, _IPV6 = 0x0800, 0x0806, 0x86DD  # EtherTypes
_TCP, _UDP, _ICMPV6 = 6, 17, 58  # IP protocols

#: Ethernet, IPv4 (RFC 791) and UDP (RFC 768) headers one after the other.
_HEADERS = np.dtype(
    {
        "names": ["ethertype", "version_ihl", "total", "fragment", "protocol", "addresses",
                  "ports", "sport", "dport", "length"],
        "formats": [">u2", "u1", ">u2", ">u2", "u1", "u8", "u4", ">u2", ">u2", ">u2"],
        "offsets": [12, 14, 16, 20, 23, 26, 34, 34, 36, 38],
        "itemsize": 42,
    }
)  # fmt: skip
#: The same for IPv6 (RFC 8200), as far as it tells whether to look closer.
_IPV6_HEADERS = np.dtype(
    {
        "names": ["ethertype", "next", "sport", "dport", "length"],
        "formats": [">u2", "u1", ">u2", ">u2", ">u2"],
        "offsets": [12, 20, 54, 56, 58],
        "itemsize": 60,
    }
)
_RAW_HEADERS = f"V{_HEADERS.itemsize}"
_USUAL_PORTS = (formats.HERALD_PORT, formats.ACK_PORT)
_Headers: TypeAlias = npt.NDArray[Any]
_IP_AT = 14
_UDP_AT = 34
_UDP_HEADER = 8
_FRAGMENTED = 0x3FFF  # More Fragments and the offset; Don't Fragment does not matter

#: Flows that are told apart by one comparison each before all are sorted.
_FEW_FLOWS = 8


class _Rows(NamedTuple):
    """Datagrams as columns; ``frame`` is the row of the frame."""

    frame: Ints
    start: Ints
    captured: Ints
    length: Ints
    flow: Ints


class DatagramFinder:
    """Finds the datagrams on netdump's ports, and on those of clients with ports of their own.

    A datagram to the HERALD port, or one that has the form of a HERALD, makes its sender's port
    one to look for.
    """

    def __init__(self, port: int | None = None, careful: bool = False) -> None:
        """``port`` is looked for as well; ``careful`` sends every frame down the careful path."""
        self._wanted = np.zeros(1 << 16, np.bool_)
        self._wanted[[formats.HERALD_PORT, formats.ACK_PORT]] = True
        if port is not None:
            self._wanted[port] = True
        self._careful = careful
        self._udp = UdpDecoder()

    def find(self, buffer: Bytes, frames: Frames) -> Batch:
        """The datagrams of some frames, in their order."""
        if self._careful:
            usual, headers = np.empty(0, np.int64), np.empty(0, _HEADERS)
            odd = np.arange(len(frames))
        else:
            usual, headers, odd = _sort_out(buffer, frames)
            self._learn(headers["sport"], headers["dport"])
            payloads = frames.start[usual] + _HEADERS.itemsize
            self._learn_odd(buffer, frames, usual, headers, payloads)
            odd = self._without_other_ipv6(buffer, frames, odd)
        others = self._decode(buffer, frames, odd)
        ports = np.array([(found.sport, found.dport) for _, found in others], np.int64)
        self._learn(*ports.reshape(-1, 2).T)
        for row, datagram in others:
            if datagram.dport not in _USUAL_PORTS and _is_herald(buffer, frames, row, datagram):
                self._wanted[datagram.sport] = True
        others = [(row, datagram) for row, datagram in others if self._is_wanted(datagram)]
        flows: list[Flow] = []
        rows = self._usual_rows(frames, usual, headers, flows)
        if others:
            rows = _merge(rows, self._other_rows(frames, others, flows))
        if any(datagram.data is not None for _, datagram in others):
            buffer, rows = _copied(buffer, rows, others)
        return Batch(
            buffer, rows.start, rows.captured, rows.length, rows.flow, frames.time[rows.frame],
            flows,
        )  # fmt: skip

    def _without_other_ipv6(self, buffer: Bytes, frames: Frames, odd: Ints) -> Ints:
        """Rows less those of UDP in IPv6 on Ethernet, without extension headers or tags, whose
        ports are not wanted: a busy network is full of them."""
        whole = (frames.link[odd] == ETHERNET) & (frames.captured[odd] >= _IPV6_HEADERS.itemsize)
        rows = odd[whole]
        headers = gather(buffer, frames.start[rows], f"V{_IPV6_HEADERS.itemsize}")
        headers = headers.view(_IPV6_HEADERS)
        other = (headers["ethertype"] == _IPV6) & (headers["next"] == _UDP)
        self._learn(headers["sport"][other], headers["dport"][other])
        payloads = frames.start[rows] + _IPV6_HEADERS.itemsize + 2  # the checksum
        self._learn_odd(buffer, frames, rows[other], headers[other], payloads[other])
        other &= ~(self._wanted[headers["sport"]] | self._wanted[headers["dport"]])
        return np.sort(np.concatenate((odd[~whole], rows[~other])))

    def _decode(self, buffer: Bytes, frames: Frames, odd: Ints) -> list[tuple[int, Datagram]]:
        """The datagrams of the frames that need care, each with the row of its frame."""
        found = []
        data = buffer.data
        columns = (frames.start, frames.captured, frames.original, frames.time, frames.link)
        rows = zip(odd.tolist(), *(column[odd].tolist() for column in columns), strict=True)
        for row, start, captured, original, time, link in rows:
            frame = data[start : start + captured]
            layer = network_layer(link, frame)
            if layer is None:
                continue
            datagram = self._udp.decode(frame, *layer, time, original)
            if datagram is not None:
                found.append((row, datagram))
        return found

    def _learn(self, sport: Ints, dport: Ints) -> None:
        """Look for the ports that HERALDs come from."""
        self._wanted[sport[dport == formats.HERALD_PORT]] = True

    def _learn_odd(
        self, buffer: Bytes, frames: Frames, rows: Ints, headers: _Headers, payloads: Ints
    ) -> None:
        """Look for the ports that HERALDs to any other port come from: ``payloads`` is where those
        of the frames ``rows`` begin."""
        size = headers["length"]
        fit = (size >= _UDP_HEADER + HEADER_SIZE) & (size <= _UDP_HEADER + MOST_OF_HERALD)
        odd = np.flatnonzero(fit & ~self._wanted[headers["sport"]])
        if not len(odd):
            return
        sport, length = headers["sport"][odd], size[odd].astype(np.int64) - _UDP_HEADER
        captured = frames.start[rows[odd]] + frames.captured[rows[odd]] - payloads[odd]
        found = heralds(buffer, payloads[odd], np.minimum(captured, length), length)
        self._wanted[sport[found & ~np.isin(headers["dport"][odd], _USUAL_PORTS)]] = True

    def _is_wanted(self, datagram: Datagram) -> bool:
        return bool(self._wanted[datagram.sport] or self._wanted[datagram.dport])

    def _usual_rows(
        self, frames: Frames, usual: Ints, headers: _Headers, flows: list[Flow]
    ) -> _Rows:
        wanted = self._wanted[headers["sport"]] | self._wanted[headers["dport"]]
        if not wanted.all():
            usual, headers = usual[wanted], _pick(headers, wanted)
        length = headers["length"].astype(np.int64) - _UDP_HEADER
        captured = np.minimum(frames.captured[usual] - _HEADERS.itemsize, length)
        flow = _number_flows(headers["addresses"], headers["ports"], flows)
        return _Rows(usual, frames.start[usual] + _HEADERS.itemsize, captured, length, flow)

    def _other_rows(
        self, frames: Frames, others: list[tuple[int, Datagram]], flows: list[Flow]
    ) -> _Rows:
        numbers = {flow: number for number, flow in enumerate(flows)}
        rows = []
        for row, datagram in others:
            number = numbers.setdefault(Flow(*datagram[:4]), len(numbers))
            start = int(frames.start[row]) + datagram.start
            rows.append((row, start, datagram.captured, datagram.length, number))
        flows[:] = numbers
        return _Rows(*np.array(rows, np.int64).reshape(-1, len(_Rows._fields)).T)


def _is_herald(buffer: Bytes, frames: Frames, row: int, datagram: Datagram) -> bool:
    data, start = buffer, int(frames.start[row]) + datagram.start
    if datagram.data is not None:
        data, start = np.frombuffer(datagram.data, np.uint8), datagram.start
    columns = (np.array([number]) for number in (start, datagram.captured, datagram.length))
    return bool(heralds(data, *columns)[0])


def _sort_out(buffer: Bytes, frames: Frames) -> tuple[Ints, _Headers, Ints]:
    """The rows of frames that hold a usual datagram, their headers, and the rows that need
    care; the others hold no UDP."""
    long_enough = (frames.link == ETHERNET) & (frames.captured >= _HEADERS.itemsize)
    rows = np.arange(len(frames)) if long_enough.all() else np.flatnonzero(long_enough)
    headers = gather(buffer, frames.start[rows], _RAW_HEADERS).view(_HEADERS)
    plain = _is_plain(headers, frames.original[rows])
    odd = np.flatnonzero(~long_enough)
    if not plain.all():
        others = np.flatnonzero(~plain)
        odd_here = others[~_is_irrelevant(_pick(headers, others))]
        odd = np.sort(np.concatenate((odd, rows[odd_here])))
        rows, headers = rows[plain], _pick(headers, plain)
    return rows, headers, odd


def _pick(headers: _Headers, rows: Ints | Mask) -> _Headers:
    """Some of the headers; taken as plain bytes, which numpy copies faster than fields."""
    return headers.view(_RAW_HEADERS)[rows].view(_HEADERS)


def _is_plain(headers: _Headers, original: Ints) -> Mask:
    """Whether whole UDP in IPv4 without options, with lengths that agree."""
    length = headers["length"].astype(np.int64)
    return np.asarray(
        (headers["ethertype"] == _IPV4)
        & (headers["version_ihl"] == 0x45)
        & (headers["protocol"] == _UDP)
        & (headers["fragment"] & _FRAGMENTED == 0)
        & (headers["total"] == length + _UDP_AT - _IP_AT)
        & (length >= _UDP_HEADER)
        & (original >= length + _UDP_AT)
    )


def _is_irrelevant(headers: _Headers) -> Mask:
    """Whether something that cannot hold UDP."""
    ipv6_next_header = headers["fragment"] >> 8
    return np.asarray(
        (headers["ethertype"] == _ARP)
        | (headers["ethertype"] == _IPV4) & (headers["protocol"] != _UDP)
        | (headers["ethertype"] == _IPV6) & np.isin(ipv6_next_header, (_TCP, _ICMPV6))
    )


def _number_flows(
    addresses: npt.NDArray[np.uint64], ports: npt.NDArray[np.uint32], flows: list[Flow]
) -> Ints:
    """A number for each row by its flow; the flows themselves are added to ``flows``."""
    numbers = np.zeros(len(ports), np.int64)
    rows = np.arange(len(ports))
    addresses, ports = np.ascontiguousarray(addresses), np.ascontiguousarray(ports)
    while len(rows) and len(flows) < _FEW_FLOWS:
        number = len(flows)
        flows.append(_flow(addresses[0].tobytes(), ports[0].tobytes()))
        others = np.flatnonzero((addresses != addresses[0]) | (ports != ports[0]))
        rows, addresses, ports = rows[others], addresses[others], ports[others]
        numbers[rows] = number + 1
    if len(rows):
        order = np.lexsort((ports, addresses))
        changes = (np.diff(addresses[order]) != 0) | (np.diff(ports[order]) != 0)
        for group in np.split(order, np.flatnonzero(changes) + 1):
            numbers[rows[group]] = len(flows)
            flows.append(_flow(addresses[group[0]].tobytes(), ports[group[0]].tobytes()))
    return numbers


def _flow(addresses: bytes, ports: bytes) -> Flow:
    sport, dport = (int.from_bytes(port, "big") for port in (ports[:2], ports[2:]))
    return Flow(addresses[:4], sport, addresses[4:], dport)


def _merge(some: _Rows, others: _Rows) -> _Rows:
    order = np.argsort(np.concatenate((some.frame, others.frame)), kind="stable")
    return _Rows(*(np.concatenate(pair)[order] for pair in zip(some, others, strict=True)))


def _copied(buffer: Bytes, rows: _Rows, others: list[tuple[int, Datagram]]) -> tuple[Bytes, _Rows]:
    """All payloads in a buffer of their own: those put together from fragments are in none."""
    reassembled = {row: datagram for row, datagram in others if datagram.data is not None}
    pieces = []
    for frame, start, captured in zip(
        rows.frame.tolist(), rows.start.tolist(), rows.captured.tolist(), strict=True
    ):
        datagram = reassembled.get(frame)
        if datagram is not None and datagram.data is not None:
            pieces.append(datagram.data[datagram.start :][:captured])
        else:
            pieces.append(buffer[start : start + captured].tobytes())
    ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
    start = ends - rows.captured
    return np.frombuffer(b"".join(pieces), np.uint8), rows._replace(start=start)
