# SPDX-License-Identifier: GPL-2.0-or-later
"""NetdumpSession: ports that are learned, super-frames taken apart, bounded memory."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.all import (
    IP,
    UDP,
    Ether,
    IPSession,
    IPv6,
    IPv6ExtHdrDestOpt,
    Packet,
    Padding,
    Raw,
    conf,
    fragment,
    sniff,
    wrpcap,
)

from scapy_netdump.layers import KernelDumpHeader, Netdump, NetdumpAck, NetdumpHerald
from scapy_netdump.scapy_tools import session as session_module
from scapy_netdump.scapy_tools.session import NetdumpSession, take_apart

CLIENT, SERVER = "192.0.2.2", "192.0.2.1"
CLIENT_PORT, SERVER_PORT = 5000, 41885
# With both addresses given, so that building a frame asks no network for them.
ETHER = Ether(src="02:00:00:00:00:02", dst="02:00:00:00:00:01")


def from_client(data: Packet | bytes, dport: int = SERVER_PORT, sport: int = CLIENT_PORT) -> Packet:
    return ETHER / IP(src=CLIENT, dst=SERVER) / UDP(sport=sport, dport=dport) / Raw(bytes(data))


def from_server(seqno: int, sport: int = SERVER_PORT, dport: int = CLIENT_PORT) -> Packet:
    ack = struct.pack("!I", seqno)
    return ETHER / IP(src=SERVER, dst=CLIENT) / UDP(sport=sport, dport=dport) / Raw(ack)


HERALD = from_client(Netdump(seqno=1) / NetdumpHerald(path="lab"), dport=20023)


def sniffed(
    tmp_path: Path, packets: list[Packet], session: object = NetdumpSession
) -> list[Packet]:
    capture = tmp_path / "capture.pcap"
    wrpcap(str(capture), packets)
    return list(sniff(offline=str(capture), session=session, quiet=True))


def test_a_dump_between_two_unknown_ports_is_learned(tmp_path: Path) -> None:
    data = from_client(Netdump(seqno=2, offset=0) / b"memory")
    packets = sniffed(
        tmp_path,
        [
            data,
            HERALD,
            from_server(1),
            data,
            from_server(2),
            from_client(Netdump(seqno=3) / KernelDumpHeader()),
        ],
    )
    assert [p.lastlayer().name for p in packets[:1]] == ["Raw"]
    assert Netdump not in packets[0]
    assert packets[3][Netdump].seqno == 2
    assert packets[3][Raw].load == b"memory"
    assert packets[4][NetdumpAck].seqno == 2
    assert packets[5][KernelDumpHeader].parity_ok


def test_acks_to_the_usual_port_teach_of_a_client_that_sends_from_another(tmp_path: Path) -> None:
    data = from_client(Netdump(seqno=2, offset=0) / b"memory")
    packets = sniffed(tmp_path, [HERALD, from_server(1, dport=20024), data])
    assert packets[2][Netdump].seqno == 2


def test_packets_keep_their_bytes_and_times(tmp_path: Path) -> None:
    sent = [HERALD, from_server(1), from_client(Netdump(seqno=2) / b"m"), from_server(2)]
    for number, packet in enumerate(sent):
        packet.time = 1718000000 + number
    sent[3] /= Padding(bytes(14))
    packets = sniffed(tmp_path, sent)
    assert [bytes(p) for p in packets] == [bytes(p) for p in sent]
    assert [int(p.time) for p in packets] == [1718000000 + n for n in range(4)]
    assert packets[3][Padding].load == bytes(14)


def test_an_ack_of_something_else_teaches_nothing(tmp_path: Path) -> None:
    packets = sniffed(tmp_path, [HERALD, from_server(9), from_client(Netdump() / b"m")])
    assert Netdump not in packets[2]


def test_other_traffic_of_the_same_hosts_is_left_alone(tmp_path: Path) -> None:
    other = from_client(Netdump() / b"m", dport=SERVER_PORT + 1)
    packets = sniffed(tmp_path, [HERALD, from_server(1), other])
    assert Netdump not in packets[2]


def test_a_second_dump_of_the_same_client_has_another_port(tmp_path: Path) -> None:
    packets = sniffed(
        tmp_path,
        [
            HERALD,
            from_server(1),
            HERALD,
            from_server(1, sport=50000),
            from_client(Netdump(seqno=2) / b"m", dport=50000),
        ],
    )
    assert packets[4][Netdump].seqno == 2


@pytest.mark.parametrize("sport", [20024, CLIENT_PORT])
def test_super_frames_become_a_packet_for_each_message(tmp_path: Path, sport: int) -> None:
    parts = [Netdump(seqno=n, offset=n * 10) / Raw(bytes(10)) for n in range(2, 46)]
    herald = from_client(Netdump(seqno=1), dport=20023, sport=sport)
    super_frame = from_client(b"".join(map(bytes, parts)), sport=sport)
    acks = from_server(1, dport=sport)
    acks[Raw].load = b"".join(struct.pack("!I", n) for n in range(2, 46))
    packets = sniffed(tmp_path, [herald, from_server(1, dport=sport), super_frame, acks])
    messages = [p for p in packets if Netdump in p]
    assert [p[Netdump].seqno for p in messages] == list(range(1, 46))
    assert [p[NetdumpAck].seqno for p in packets if NetdumpAck in p] == list(range(1, 46))
    for packet, part in zip(messages[1:], parts, strict=True):
        alone = from_client(bytes(part), sport=sport)
        assert bytes(packet[IP]) == bytes(alone[IP])


def test_what_is_no_message_in_a_super_frame_is_not_lost() -> None:
    data = bytes(Netdump(seqno=1) / b"a") + bytes(Netdump(seqno=2) / b"b") + b"extra"
    whole = Ether(bytes(from_client(data, sport=20024)))
    assert [bytes(p[UDP].payload)[-5:] for p in take_apart(whole)] == [
        b"\0\0\0\0a",
        b"\0\0\0\0b",
        b"extra",
    ]


def test_a_snapped_message_of_a_super_frame_keeps_its_length() -> None:
    data = b"".join(bytes(Netdump(seqno=n) / Raw(bytes(100))) for n in range(3))
    whole = bytes(from_client(data, sport=20024))
    *_, last = take_apart(Ether(whole[: 42 + 124 + 60]))
    assert (last[IP].len, last[UDP].len, last[Netdump].len) == (152, 132, 100)
    assert last[Raw].load == bytes(36)


def test_ipv6_with_extension_headers_is_learned_and_taken_apart(tmp_path: Path) -> None:
    def carrier(src: str, dst: str, sport: int, dport: int) -> Packet:
        options = IPv6ExtHdrDestOpt()
        return ETHER / IPv6(src=src, dst=dst) / options / UDP(sport=sport, dport=dport)

    client, server = "2001:db8::2", "2001:db8::1"
    two = b"".join(bytes(Netdump(seqno=n) / b"m") for n in (2, 3))
    packets = sniffed(
        tmp_path,
        [
            carrier(client, server, CLIENT_PORT, 20023) / Netdump(seqno=1),
            carrier(server, client, SERVER_PORT, CLIENT_PORT) / NetdumpAck(seqno=1),
            carrier(client, server, CLIENT_PORT, SERVER_PORT) / Raw(two),
        ],
    )
    assert [p[Netdump].seqno for p in packets if Netdump in p] == [1, 2, 3]
    assert [p[IPv6].plen for p in packets[2:]] == [8 + 8 + 25] * 2


def test_fragments_are_put_together_by_scapys_own_session(tmp_path: Path) -> None:
    message = IP(src=CLIENT, dst=SERVER, id=7) / UDP() / Netdump(seqno=2) / Raw(bytes(3000))
    packets = sniffed(tmp_path, fragment(message, 1000), NetdumpSession(IPSession))
    (whole,) = (p for p in packets if Netdump in p)
    assert len(whole[Raw].load) == 3000


def test_hostile_heralds_do_not_fill_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "_MAX_REMEMBERED", 10)
    session = NetdumpSession()
    for port in range(1, 100):
        herald = from_client(Netdump(seqno=1), dport=20023, sport=port)
        ack = from_server(1, dport=port)
        for packet in (herald, ack):
            session.process(Ether(bytes(packet)))
    assert len(session._heralds) == len(session._dumps) == 10
    last = session.process(Ether(bytes(from_client(Netdump(seqno=5) / b"m", sport=99))))
    assert last is not None
    assert last[Netdump].seqno == 5


@given(
    datagrams=st.lists(st.tuples(st.booleans(), st.binary(max_size=80)), max_size=6),
    claimed=st.none() | st.integers(0, 65535),
)
def test_no_bytes_make_a_session_raise(
    datagrams: list[tuple[bool, bytes]], claimed: int | None
) -> None:
    session = NetdumpSession()
    conf.debug_dissector = True
    try:
        for packet in (HERALD, from_server(1)):
            session.process(Ether(bytes(packet)))
        for to_server, data in datagrams:
            packet = from_client(data) if to_server else from_server(0)
            packet[UDP].len = claimed
            raw = bytes(packet)
            packet = session.process(Ether(raw))
            assert bytes(packet) == raw
            for single in take_apart(packet):
                assert single.summary()
    finally:
        conf.debug_dissector = False


def test_packets_that_are_not_udp_pass(tmp_path: Path) -> None:
    (packet,) = sniffed(tmp_path, [ETHER / IP() / Raw(b"x")])
    assert packet[Raw].load == b"x"
