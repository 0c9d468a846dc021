# SPDX-License-Identifier: GPL-2.0-or-later
"""The Scapy layers: building, dissecting, ports, hostile bytes, what people see."""

import gzip
import io
import struct
from collections.abc import Iterator

import pytest
from helpers.places import PCAPS
from hypothesis import given
from hypothesis import strategies as st
from scapy.all import (
    DNS,
    DNSQR,
    ICMP,
    IP,
    UDP,
    Ether,
    IPerror,
    IPv6,
    Packet,
    Padding,
    Raw,
    UDPerror,
    conf,
    ls,
    rdpcap,
    rfc,
)

from scapy_netdump import layers
from scapy_netdump.layers import (
    KernelDumpHeader,
    KernelDumpHeaderV1,
    KernelDumpHeaderV2,
    KernelDumpHeaderV3,
    KernelDumpKey,
    Netdump,
    NetdumpAck,
    NetdumpAcks,
    NetdumpHerald,
    NetdumpMessages,
)

# With both addresses given, so that building a frame asks no network for them.
ETHER = Ether(src="02:00:00:00:00:02", dst="02:00:00:00:00:01")
HEADER_CLASSES = [KernelDumpHeaderV1, KernelDumpHeaderV2, KernelDumpHeaderV3, KernelDumpHeader]

u8, u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
texts = st.binary(max_size=80)
headers = st.builds(
    KernelDumpHeader,
    version=st.integers(0, 9),
    architecture=texts,
    architectureversion=u32,
    dumplength=u64,
    dumptime=u64,
    hostname=texts,
    versionstring=texts,
    panicstring=texts,
)
keys = st.builds(
    KernelDumpKey, encryption=u8, iv=st.binary(max_size=32), encryptedkey=st.binary(max_size=600)
)
heralds = st.builds(NetdumpHerald, path=texts)
payloads = st.one_of(headers, keys, heralds, st.builds(Raw, st.binary(min_size=1, max_size=99)))
messages = st.builds(
    lambda header, payload: header / payload,
    st.builds(Netdump, seqno=u32, aux2=u32),
    payloads,
)


@pytest.fixture(autouse=True)
def dissectors_may_not_fail() -> Iterator[None]:
    conf.debug_dissector = True
    yield
    conf.debug_dissector = False


def kernel_capture(name: str) -> list[Packet]:
    return rdpcap(io.BytesIO(gzip.decompress((PCAPS / name).read_bytes())))


# Building


@pytest.mark.parametrize(
    ("payload", "word"),
    [
        (NetdumpHerald(), "HERALD"),
        (NetdumpHerald(path="lab"), "HERALD"),
        (Raw(b"memory"), "VMCORE"),
        (KernelDumpHeader(), "KDH"),
        (KernelDumpHeader(version=2), "KDH"),
        (KernelDumpKey(), "EKCD_KEY"),
    ],
)
def test_type_follows_the_payload(payload: Packet, word: str) -> None:
    message = Netdump() / payload
    assert message.sprintf("%Netdump.type%") == word
    assert bytes(message)[:4] == struct.pack("!I", message.type)


def test_a_type_that_is_given_stays() -> None:
    message = Netdump(type="EKCD_KEY", offset=1448) / b"\0\0"
    assert bytes(message) == struct.pack("!IIQII", 5, 0, 1448, 2, 0) + b"\0\0"


def test_len_counts_the_payload_but_not_the_padding_of_the_frame() -> None:
    assert Netdump(bytes(Netdump() / b"abc" / Padding(b"\0" * 9))).len == 3


def test_a_len_that_is_given_stays() -> None:
    assert bytes(Netdump(len=7) / b"abc")[16:20] == struct.pack("!I", 7)


def test_herald_path_has_its_nul_and_an_empty_one_has_no_bytes() -> None:
    assert bytes(NetdumpHerald(path="lab")) == b"lab\0"
    assert bytes(NetdumpHerald()) == b""


@pytest.mark.parametrize("data", [b"lab", b"\0", b"\0lab\0"])
def test_a_herald_without_a_path_and_its_nul_has_no_path(data: bytes) -> None:
    herald = NetdumpHerald(data)
    assert (herald.path, herald[Raw].load) == (b"", data)


def test_key_size_is_filled_in() -> None:
    blob = bytes(KernelDumpKey(encryption="chacha20", iv=b"i", encryptedkey=b"k" * 256))
    assert blob == b"\2i" + bytes(31) + struct.pack("!I", 256) + b"k" * 256


def test_ports_of_built_datagrams() -> None:
    message = UDP() / Netdump() / NetdumpHerald()
    ack = UDP() / NetdumpAck()
    assert (message.sport, message.dport) == (20024, 20023)
    assert ack.dport == 20024
    assert ack.sport >= 1024


@given(messages)
def test_build_dissect_build_is_the_identity(message: Packet) -> None:
    built = bytes(message)
    dissected = Netdump(built)
    assert bytes(dissected) == built
    dissected.clear_cache()
    assert bytes(dissected) == built


@given(headers)
def test_every_built_header_has_512_bytes_and_right_parity(header: KernelDumpHeader) -> None:
    built = bytes(header)
    words = struct.unpack("!128I", built)
    total = 0
    for word in words:
        total ^= word
    assert total == 0
    assert KernelDumpHeader(built).parity_ok


# Kernel dump headers


@pytest.mark.parametrize(("version", "layout"), list(enumerate(HEADER_CLASSES, 1)))
def test_the_version_chooses_the_layout(version: int, layout: type[Packet]) -> None:
    built = KernelDumpHeader(version=version, hostname="h", panicstring="p")
    again = KernelDumpHeader(bytes(built))
    assert type(built) is type(again) is layout
    assert (again.version, again.hostname, again.panicstring) == (version, b"h", b"p")
    message = Netdump(bytes(Netdump() / built))
    assert message[KernelDumpHeader].hostname == b"h"


@pytest.mark.parametrize("version", [0, 5, 2**32 - 1])
def test_an_unknown_version_has_the_newest_layout(version: int) -> None:
    assert type(KernelDumpHeader(version=version)) is KernelDumpHeader


@pytest.mark.parametrize(
    ("version", "name", "position"),
    [
        (1, "panicstring", 316),
        (2, "panicstring", 320),
        (3, "dumpextent", 48),
        (3, "compression", 72),
        (4, "compression", 495),
        (4, "dumpextent", 496),
    ],
)
def test_fields_are_where_the_c_struct_has_them(version: int, name: str, position: int) -> None:
    plain = bytes(KernelDumpHeader(version=version, parity=0))
    value = b"x" if name == "panicstring" else 1
    changed = bytes(KernelDumpHeader(version=version, parity=0, **{name: value}))
    size = 1 if name in ("panicstring", "compression") else 8
    assert [i for i in range(512) if plain[i] != changed[i]] == [position + size - 1]


def test_setting_the_version_changes_the_layout_and_keeps_the_values() -> None:
    header = KernelDumpHeader(hostname="h", compression="zstd")
    header.version = 1
    assert bytes(header) == bytes(KernelDumpHeader(version=1, hostname="h"))
    header.version = 3
    assert bytes(header.copy()) == bytes(KernelDumpHeader(version=3, hostname="h"))


def test_parity_and_magic_are_reported() -> None:
    good = KernelDumpHeader(bytes(KernelDumpHeader()))
    assert good.parity_ok
    assert good.magic_ok
    assert "[pass]" in good.show(dump=True)
    bad = KernelDumpHeader(bytes(KernelDumpHeader(magic="Nothing", parity=1)))
    assert not bad.parity_ok
    assert not bad.magic_ok
    shown = bad.show(dump=True)
    assert "[fail]" in shown
    assert "[unknown]" in shown
    assert "unknown magic, bad parity" in bad.summary()


def test_a_date_beyond_all_calendars_is_shown_as_a_number() -> None:
    assert str(2**63) in KernelDumpHeader(dumptime=2**63).show(dump=True)


def test_the_header_of_a_real_kernel() -> None:
    (header,) = (
        p[KernelDumpHeader] for p in kernel_capture("kernel-clean.pcap.gz") if KernelDumpHeader in p
    )
    assert (header.version, header.dumplength, header.dumpextent) == (4, 3145728, 3145728)
    assert (header.hostname, header.panicstring) == (b"crashbox.example.org", b"page fault")
    assert header.parity_ok
    header.parity = None
    assert bytes(header) == header.original


# Real traffic


def test_a_real_dump_is_netdump_from_end_to_end() -> None:
    packets = [p for p in kernel_capture("kernel-encrypted-chacha20.pcap.gz") if UDP in p]
    assert all(Netdump in p or NetdumpAck in p for p in packets)
    sent = [p[Netdump] for p in packets if Netdump in p]
    kinds = [p.sprintf("%Netdump.type%") for p in sent]
    assert kinds[:5] == ["HERALD", "EKCD_KEY", "EKCD_KEY", "EKCD_KEY", "VMCORE"]
    assert kinds[-2:] == ["KDH", "FINISHED"]
    assert [KernelDumpKey in p for p in sent[:5]] == [False, True, False, False, False]
    assert all(bytes(type(p)(p.original)) == p.original for p in packets)


# Datagrams: ports, acks, padding, super-frames


def datagram(data: bytes, sport: int, dport: int) -> Packet:
    return IP(bytes(IP() / UDP(sport=sport, dport=dport) / Raw(data)))


VMCORE = bytes(Netdump(seqno=9, offset=4096) / b"data")
HERALD = bytes(Netdump(seqno=1) / NetdumpHerald(path="lab"))


@pytest.mark.parametrize(
    ("sport", "dport"), [(20024, 20023), (20024, 41885), (5000, 20023), (53, 20023), (20024, 53)]
)
def test_messages_are_known_by_either_port(sport: int, dport: int) -> None:
    assert datagram(VMCORE, sport, dport)[Netdump].offset == 4096
    assert datagram(HERALD, sport, dport)[NetdumpHerald].path == b"lab"


@pytest.mark.parametrize(
    ("sport", "dport"), [(41885, 20024), (20023, 20024), (20024, 20023), (20024, 5), (53, 20024)]
)
def test_four_bytes_are_an_ack_whatever_the_ports(sport: int, dport: int) -> None:
    assert datagram(struct.pack("!I", 77), sport, dport)[NetdumpAck].seqno == 77


def test_padding_of_the_frame_does_not_confuse_an_ack() -> None:
    frame = ETHER / IP() / UDP() / NetdumpAck(seqno=5)
    padded = Ether(bytes(frame) + bytes(14))
    assert padded[NetdumpAck].seqno == 5
    assert padded[Padding].load == bytes(14)
    assert bytes(padded) == bytes(frame) + bytes(14)


def test_a_herald_to_20023_from_scapys_default_port_is_no_dns() -> None:
    assert NetdumpHerald in UDP(bytes(UDP(dport=20023) / Raw(HERALD)))


@pytest.mark.parametrize(("qr", "sport", "dport"), [(1, 53, 20023), (1, 53, 20024), (0, 20024, 53)])
@given(identity=u16, name=st.text("abc", min_size=1, max_size=9))
def test_dns_stays_dns(qr: int, sport: int, dport: int, identity: int, name: str) -> None:
    message = DNS(id=identity, qr=qr, qd=[DNSQR(qname=name)])
    packet = datagram(bytes(message), sport, dport)
    assert packet[DNS].id == identity
    assert Netdump not in packet
    assert NetdumpAcks not in packet


def test_other_ports_are_left_alone() -> None:
    assert Netdump not in datagram(VMCORE, 5000, 6000)


@given(st.lists(messages, min_size=2, max_size=5), st.integers(1, 65535))
def test_messages_in_one_datagram_are_taken_apart(parts: list[Packet], dport: int) -> None:
    data = b"".join(map(bytes, parts))
    packet = datagram(data, 20024, dport)
    found = packet[NetdumpMessages].messages
    assert [bytes(m) for m in found] == [bytes(m) for m in parts]
    assert bytes(packet[UDP].payload) == data


@given(st.lists(u32, min_size=2, max_size=200))
def test_acks_in_one_datagram_are_taken_apart(seqnos: list[int]) -> None:
    packet = datagram(struct.pack(f"!{len(seqnos)}I", *seqnos), 41885, 20024)
    assert [ack.seqno for ack in packet[NetdumpAcks].acks] == seqnos


def test_only_the_beginning_of_a_key_or_header_is_dissected_as_such() -> None:
    for kind, layer in (("EKCD_KEY", KernelDumpKey), ("KDH", KernelDumpHeader)):
        data = bytes(layer())
        assert layer in Netdump(bytes(Netdump(type=kind, offset=0) / Raw(data)))
        later = Netdump(bytes(Netdump(type=kind, offset=1448) / Raw(data)))
        assert layer not in later
        assert (later.offset, later[Raw].load) == (1448, data)


# Answers


def exchange(request: Packet, answer: Packet) -> tuple[bool, bool]:
    request, answer = (type(p)(bytes(p)) for p in (request, answer))
    return request.hashret() == answer.hashret(), bool(answer.answers(request))


@pytest.mark.parametrize("network", [IP, IPv6])
def test_an_ack_from_another_port_answers_the_herald(network: type[Packet]) -> None:
    client, server = ("192.0.2.2", "192.0.2.1") if network is IP else ("2001:db8::2", "2001:db8::1")
    request = ETHER / network(src=client, dst=server) / UDP() / Netdump(seqno=7)
    ack = ETHER / network(src=server, dst=client) / UDP(sport=41885) / NetdumpAck(seqno=7)
    assert exchange(request, ack) == (True, True)
    ack[NetdumpAck].seqno = 8
    assert exchange(request, ack) == (False, False)


def test_a_message_answers_nothing() -> None:
    message = Netdump(seqno=7) / b"x"
    assert not Netdump(bytes(message)).answers(message)


def test_an_icmp_error_that_quotes_a_message_is_no_ack() -> None:
    quoted = IPerror(bytes(IP(src="192.0.2.2", dst="192.0.2.1") / UDP() / Netdump(seqno=7)))
    error = IP(bytes(IP(src="192.0.2.1", dst="192.0.2.2") / ICMP(type=3, code=3) / quoted))
    assert UDPerror in error
    assert NetdumpAck not in error
    assert not error[UDPerror].payload.answers(Netdump(seqno=7))


# Hostile and cut bytes

ALL_LAYERS = [Netdump, NetdumpAck, NetdumpHerald, NetdumpMessages, NetdumpAcks, *HEADER_CLASSES]


@pytest.mark.parametrize("layer", [*ALL_LAYERS, KernelDumpKey])
@given(data=st.binary(min_size=1, max_size=700))
def test_any_bytes_dissect_and_come_out_the_same(layer: type[Packet], data: bytes) -> None:
    packet = layer(data)
    assert bytes(packet) == data
    assert packet.show(dump=True)
    assert packet.summary()
    assert bytes(packet.copy()) == data


@given(message=messages, data=st.data())
def test_cut_messages_dissect_and_come_out_the_same(message: Packet, data: st.DataObject) -> None:
    whole = bytes(message)
    kept = whole[: data.draw(st.integers(1, len(whole)))]
    packet = Netdump(kept)
    assert bytes(packet) == kept
    assert packet.show(dump=True)


@given(
    data=st.binary(min_size=1, max_size=120),
    ports=st.sampled_from([(20024, 20023), (20024, 9), (9, 20024), (20023, 9), (20024, 20024)]),
    claimed=u16,
)
def test_any_datagram_on_netdumps_ports_dissects(
    data: bytes, ports: tuple[int, int], claimed: int
) -> None:
    raw = struct.pack("!HHHH", *ports, claimed, 0) + data
    packet = UDP(raw)
    assert bytes(packet) == raw
    assert packet.show(dump=True)


def test_a_snapped_header_shows_what_is_there() -> None:
    whole = bytes(Netdump() / KernelDumpHeader(architecture="arm64", hostname="crashbox"))
    packet = Netdump(whole[: 24 + 100])
    assert packet[KernelDumpHeader].architecture == b"arm64"
    assert packet[KernelDumpHeader].hostname is None
    assert not packet[KernelDumpHeader].parity_ok
    assert bytes(packet) == whole[: 24 + 100]


def test_a_snapped_super_frame_keeps_its_messages() -> None:
    data = b"".join(bytes(Netdump(seqno=n) / Raw(bytes(1448))) for n in range(4))
    whole = bytes(IP() / UDP(sport=20024, dport=41885) / Raw(data))
    packet = IP(whole[:2000])
    assert [m.seqno for m in packet[NetdumpMessages].messages] == [0, 1]
    assert bytes(packet) == whole[:2000]


# What people see


def test_summaries_read_well() -> None:
    carrier = IP(src="192.0.2.2", dst="192.0.2.1")
    packet = carrier / UDP() / Netdump(seqno=1) / NetdumpHerald(path="lab")
    assert IP(bytes(packet)).summary() == (
        "IP / UDP 192.0.2.2:20024 > 192.0.2.1:20023 / "
        "netdump HERALD seqno=1 offset=0 len=4 / path b'lab'"
    )
    packet = carrier / UDP(dport=41885) / Netdump(seqno=2, offset=4096) / b"data"
    assert IP(bytes(packet)).summary() == (
        "IP / UDP 192.0.2.2:20024 > 192.0.2.1:41885 / "
        "netdump VMCORE seqno=2 offset=4096 len=4 / Raw"
    )


def test_rfc_draws_the_message() -> None:
    drawing = rfc(Netdump, ret=True)
    for name in ("TYPE", "SEQNO", "OFFSET", "LEN", "AUX2"):
        assert name in drawing


def test_ls_lists_enums_of_fields(capsys: pytest.CaptureFixture[str]) -> None:
    ls(Netdump, verbose=True)
    assert "EKCD_KEY: 5" in capsys.readouterr().out


@pytest.mark.parametrize("name", layers.__all__)
def test_every_field_says_what_it_means(name: str) -> None:
    layer = getattr(layers, name)
    assert layer.__doc__
    for field in layer.fields_desc:
        assert layer.meanings[field.name].endswith(".")
