# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the IP header is in a frame of each link layer.

The numbers are the LINKTYPE_ values of the registry at tcpdump.org/linktypes.html,
as pcap and pcapng files carry them; the header formats are the ones it describes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import TypeAlias

Frame: TypeAlias = bytes | bytearray | memoryview
IpHeader: TypeAlias = tuple[int, int]

ETHERNET = 1
RAW_IP = 101

_ETHERTYPES = {0x0800: 4, 0x86DD: 6}  # IEEE 802 numbers, as RFC 9542 lists them
_VLAN_TAGS = frozenset({0x8100, 0x88A8, 0x9100})  # 802.1Q, 802.1ad, and QinQ before 802.1ad
_MAX_VLAN_TAGS = 8  # networks stack two; a hostile frame could stack thousands
_PPPOE_SESSION = 0x8864  # RFC 2516
_PPP_PROTOCOLS = {0x0021: 4, 0x0057: 6}  # RFC 1332, RFC 5072
_LLC_SNAP = b"\xaa\xaa\x03"  # RFC 1042
_MAX_LLC_LENGTH = 1500  # IEEE 802.3: up to here the type field is a length
_SLL_LLC = 0x0004  # Linux cooked: an LLC header follows
_AF_INET = 2  # the same everywhere
_AF_INET6 = frozenset({10, 24, 28, 30})  # Linux; NetBSD and OpenBSD; FreeBSD; macOS

_u16 = struct.Struct(">H").unpack_from


def network_layer(link: int, frame: Frame) -> IpHeader | None:
    """The IP version (4 or 6) and the offset of the IP header in ``frame``.

    ``link`` is a LINKTYPE_ number. None when the frame holds no IP, is cut before the IP
    header begins, or the link layer is not in ``SUPPORTED``. Never raises on any bytes.
    """
    layer = _LINK_LAYERS.get(link)
    if layer is None:
        return None
    try:
        header = layer[1](frame)
    except (struct.error, IndexError):  # the frame ends within its link header
        return None
    return header if header and header[1] < len(frame) else None


def link_name(link: int) -> str:
    """What to call the link layer ``link`` in a message."""
    return _LINK_LAYERS[link][0] if link in _LINK_LAYERS else f"link type {link}"


def _ethernet(frame: Frame) -> IpHeader | None:
    return _ethertype(frame, _u16(frame, 12)[0], 14)


def _ethertype(frame: Frame, ethertype: int, offset: int) -> IpHeader | None:
    """What an EtherType announces at ``offset``, behind any VLAN tags."""
    for _ in range(_MAX_VLAN_TAGS):
        if ethertype not in _VLAN_TAGS:
            break
        ethertype = _u16(frame, offset + 2)[0]
        offset += 4
    if ethertype in _ETHERTYPES:
        return _ETHERTYPES[ethertype], offset
    if ethertype == _PPPOE_SESSION:
        return _pppoe(frame, offset)
    if ethertype <= _MAX_LLC_LENGTH:
        return _llc(frame, offset)
    return None


def _llc(frame: Frame, offset: int) -> IpHeader | None:
    """LLC with SNAP: three bytes, an organisation, then an EtherType when that one is 0."""
    if frame[offset : offset + 6] != _LLC_SNAP + b"\0\0\0":
        return None
    version = _ETHERTYPES.get(_u16(frame, offset + 6)[0])
    return (version, offset + 8) if version else None


def _pppoe(frame: Frame, offset: int = 0) -> IpHeader | None:
    """PPPoE: version and type, code (0: session data), session, length; then PPP."""
    return _ppp(frame, offset + 6) if _u16(frame, offset)[0] == 0x1100 else None


def _ppp(frame: Frame, offset: int = 0) -> IpHeader | None:
    """PPP with or without HDLC-like framing (RFC 1662), or Cisco HDLC (RFC 1547)."""
    if frame[offset] in (0x0F, 0x8F):
        return _ethertype(frame, _u16(frame, offset + 2)[0], offset + 4)
    if frame[offset : offset + 2] == b"\xff\x03":
        offset += 2
    if frame[offset] & 1:  # protocol field compression (RFC 1661, section 6.5): one byte
        protocol, offset = frame[offset], offset + 1
    else:
        protocol, offset = _u16(frame, offset)[0], offset + 2
    version = _PPP_PROTOCOLS.get(protocol)
    return (version, offset) if version else None


def _cooked_v1(frame: Frame) -> IpHeader | None:
    return _cooked(frame, _u16(frame, 14)[0], 16)


def _cooked_v2(frame: Frame) -> IpHeader | None:
    return _cooked(frame, _u16(frame, 0)[0], 20)


def _cooked(frame: Frame, protocol: int, offset: int) -> IpHeader | None:
    """Linux cooked: an EtherType, or a small number, one of which stands for LLC."""
    if protocol == _SLL_LLC:
        return _llc(frame, offset)
    return _ethertype(frame, protocol, offset) if protocol > _MAX_LLC_LENGTH else None


def _bsd_loopback(frame: Frame) -> IpHeader | None:
    """An address family of four bytes: BSD null in the host's order, loop in the network's.

    Address families are below 256 everywhere, so the other order cannot be mistaken for one.
    """
    little, big = struct.unpack_from("<I", frame)[0], struct.unpack_from(">I", frame)[0]
    family = min(little, big)
    if family == _AF_INET:
        return 4, 4
    return (6, 4) if family in _AF_INET6 else None


def _raw_ip(frame: Frame) -> IpHeader | None:
    version = frame[0] >> 4
    return (version, 0) if version in (4, 6) else None


def _ipv4(frame: Frame) -> IpHeader:
    return 4, 0


def _ipv6(frame: Frame) -> IpHeader:
    return 6, 0


_LINK_LAYERS: Mapping[int, tuple[str, Callable[[Frame], IpHeader | None]]] = {
    0: ("BSD null", _bsd_loopback),
    ETHERNET: ("Ethernet", _ethernet),
    9: ("PPP", _ppp),
    12: ("raw IP", _raw_ip),  # DLT_RAW of most systems
    14: ("raw IP", _raw_ip),  # DLT_RAW of OpenBSD
    50: ("PPP in HDLC-like framing", _ppp),
    51: ("PPPoE", _pppoe),
    RAW_IP: ("raw IP", _raw_ip),
    108: ("BSD loop", _bsd_loopback),
    113: ("Linux cooked v1", _cooked_v1),
    228: ("IPv4", _ipv4),
    229: ("IPv6", _ipv6),
    276: ("Linux cooked v2", _cooked_v2),
}

SUPPORTED = frozenset(_LINK_LAYERS)
"""The link types that ``network_layer`` knows."""
