# SPDX-License-Identifier: GPL-2.0-or-later
"""Where link.py finds the IP header in frames built by Scapy, cut short, and made of noise."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import (
    ARP,
    LLC,
    SNAP,
    CookedLinux,
    CookedLinuxV2,
    Dot1AD,
    Dot1Q,
    Dot3,
    Ether,
    Loopback,
)
from scapy.layers.ppp import HDLC, PPP, PPPoE
from scapy.packet import Packet, Raw

from scapy_netdump.capture.link import SUPPORTED, link_name, network_layer

IP4 = IP(src="10.99.0.2", dst="10.99.0.1") / UDP(sport=20024, dport=20023) / Raw(b"payload")
IP6 = IPv6(src="2001:db8::2", dst="2001:db8::1") / UDP(sport=20024, dport=20023) / Raw(b"payload")

ETHERNET, COOKED_V1, COOKED_V2 = 1, 113, 276
PPP_LINK, PPP_HDLC, PPP_ETHER = 9, 50, 51

FRAMES = {
    "Ethernet": (ETHERNET, Ether()),
    "802.1Q": (ETHERNET, Ether() / Dot1Q(vlan=7)),
    "802.1ad": (ETHERNET, Ether() / Dot1AD(vlan=7) / Dot1Q(vlan=8)),
    "QinQ of old": (ETHERNET, Ether(type=0x9100) / Dot1Q(vlan=7, type=0x8100) / Dot1Q(vlan=8)),
    "SNAP": (ETHERNET, Dot3() / LLC(dsap=0xAA, ssap=0xAA, ctrl=3) / SNAP()),
    "PPPoE": (ETHERNET, Ether() / PPPoE(sessionid=1) / PPP()),
    "VLAN, PPPoE": (ETHERNET, Ether() / Dot1Q(vlan=7) / PPPoE(sessionid=1) / PPP()),
    "cooked v1": (COOKED_V1, CookedLinux()),
    "cooked v1, VLAN": (COOKED_V1, CookedLinux() / Dot1Q(vlan=7)),
    "cooked v2": (COOKED_V2, CookedLinuxV2()),
    "PPP": (PPP_LINK, PPP()),
    "PPP with HDLC framing in PPP": (PPP_LINK, HDLC() / PPP()),
    "PPP with HDLC framing": (PPP_HDLC, HDLC() / PPP()),
    "PPPoE alone": (PPP_ETHER, PPPoE(sessionid=1) / PPP()),
}


@pytest.mark.parametrize(("version", "packet"), [(4, IP4), (6, IP6)], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("kind", FRAMES)
def test_ip_is_found_behind_every_link_layer_that_scapy_builds(
    kind: str, version: int, packet: Packet
) -> None:
    link, header = FRAMES[kind]
    frame = bytes(header / packet)
    assert network_layer(link, frame) == (version, frame.index(bytes(packet)))
    assert network_layer(link, memoryview(frame)) == network_layer(link, frame)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("link", [0, 108])
@pytest.mark.parametrize(("family", "version"), [(2, 4), (10, 6), (24, 6), (28, 6), (30, 6)])
def test_bsd_loopback_knows_the_address_families_of_every_system_in_both_byte_orders(
    family: int, version: int, link: int, order: str
) -> None:
    frame = struct.pack(order + "I", family) + bytes(IP4 if version == 4 else IP6)
    assert network_layer(link, frame) == (version, 4)


def test_scapys_loopback_is_read() -> None:
    assert network_layer(0, bytes(Loopback() / IP4)) == (4, 4)


@pytest.mark.parametrize("link", [12, 14, 101])
def test_raw_ip_tells_its_own_version(link: int) -> None:
    assert network_layer(link, bytes(IP4)) == (4, 0)
    assert network_layer(link, bytes(IP6)) == (6, 0)
    assert network_layer(link, b"\x50" + bytes(40)) is None


def test_links_of_one_ip_version_start_with_it() -> None:
    assert network_layer(228, bytes(IP4)) == (4, 0)
    assert network_layer(229, bytes(IP6)) == (6, 0)


def test_ppp_with_a_compressed_protocol_field_is_read() -> None:
    assert network_layer(PPP_LINK, b"\x21" + bytes(IP4)) == (4, 1)
    assert network_layer(PPP_HDLC, b"\xff\x03\x57" + bytes(IP6)) == (6, 3)


def test_cisco_hdlc_is_read_on_a_ppp_link() -> None:
    assert network_layer(PPP_HDLC, b"\x0f\x00\x08\x00" + bytes(IP4)) == (4, 4)


@pytest.mark.parametrize(
    ("link", "frame"),
    [
        (ETHERNET, bytes(Ether() / ARP())),
        (ETHERNET, bytes(Ether(type=0x88CC) / Raw(bytes(IP4)))),
        (ETHERNET, bytes(Dot3() / LLC(dsap=0x42, ssap=0x42, ctrl=3) / Raw(bytes(40)))),
        (ETHERNET, bytes(Ether(type=0x8863) / Raw(b"\x11\x09" + bytes(40)))),
        (ETHERNET, bytes(Ether() / PPPoE(sessionid=1) / PPP(proto=0xC021) / Raw(bytes(40)))),
        (COOKED_V1, bytes(CookedLinux(proto=1) / Raw(bytes(IP4)))),
        (108, struct.pack(">I", 7) + bytes(IP4)),
    ],
    ids=["ARP", "LLDP", "spanning tree", "PPPoE discovery", "LCP", "Novell", "other family"],
)
def test_frames_without_ip_hold_none(link: int, frame: bytes) -> None:
    assert network_layer(link, frame) is None


def test_an_unknown_link_layer_holds_nothing() -> None:
    assert network_layer(147, bytes(IP4)) is None
    assert 147 not in SUPPORTED


def test_every_link_layer_has_a_name_for_messages() -> None:
    assert link_name(ETHERNET) == "Ethernet"
    assert link_name(147) == "link type 147"


def test_a_hostile_stack_of_vlan_tags_is_given_up() -> None:
    frame = bytes(12) + b"\x81\x00\x00\x07" * 1000 + b"\x08\x00" + bytes(IP4)
    assert network_layer(ETHERNET, frame) is None


@pytest.mark.parametrize("kind", FRAMES)
def test_a_frame_cut_before_the_ip_header_holds_none(kind: str) -> None:
    link, header = FRAMES[kind]
    frame = bytes(header / IP4)
    start = frame.index(bytes(IP4))
    for length in range(start + 1):
        assert network_layer(link, frame[:length]) is None
    assert network_layer(link, frame[: start + 1]) == (4, start)


@settings(deadline=None)
@given(st.sampled_from(sorted(SUPPORTED)), st.binary(max_size=80))
def test_no_bytes_raise_and_an_offset_lies_within_the_frame(link: int, frame: bytes) -> None:
    found = network_layer(link, frame)
    if found:
        version, offset = found
        assert version in (4, 6)
        assert 0 <= offset < len(frame)
