# SPDX-License-Identifier: GPL-2.0-or-later
"""UdpDecoder against packets that Scapy builds and fragments, and against noise."""

from __future__ import annotations

import struct
from ipaddress import ip_address
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_Router_Alert, fragment
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
    fragment6,
)
from scapy.layers.ipsec import AH
from scapy.packet import Packet, Raw

from scapy_netdump.capture.ip import Datagram, UdpDecoder

CLIENT, SERVER = "10.99.0.2", "10.99.0.1"
CLIENT6, SERVER6 = "2001:db8::2", "2001:db8::1"
PORTS = {"sport": 20024, "dport": 41885}

AUTHENTICATION = AH(nh=17, payloadlen=4, spi=1, seq=1, icv=b"\xff" * 12)
EXTENSIONS = {
    "none": [],
    "hop-by-hop": [IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 12)])],
    "routing": [IPv6ExtHdrRouting(addresses=["2001:db8::3"], segleft=0)],
    "destination options": [IPv6ExtHdrDestOpt(options=[PadN(optdata=b"\0" * 4)])],
    "authentication": [AUTHENTICATION],
    "atomic fragment": [IPv6ExtHdrFragment(id=7)],
    "several": [
        IPv6ExtHdrHopByHop(),
        IPv6ExtHdrDestOpt(),
        IPv6ExtHdrRouting(segleft=0),
        IPv6ExtHdrDestOpt(),
        AUTHENTICATION,
    ],
}


def ipv4(payload: bytes, **fields: object) -> Packet:
    return IP(src=CLIENT, dst=SERVER, **fields) / UDP(**PORTS) / Raw(payload)


def ipv6(payload: bytes, extensions: list[Packet] | None = None) -> Packet:
    packet = IPv6(src=CLIENT6, dst=SERVER6)
    for extension in extensions or []:
        packet = packet / extension.copy()
    return packet / UDP(**PORTS) / Raw(payload)


def decode(frame: bytes, version: int = 4, wire_length: int = 0) -> Datagram | None:
    return UdpDecoder().decode(frame, version, 0, 0.0, wire_length)


def decode_all(packets: list[Packet], version: int = 4) -> list[tuple[Datagram, bytes]]:
    """Each datagram that the packets yield, one decoder for all, with its payload."""
    decoder = UdpDecoder()
    found = []
    for packet in packets:
        frame = bytes(packet)
        datagram = decoder.decode(frame, version, 0, 0.0)
        if datagram:
            found.append((datagram, payload_of(datagram, frame)))
    return found


def payload_of(datagram: Datagram, frame: bytes) -> bytes:
    data = frame if datagram.data is None else datagram.data
    return data[datagram.start : datagram.start + datagram.captured]


def rebuilt(packet: Packet, **changes: int) -> bytes:
    """The packet's bytes with length fields overwritten, checksums left alone."""
    built = packet.__class__(bytes(packet))
    for field, value in changes.items():
        layer = UDP if field == "udp" else built.__class__
        built[layer].setfieldval("plen" if layer is IPv6 else "len", value)
    return bytes(built)


# ---------------------------------------------------------------- one packet, one datagram


def test_a_datagram_is_described_with_its_addresses_ports_and_place() -> None:
    frame = bytes(14) + bytes(ipv4(b"payload"))
    datagram = UdpDecoder().decode(frame, 4, 14, 0.0)
    assert datagram == Datagram(
        source=ip_address(CLIENT).packed,
        sport=20024,
        destination=ip_address(SERVER).packed,
        dport=41885,
        length=7,
        start=14 + 28,
        captured=7,
        data=None,
    )


def test_ipv6_addresses_have_sixteen_bytes() -> None:
    datagram = decode(bytes(ipv6(b"payload")), 6)
    assert datagram is not None
    assert datagram.source == ip_address(CLIENT6).packed
    assert datagram.destination == ip_address(SERVER6).packed


def test_ip_options_are_skipped() -> None:
    frame = bytes(ipv4(b"payload", options=[IPOption_NOP(), IPOption_Router_Alert()]))
    datagram = decode(frame)
    assert datagram is not None
    assert payload_of(datagram, frame) == b"payload"


@pytest.mark.parametrize("kind", EXTENSIONS)
def test_ipv6_extension_headers_are_skipped(kind: str) -> None:
    frame = bytes(ipv6(b"payload", EXTENSIONS[kind]))
    datagram = decode(frame, 6)
    assert datagram is not None
    assert payload_of(datagram, frame) == b"payload"


@pytest.mark.parametrize("version", [4, 6])
def test_padding_behind_the_datagram_is_not_part_of_it(version: int) -> None:
    packet = ipv4(b"ack!") if version == 4 else ipv6(b"ack!")
    frame = bytes(packet) + bytes(60)
    datagram = decode(frame, version)
    assert datagram is not None
    assert payload_of(datagram, frame) == b"ack!"


def test_the_udp_length_governs_over_the_ip_length() -> None:
    frame = rebuilt(ipv4(b"four and more"), udp=8 + 4)
    datagram = decode(frame)
    assert datagram is not None
    assert payload_of(datagram, frame) == b"four"


@pytest.mark.parametrize("version", [4, 6])
def test_a_frame_shortened_by_a_snap_length_has_less_captured_than_sent(version: int) -> None:
    packet = ipv4(bytes(1000)) if version == 4 else ipv6(bytes(1000))
    datagram = decode(bytes(packet)[:96], version, wire_length=len(packet))
    assert datagram is not None
    assert datagram.length == 1000
    assert datagram.captured == 96 - datagram.start


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("zeroed", [{"udp": 0}, {"ip": 0}, {"ip": 0, "udp": 0}])
def test_a_length_of_zero_means_up_to_the_end_of_the_frame(
    zeroed: dict[str, int], version: int
) -> None:
    packet = ipv4(bytes(1448)) if version == 4 else ipv6(bytes(1448))
    frame = rebuilt(packet, **zeroed)
    for captured in (frame, frame[:100]):
        datagram = decode(captured, version, wire_length=len(frame))
        assert datagram is not None
        assert datagram.length == 1448
        assert datagram.captured == len(captured) - datagram.start


def test_a_super_frame_above_64_kib_without_lengths_is_taken_whole() -> None:
    frame = rebuilt(ipv6(b""), ip=0, udp=0) + bytes(100_000)
    datagram = decode(frame, 6)
    assert datagram is not None
    assert datagram.length == datagram.captured == 100_000


def test_a_udp_length_of_zero_is_bounded_by_the_ip_length() -> None:
    frame = rebuilt(ipv4(b"ack!"), udp=0) + bytes(14)
    datagram = decode(frame)
    assert datagram is not None
    assert payload_of(datagram, frame) == b"ack!"


def test_a_wrong_checksum_does_not_matter() -> None:
    packet = IP(src=CLIENT, dst=SERVER, chksum=1) / UDP(**PORTS, chksum=1) / Raw(b"payload")
    assert decode(bytes(packet)) is not None


def test_an_icmp_error_that_quotes_a_datagram_is_none() -> None:
    quoted = bytes(ipv4(b"payload"))
    assert decode(bytes(IP() / ICMP(type=3, code=3) / Raw(quoted))) is None


@pytest.mark.parametrize(
    ("version", "frame"),
    [
        (4, bytes(IP() / TCP())),
        (6, bytes(IPv6() / TCP())),
        (6, bytes(IPv6() / ICMPv6EchoRequest())),
        (4, bytes(ipv6(b"payload"))),
        (6, bytes(ipv4(b"payload" * 9))),
        (4, b"\x44" + bytes(ipv4(b"payload"))[1:]),
        (4, rebuilt(ipv4(b"payload"), udp=7)),
        (4, rebuilt(ipv4(b"payload"), udp=16)),
        (4, rebuilt(ipv4(b"payload"), ip=19)),
    ],
    ids=[
        "TCP", "TCP over IPv6", "ICMPv6", "IPv6 said to be IPv4", "IPv4 said to be IPv6",
        "header below 20 bytes", "UDP length below 8", "UDP length above the packet's",
        "IP length below the header's",
    ],
)  # fmt: skip
def test_what_is_no_sound_datagram_is_none(version: int, frame: bytes) -> None:
    assert decode(frame, version) is None


@pytest.mark.parametrize("version", [4, 6])
def test_a_frame_cut_within_its_headers_is_none(version: int) -> None:
    frame = bytes(ipv4(b"payload") if version == 4 else ipv6(b"payload"))
    headers = len(frame) - len(b"payload")
    for length in range(headers):
        assert decode(frame[:length], version, wire_length=len(frame)) is None
    assert decode(frame[:headers], version, wire_length=len(frame)) is not None


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(1, 65535), st.integers(0, 65535))
def test_scapy_and_the_decoder_agree_on_any_datagram(
    payload: bytes, sport: int, identification: int
) -> None:
    packet = (
        IP(id=identification, src=CLIENT, dst=SERVER) / UDP(sport=sport, dport=9) / Raw(payload)
    )
    frame = bytes(packet)
    datagram = decode(memoryview(frame))  # type: ignore[arg-type]
    dissected = IP(frame)
    assert datagram is not None
    assert (datagram.sport, datagram.dport) == (dissected[UDP].sport, dissected[UDP].dport)
    assert payload_of(datagram, frame) == bytes(dissected[UDP].payload)


@settings(deadline=None)
@given(st.binary(max_size=120), st.sampled_from([4, 6]), st.integers(0, 20), st.integers(0, 2000))
def test_no_bytes_raise(frame: bytes, version: int, offset: int, wire_length: int) -> None:
    sound_beginning = (b"\x45" if version == 4 else b"\x60") + frame
    for data in (frame, sound_beginning):
        UdpDecoder().decode(data, version, offset, 0.0, wire_length)
        UdpDecoder().decode(memoryview(data), version, 0, 0.0)


@settings(deadline=None)
@given(st.data(), st.sampled_from(["IPv4", *EXTENSIONS]))
def test_a_sound_packet_with_changed_bytes_never_raises(data: st.DataObject, kind: str) -> None:
    version, packet = (4, ipv4(b"x" * 20)) if kind == "IPv4" else (6, ipv6(b"x", EXTENSIONS[kind]))
    frame = bytearray(bytes(packet))
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    frame = frame[: data.draw(st.integers(0, len(frame)))]
    datagram = UdpDecoder().decode(frame, version, 0, 0.0)
    if datagram and datagram.data is None:
        assert 0 <= datagram.captured <= datagram.length
        assert datagram.start + datagram.captured <= len(frame)


# ---------------------------------------------------------------- fragments


def fragments(payload: bytes, version: int, size: int, identification: int) -> list[Packet]:
    if version == 4:
        return fragment(ipv4(payload, id=identification % 2**16), fragsize=size)
    extensions = [IPv6ExtHdrFragment(id=identification), IPv6ExtHdrDestOpt()]
    return fragment6(ipv6(payload, extensions), 100 + size)


@settings(deadline=None)
@given(
    st.integers(1600, 3000),
    st.sampled_from([4, 6]),
    st.integers(8, 1400),
    st.integers(0, 2**32 - 1),
    st.randoms(),
)
def test_fragments_in_any_order_with_duplicates_give_the_datagram_once(
    length: int, version: int, size: int, identification: int, rng: Random
) -> None:
    payload = rng.randbytes(length)
    packets = fragments(payload, version, size, identification)
    packets += rng.choices(packets, k=3)
    rng.shuffle(packets)
    [(datagram, found)] = decode_all(packets, version)
    assert found == payload
    assert datagram.length == datagram.captured == length
    assert (datagram.sport, datagram.dport) == (20024, 41885)


def test_a_datagram_with_id_zero_and_no_fragments_is_never_held_back() -> None:
    found = decode_all([ipv4(b"first", id=0, flags="DF"), ipv4(b"second", id=0, flags="DF")])
    assert [payload for _, payload in found] == [b"first", b"second"]
    assert all(datagram.data is None for datagram, _ in found)


def test_fragments_of_other_senders_protocols_and_ids_do_not_mix() -> None:
    packets = [
        ipv4(b"a" * 2000, id=1),
        ipv4(b"b" * 2000, id=2),
        IP(src="10.99.0.3", dst=SERVER, id=1) / UDP(**PORTS) / Raw(b"c" * 2000),
        IP(src=CLIENT, dst=SERVER, id=1) / TCP() / Raw(b"d" * 2000),
    ]
    pieces = [fragment(packet, fragsize=1200) for packet in packets]
    mixed = [piece for together in zip(*pieces, strict=True) for piece in together]
    assert {payload[:1] for _, payload in decode_all(mixed)} == {b"a", b"b", b"c"}


def test_overlapping_fragments_keep_the_bytes_that_came_first() -> None:
    whole = bytes(ipv4(b"A" * 40, id=5)[UDP])
    head = IP(src=CLIENT, dst=SERVER, id=5, proto=17)
    first = head.copy() / Raw(whole[:32])
    first.flags = "MF"
    forged = head.copy() / Raw(b"B" * 32)
    forged.frag = 16 // 8
    [(_, payload)] = decode_all([first, forged])
    assert payload == b"A" * 24 + b"B" * 16


def test_a_snapped_fragment_leaves_what_precedes_it_and_the_true_length() -> None:
    pieces = [bytes(piece) for piece in fragment(ipv4(bytes(3000), id=3), fragsize=1000)]
    decoder = UdpDecoder()
    for position, piece in enumerate(pieces):
        frame = piece[:500] if position == 1 else piece
        datagram = decoder.decode(frame, 4, 0, 0.0, len(piece))
    assert datagram is not None
    assert datagram.length == 3000
    assert datagram.captured == (1000 - 8) + (500 - 20)


def test_fragments_are_counted() -> None:
    decoder = UdpDecoder()
    complete = fragment(ipv4(bytes(3000), id=1), fragsize=1000)
    incomplete = fragment(ipv4(bytes(3000), id=2), fragsize=1000)[1:]
    for piece in [*complete, *complete, *incomplete]:
        decoder.decode(bytes(piece), 4, 0, 0.0)
    assert decoder.defragmenter.reassembled == 1
    assert decoder.defragmenter.dropped == len(incomplete)


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=30), st.sampled_from([4, 6]))
def test_hostile_fragments_never_raise(bodies: list[bytes], version: int) -> None:
    decoder = UdpDecoder()
    for body in bodies:
        position = struct.unpack(">H", body[:2].ljust(2, b"\0"))[0]
        if version == 4:
            packet = IP(id=1, proto=17, flags=position & 1, frag=position >> 3) / Raw(body)
        else:
            fragmentation = IPv6ExtHdrFragment(
                id=1, nh=position % 61, m=position & 1, offset=position >> 3
            )
            packet = IPv6() / fragmentation / Raw(body)
        decoder.decode(bytes(packet), version, 0, 0.0)
