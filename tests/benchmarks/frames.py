# SPDX-License-Identifier: GPL-2.0-or-later
"""Netdump's frames and the records of capture files, many at a time, for generate.py.

Frames of one length are one structured numpy array, a row for each. Imports numpy and the formats
that are generated from the layers.
"""

from __future__ import annotations

import struct
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from scapy_netdump.formats import (
    ACK_FIELDS,
    ACK_FORMAT,
    ACK_PORT,
    HERALD,
    HERALD_PORT,
    NETDUMP_FIELDS,
    NETDUMP_FORMAT,
)

Array: TypeAlias = NDArray[Any]

CLIENT_MAC, SERVER_MAC = "02:00:00:00:99:02", "02:00:00:00:99:01"
CLIENT_IP, SERVER_IP = "10.99.0.2", "10.99.0.1"
EPHEMERAL_PORT = 41885

ETHERNET = [("dst", "V6"), ("src", "V6"), ("ethertype", ">u2")]
# Checksums are summed and stored in the machine's own byte order (RFC 1071, section 2B).
IPV4 = [("version_ihl", "u1"), ("tos", "u1"), ("total_length", ">u2"), ("id", ">u2"),
        ("flags", ">u2"), ("ttl", "u1"), ("protocol", "u1"), ("ip_checksum", "=u2"),
        ("source", "V4"), ("destination", "V4")]  # fmt: skip
UDP_HEADER = [("sport", ">u2"), ("dport", ">u2"), ("udp_length", ">u2"), ("udp_checksum", "=u2")]


def columns(names: tuple[str, ...], format: str) -> list[tuple[str, str]]:
    """Names and a struct format without repeat counts, as numpy describes them."""
    return [(name, f">{code}") for name, code in zip(names, format.lstrip("!"), strict=True)]


MESSAGE = columns(NETDUMP_FIELDS, NETDUMP_FORMAT)
ACK = columns(ACK_FIELDS, ACK_FORMAT)


def position(rows: Array, field: str) -> int:
    """Where a field begins in its row, in bytes."""
    fields = rows.dtype.fields
    assert fields is not None
    return fields[field][1]


def checksum(rows: Array, first: str, size: int) -> Array:
    """The Internet checksum (RFC 1071) of ``size`` bytes from field ``first``, row by row."""
    start = position(rows, first)
    octets = rows.view(np.uint8).reshape(len(rows), -1)[:, start : start + size]
    if size % 2:
        octets = np.pad(octets, ((0, 0), (0, 1)))
    total: Array = octets.view(np.uint16).sum(axis=1, dtype=np.uint32)
    for _ in range(2):
        total = (total & 0xFFFF) + (total >> 16)
    return np.invert(total).astype(np.uint16)


def datagrams(body: list[tuple[Any, ...]], count: int, to_server: bool) -> Array:
    """``count`` blank datagrams holding ``body``, Ethernet, IPv4 and UDP headers filled in."""
    dtype = np.dtype([*ETHERNET, *IPV4, *UDP_HEADER, *body])
    rows = np.zeros(count, dtype)
    ends = [(CLIENT_MAC, CLIENT_IP, ACK_PORT), (SERVER_MAC, SERVER_IP, EPHEMERAL_PORT)]
    source, destination = ends if to_server else ends[::-1]
    for mac, ip, port, (mac_value, ip_value, port_value) in (
        ("src", "source", "sport", source),
        ("dst", "destination", "dport", destination),
    ):
        rows[mac] = np.void(bytes.fromhex(mac_value.replace(":", "")))
        rows[ip] = np.void(bytes(map(int, ip_value.split("."))))
        rows[port] = port_value
    rows["ethertype"], rows["version_ihl"], rows["flags"] = 0x0800, 0x45, 0x4000
    rows["total_length"] = dtype.itemsize - 14
    rows["udp_length"] = dtype.itemsize - 34
    return rows


def seal(rows: Array, ttl: int) -> Array:
    """Fills in both checksums, and returns the rows."""
    # Until the UDP checksum is known, the IP header doubles as its pseudo-header: a zero, the
    # protocol, the UDP length where the IP checksum goes, both addresses (RFC 768).
    rows["protocol"] = 17
    rows["ip_checksum"] = rows["udp_length"].astype(">u2").view("=u2")
    sums = checksum(rows, "ttl", rows.dtype.itemsize - position(rows, "ttl"))
    rows["udp_checksum"] = np.where(sums == 0, 0xFFFF, sums)
    rows["ttl"], rows["ip_checksum"] = ttl, 0
    rows["ip_checksum"] = checksum(rows, "version_ihl", 20)
    return rows


def messages(type: int, seqno: Array, offset: Array, payload: Array) -> Array:
    """Client messages; ``payload`` is one row of bytes for each."""
    size = payload.shape[1]
    rows = datagrams([*MESSAGE, ("payload", "u1", (size,))], len(seqno), to_server=True)
    rows["type"], rows["seqno"], rows["offset"], rows["len"] = type, seqno, offset, size
    rows["payload"] = payload
    if type == HERALD:
        rows["dport"] = HERALD_PORT
    return seal(rows, ttl=255)


def acks(seqno: Array) -> Array:
    """The server's acks, not padded, as a capture on the server shows them."""
    rows = datagrams(ACK, len(seqno), to_server=False)
    rows["seqno"] = seqno
    rows["id"] = seqno & 0xFFFF
    return seal(rows, ttl=64)


def file_header(format: str) -> bytes:
    """What precedes the records: Ethernet, microseconds, snap length 262144, little-endian."""
    if format == "pcap":
        return struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)
    section = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
    return section + struct.pack("<IIHHII", 1, 20, 1, 0, 262144, 20)


def pcap_records(frames: Array, time: Array) -> Array:
    """Frames of one length as pcap records."""
    size = frames.dtype.itemsize
    head = [("sec", "<u4"), ("usec", "<u4"), ("caplen", "<u4"), ("len", "<u4")]
    records = np.zeros(len(frames), np.dtype([*head, ("frame", frames.dtype)]))
    records["sec"], records["usec"] = np.divmod(time, 1_000_000)
    records["caplen"] = records["len"] = size
    records["frame"] = frames
    return records


def pcapng_records(frames: Array, time: Array) -> Array:
    """Frames of one length as Enhanced Packet Blocks, padded to 32 bits."""
    size = frames.dtype.itemsize
    head = [("block", "<u4"), ("total", "<u4"), ("interface", "<u4"), ("high", "<u4"),
            ("low", "<u4"), ("caplen", "<u4"), ("len", "<u4")]  # fmt: skip
    tail = [("padding", f"V{-size % 4}"), ("total_again", "<u4")]
    records = np.zeros(len(frames), np.dtype([*head, ("frame", frames.dtype), *tail]))
    records["block"] = 6
    records["total"] = records["total_again"] = records.dtype.itemsize
    records["high"], records["low"] = time >> 32, time & 0xFFFFFFFF
    records["caplen"] = records["len"] = size
    records["frame"] = frames
    return records
