# SPDX-License-Identifier: GPL-2.0-or-later
"""A capture of what goes through a server's or a client's own sockets.

Imports the codec, and its neighbour that writes the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from ipaddress import IPv6Address, ip_address

from ..wire import HEADER_SIZE, Buffer, messages
from .pcapng_writer import PcapngWriter


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
