# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames of our own: equal to Scapy's, and read as Scapy reads them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.all import ARP, ICMP, IP, UDP, Ether, Packet, Padding, Raw, fragment

from scapy_netdump.net.raw.frames import (
    Ends,
    FrameBuilder,
    FrameReader,
    arp_answer,
    arp_reply,
    arp_request,
)

CLIENT, SERVER = "192.0.2.2", "198.51.100.1"
ENDS = Ends(CLIENT, SERVER, 20024)
OURS, THEIRS = "02:00:00:00:00:02", "02:00:00:00:00:01"
ETHER = Ether(src=THEIRS, dst=OURS)
TO_US = ETHER / IP(src=SERVER, dst=CLIENT)

addresses = st.ip_addresses(v=4).map(str)


@given(
    message=st.binary(max_size=100) | st.integers(0, 65507).map(bytes),
    ends=st.builds(Ends, addresses, addresses, st.integers(0, 65535)),
    port=st.integers(0, 65535),
)
def test_a_frame_is_what_scapy_builds(message: bytes, ends: Ends, port: int) -> None:
    ip = IP(src=ends.client, dst=ends.server, ttl=255, flags="DF", id=0)
    udp = UDP(sport=ends.port, dport=port)
    expected = bytes(Ether(src=OURS, dst=THEIRS) / ip / udp / Raw(message))
    assert FrameBuilder(ends, OURS, THEIRS).frame(memoryview(message), port) == expected


def test_a_udp_checksum_of_zero_is_sent_as_ones() -> None:
    builder = FrameBuilder(ENDS, OURS, THEIRS)
    (checksum,) = struct.unpack_from("!H", builder.frame(bytes(2), 20023), 40)
    frame = builder.frame(struct.pack("!H", checksum), 20023)  # adds up to all ones
    assert frame[40:42] == b"\xff\xff"
    ip = IP(src=CLIENT, dst=SERVER, ttl=255, flags="DF", id=0)
    assert frame[14:] == bytes(ip / UDP(sport=20024, dport=20023) / Raw(frame[42:]))


def read(packet: Packet) -> tuple[bytes, int] | None:
    return FrameReader(ENDS).datagram(bytes(packet))


def test_acks_are_found_without_the_padding_of_the_frame() -> None:
    ack = TO_US / UDP(sport=40000, dport=20024) / Raw(b"\0\0\0\1") / Padding(bytes(14))
    assert read(ack) == (b"\0\0\0\1", 40000)


def test_acks_are_found_behind_ip_options() -> None:
    ip = IP(src=SERVER, dst=CLIENT, options=[b"\x94\x04\0\0"])
    ack = ETHER / ip / UDP(sport=40000, dport=20024) / Raw(b"\0\0\0\1")
    assert read(ack) == (b"\0\0\0\1", 40000)


STRANGE = {
    "another sender": ETHER / IP(src="192.0.2.9", dst=CLIENT) / UDP(dport=20024) / Raw(b"abcd"),
    "another receiver": ETHER / IP(src=SERVER, dst="192.0.2.9") / UDP(dport=20024) / Raw(b"abcd"),
    "another port": TO_US / UDP(dport=20025) / Raw(b"abcd"),
    "no UDP": TO_US / ICMP() / Raw(b"abcd" * 9),
    "a fragment": fragment(TO_US / UDP(dport=20024) / Raw(bytes(99)), 64)[0],
    "a later fragment": fragment(TO_US / UDP(dport=20024) / Raw(bytes(99)), 64)[1],
    "a UDP length that is too short": TO_US / UDP(dport=20024, len=7) / Raw(b"abcd"),
    "IP without UDP's header": TO_US.__class__(bytes(TO_US / Raw(b"abcd"))),
}


@pytest.mark.parametrize("packet", STRANGE.values(), ids=STRANGE)
def test_what_is_not_for_us_is_none(packet: Packet) -> None:
    assert read(packet) is None


def unreachable(code: int, **quoted: object) -> Packet:
    ends = {"src": CLIENT, "dst": SERVER, "sport": 20024, **quoted}
    sent = IP(src=ends["src"], dst=ends["dst"]) / UDP(sport=ends["sport"], dport=20023)
    error = IP(src="192.0.2.254", dst=CLIENT) / ICMP(type=3, code=code)
    return ETHER / error / Raw(bytes(sent))


def test_an_icmp_error_is_no_datagram_but_explains() -> None:
    error = unreachable(1)
    assert read(error) is None
    assert FrameReader(ENDS).trouble(bytes(error)) == "192.0.2.254 says host-unreachable"


@pytest.mark.parametrize(
    "error",
    [
        unreachable(3, dst="192.0.2.77"),
        unreachable(3, sport=53),
        ETHER / IP(src=SERVER, dst=CLIENT) / ICMP(type=8) / Raw(bytes(40)),
        ETHER / IP(src=SERVER, dst=CLIENT) / ICMP(type=3),
        TO_US / UDP() / Raw(b"abcd"),
    ],
)
def test_other_icmp_explains_nothing(error: Packet) -> None:
    assert FrameReader(ENDS).trouble(bytes(error)) == ""


@given(cut=st.integers(0, 80), noise=st.lists(st.tuples(st.integers(0, 79), st.integers(0, 255))))
def test_no_frame_makes_the_reader_raise(cut: int, noise: list[tuple[int, int]]) -> None:
    for packet in (TO_US / UDP(dport=20024) / Raw(b"abcd"), unreachable(3)):
        frame = bytearray(bytes(packet))
        for at, value in noise:
            frame[at % len(frame)] = value
        short = bytes(frame[:cut])
        FrameReader(ENDS).datagram(short)
        FrameReader(ENDS).trouble(short)
        arp_reply(short, OURS, CLIENT)
        arp_answer(short, SERVER)


def test_an_arp_request_is_broadcast() -> None:
    asked = Ether(arp_request(OURS, CLIENT, SERVER))
    assert (asked.dst, asked.src) == ("ff:ff:ff:ff:ff:ff", OURS)
    assert (asked[ARP].op, asked[ARP].psrc, asked[ARP].pdst) == (1, CLIENT, SERVER)


def test_who_asks_for_our_address_is_told() -> None:
    reply = Ether(arp_reply(arp_request(THEIRS, SERVER, CLIENT), OURS, CLIENT))
    assert (reply.dst, reply.src, reply[ARP].op) == (THEIRS, OURS, 2)
    assert arp_answer(bytes(reply), CLIENT) == OURS
    assert arp_answer(bytes(reply), SERVER) is None


def test_who_asks_for_another_address_is_not() -> None:
    assert arp_reply(arp_request(THEIRS, SERVER, "192.0.2.3"), OURS, CLIENT) == b""
    answer = ETHER / ARP(op=2, psrc=SERVER, pdst=CLIENT)
    assert arp_reply(bytes(answer), OURS, CLIENT) == b""
