# SPDX-License-Identifier: GPL-2.0-or-later
"""From an IP header to the UDP payload.

This is the careful path, one packet at a time; the layouts are those of RFC 791 (IPv4),
RFC 8200 (IPv6), RFC 4302 (AH) and RFC 768 (UDP). Checksums are never verified: hosts
that leave them to the network card capture frames before they are filled in.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from .fragments import Defragmenter, Fragment, Payload
from .link import Frame

_UDP = 17  # the protocol numbers are IANA's
_FRAGMENT = 44
_AUTHENTICATION = 51
_OPTIONS = frozenset({0, 43, 60, 135, 139, 140})  # hop-by-hop, routing, destination options,
# mobility, HIP, Shim6: all with a length in units of 8 bytes after the first 8 (RFC 6564)
_MAX_EXTENSIONS = 16  # RFC 8200 asks for at most seven

_IPV4_HEADER = struct.Struct(">BxHHHxBxx4s4s")
_IPV6_HEADER = struct.Struct(">IHBx16s16s")
_FRAGMENT_HEADER = struct.Struct(">BxHI")
_UDP_HEADER = struct.Struct(">HHHxx")


class Datagram(NamedTuple):
    """A UDP datagram; addresses packed (4 or 16 bytes), sizes and positions in bytes.

    The payload starts at ``start`` of the frame, or of ``data`` if it was put together
    from fragments. ``length`` bytes were sent, ``captured`` of them are there.
    """

    source: bytes
    sport: int
    destination: bytes
    dport: int
    length: int
    start: int
    captured: int
    data: bytes | None = None


class UdpDecoder:
    """Finds the UDP datagrams of a capture; keeps the fragments that wait for others."""

    def __init__(self, defragmenter: Defragmenter | None = None) -> None:
        self.defragmenter = defragmenter or Defragmenter()

    def decode(
        self, frame: Frame, version: int, offset: int, time: float, wire_length: int = 0
    ) -> Datagram | None:
        """The datagram in the IP packet of ``version`` that starts at ``offset`` of ``frame``.

        ``time`` is in seconds and ages fragments. ``wire_length`` is the length that the
        frame had when that is more than was captured. It counts where a length field is 0:
        hosts that segment and coalesce show packets with no IP length (TSO) or no UDP
        length (above 65535, RFC 2675), and then everything up to the frame's end is meant.

        None for anything else: another protocol, a fragment that completes nothing,
        malformed or cut headers. Never raises on any bytes.
        """
        parse = self._ipv4 if version == 4 else self._ipv6
        try:
            return parse(frame, offset, time, max(wire_length, len(frame)))
        except (struct.error, IndexError):  # the frame ends within a header
            return None

    def _ipv4(self, frame: Frame, offset: int, time: float, frame_end: int) -> Datagram | None:
        first, total, identification, flags, protocol, source, destination = (
            _IPV4_HEADER.unpack_from(frame, offset)
        )
        start = offset + (first & 0x0F) * 4
        if first >> 4 != 4 or start < offset + _IPV4_HEADER.size or protocol != _UDP:
            return None
        end = offset + total if total else frame_end
        if not flags & 0x3FFF:  # neither More Fragments nor an offset; DF does not matter
            return _udp(source, destination, frame, start, end)
        fragment = Fragment(
            offset=(flags & 0x1FFF) * 8,
            length=end - start,
            last=not flags & 0x2000,
            protocol=protocol,
            data=bytes(frame[start:end]),
        )
        key = source, destination, identification, protocol
        return _reassembled(source, destination, self.defragmenter.add(key, fragment, time))

    def _ipv6(self, frame: Frame, offset: int, time: float, frame_end: int) -> Datagram | None:
        first, length, protocol, source, destination = _IPV6_HEADER.unpack_from(frame, offset)
        if first >> 28 != 6:
            return None
        start = offset + _IPV6_HEADER.size
        end = start + length if length else frame_end
        protocol, start = _skip_extensions(frame, protocol, start)
        if protocol == _UDP:
            return _udp(source, destination, frame, start, end)
        if protocol != _FRAGMENT:
            return None
        protocol, position, identification = _FRAGMENT_HEADER.unpack_from(frame, start)
        start += _FRAGMENT_HEADER.size
        fragment = Fragment(
            offset=position & 0xFFF8,
            length=end - start,
            last=not position & 1,
            protocol=protocol,
            data=bytes(frame[start:end]),
        )
        key = source, destination, identification
        return _reassembled(source, destination, self.defragmenter.add(key, fragment, time))


def _skip_extensions(frame: Frame, protocol: int, start: int) -> tuple[int, int]:
    """The protocol behind the extension headers, and where it starts.

    A real fragment header ends the walk: what follows belongs to the whole payload. One
    that says "first and last" (RFC 6946) is skipped like the others.
    """
    for _ in range(_MAX_EXTENSIONS):
        if protocol in _OPTIONS:
            size = frame[start + 1] * 8 + 8
        elif protocol == _AUTHENTICATION:
            size = frame[start + 1] * 4 + 8
        elif protocol == _FRAGMENT and not _FRAGMENT_HEADER.unpack_from(frame, start)[1] & 0xFFF9:
            size = _FRAGMENT_HEADER.size
        else:
            break
        protocol, start = frame[start], start + size
    return protocol, start


def _reassembled(source: bytes, destination: bytes, payload: Payload | None) -> Datagram | None:
    if payload is None:
        return None
    protocol, start = _skip_extensions(payload.data, payload.protocol, 0)
    if protocol != _UDP:
        return None
    datagram = _udp(source, destination, payload.data, start, payload.length)
    return datagram and datagram._replace(data=payload.data)


def _udp(source: bytes, destination: bytes, frame: Frame, start: int, end: int) -> Datagram | None:
    """The datagram whose header is at ``start`` in an IP packet that was sent up to ``end``."""
    sport, dport, length = _UDP_HEADER.unpack_from(frame, start)
    length = length or end - start
    if not _UDP_HEADER.size <= length <= end - start:
        return None
    start += _UDP_HEADER.size
    length -= _UDP_HEADER.size
    captured = min(length, len(frame) - start)
    return Datagram(source, sport, destination, dport, length, start, captured)
