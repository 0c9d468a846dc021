# SPDX-License-Identifier: GPL-2.0-or-later
"""Datagrams found in frames: many at a time, with care, and both the same."""

from __future__ import annotations

from ipaddress import ip_address
from random import Random

import pytest
from helpers.captures import SeenDatagram, datagrams_in, small_windows
from helpers.traffic import Datagram, Dump, coalesced, header
from helpers.wrappings import (
    OTHER_TRAFFIC,
    WRAPPINGS,
    Packet,
    capture,
    fragments,
    plain,
    tagged,
    with_checksum_trailer,
)
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.core.observing.batch import Flow

CAREFUL = pytest.mark.parametrize("careful", [True, False], ids=["careful", "fast"])


def seen(datagram: Datagram, time: float, captured: int | None = None) -> SeenDatagram:
    """What is to be found of a datagram that came at some time."""
    source, destination = (
        ip_address(text).packed for text in (datagram.source, datagram.destination)
    )
    flow = Flow(source, datagram.sport, destination, datagram.dport)
    return SeenDatagram(time, flow, datagram.payload[:captured], len(datagram.payload))


def found_in(packets: list[Packet], careful: bool) -> list[SeenDatagram]:
    return datagrams_in(capture(packets), careful=careful)


@CAREFUL
@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("wrapping", [*WRAPPINGS, fragments])
def test_a_dump_is_found_in_every_wrapping(wrapping, six: bool, careful: bool) -> None:
    addresses = {"client": "2001:db8::2", "server": "2001:db8::1"} if six else {}
    traffic = Dump(vmcore=Random(0).randbytes(5000), kdh=header(5000), **addresses).traffic()
    packets, expected = [], []
    for number, datagram in enumerate(traffic):
        packets += wrapping(datagram, number) if wrapping is fragments else wrapping(datagram)
        expected.append(seen(datagram, len(packets) - 1.0))
    assert found_in(packets, careful) == expected


@CAREFUL
def test_other_traffic_holds_nothing(careful: bool) -> None:
    assert found_in(OTHER_TRAFFIC, careful) == []


@CAREFUL
def test_a_client_with_a_port_of_its_own_is_known_from_its_herald(careful: bool) -> None:
    own = Dump(vmcore=b"x" * 3000, client_port=5555)
    stranger = Dump(vmcore=b"y" * 3000, client_port=6666, server_port=40000, heralded=False)
    packets = [packet for one in own.traffic() + stranger.traffic() for packet in plain(one)]
    assert found_in(packets, careful) == [
        seen(one, float(number)) for number, one in enumerate(own.traffic())
    ]
    assert len(datagrams_in(capture(packets), careful=careful, port=6666)) == len(packets)


@CAREFUL
def test_super_frames_are_one_datagram(careful: bool) -> None:
    traffic = coalesced(Dump(vmcore=bytes(200_000), acked=False).traffic())
    assert max(len(one.payload) for one in traffic) > 60_000
    packets = [packet for one in traffic for packet in plain(one)]
    assert found_in(packets, careful) == [
        seen(one, float(number)) for number, one in enumerate(traffic)
    ]


@CAREFUL
@pytest.mark.parametrize("wrapping", [plain, tagged, with_checksum_trailer])
def test_what_a_snap_length_cut_off_is_told_exactly(wrapping, careful: bool) -> None:
    datagram = Dump(vmcore=Random(1).randbytes(90)).traffic()[2]
    packet = wrapping(datagram)[0]
    head = 42 + 4 * (wrapping is tagged)
    for size in range(len(packet.data) + 1):
        found = found_in([packet.cut(size)], careful)
        if size < head:
            assert found == []
        else:
            assert found == [seen(datagram, 0.0, size - head)]


@CAREFUL
def test_the_padding_of_a_short_frame_is_no_payload(careful: bool) -> None:
    ack = Dump(vmcore=b"x").traffic()[1]
    assert len(ack.payload) == 4
    found = found_in(plain(ack), careful)
    assert found == [seen(ack, 0.0)]


@CAREFUL
@pytest.mark.parametrize("lie", [b"\0\x07", b"\0\x00", b"\x05\xff", b"\xff\xff"])
def test_a_udp_length_that_cannot_be_holds_nothing_but_what_a_host_may_leave_open(
    lie: bytes, careful: bool
) -> None:
    datagram = Dump(vmcore=bytes(100)).traffic()[2]
    frame = plain(datagram)[0]
    changed = frame._replace(data=frame.data[:38] + lie + frame.data[40:])
    expected = [seen(datagram, 0.0)] if lie == b"\0\0" else []
    assert found_in([changed], careful) == expected


def mixed(seed: int) -> tuple[list[Packet], list[SeenDatagram]]:
    """Some dumps in all wrappings among other traffic, and what is to be found."""
    random = Random(seed)
    baits = [plain(Dump(vmcore=b"z").traffic()[0])[0].data[:14], b"\0" * 28, b"\xff" * 40]
    traffic = []
    for number in range(random.randrange(1, 4)):
        vmcore = b"".join(random.choices(baits, k=random.randrange(200)))
        six = random.random() < 0.3
        network = "2001:db8::" if six else "10.99.0."
        dump = Dump(
            vmcore=vmcore,
            client=f"{network}{number + 2}",
            server=f"{network}1",
            payload=random.choice([100, 512, 1448]),
            first_seqno=random.randrange(5),
            server_port=40_000 + number,
        )
        traffic += dump.traffic() if random.random() < 0.7 else coalesced(dump.traffic())
    packets: list[Packet] = []
    expected = []
    for number, datagram in enumerate(traffic):
        if random.random() < 0.2:
            packets.append(random.choice(OTHER_TRAFFIC))
        captured = None
        if random.random() < 0.1 and len(datagram.payload) > 30:
            packets += fragments(datagram, number)
        elif random.random() < 0.6:
            packet = plain(datagram)[0]
            head = len(packet.data) - len(datagram.payload)
            if random.random() < 0.1 and len(datagram.payload) > 30:
                captured = random.randrange(len(datagram.payload))
                packet = packet.cut(head + captured)
            packets.append(packet)
        else:
            packets += random.choice(WRAPPINGS)(datagram)
        expected.append(seen(datagram, len(packets) - 1.0, captured))
    return packets, expected


@given(
    seed=st.integers(0, 1 << 32),
    window=st.sampled_from([70_000, 100_000, 1 << 20]),
    careful=st.booleans(),
    mapped=st.booleans(),
)
def test_any_mix_is_found_exactly_on_both_paths(
    seed: int, window: int, careful: bool, mapped: bool
) -> None:
    packets, expected = mixed(seed)
    with small_windows(window, lane_spacing=200, min_lanes=2):
        found = datagrams_in(capture(packets), careful=careful, mapped=mapped)
    assert found == expected


@given(seed=st.integers(0, 1 << 32), count=st.integers(1, 40))
def test_both_paths_agree_on_damaged_frames(seed: int, count: int) -> None:
    random = Random(seed)
    packets, _ = mixed(seed)
    for _ in range(count):
        row = random.randrange(len(packets))
        packet = packets[row]
        if packet.data:
            at = random.randrange(min(60, len(packet.data)))
            changed = bytearray(packet.data)
            changed[at] = random.randrange(256)
            packets[row] = packet._replace(data=bytes(changed))
    assert found_in(packets, True) == found_in(packets, False)


@given(
    st.lists(st.tuples(st.sampled_from([1, 113, 276, 0, 101]), st.binary(max_size=80)), max_size=30)
)
def test_noise_never_raises_and_both_paths_agree(frames: list[tuple[int, bytes]]) -> None:
    packets = [Packet(link, data, len(data)) for link, data in frames]
    assert found_in(packets, True) == found_in(packets, False)


@CAREFUL
@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("wrapping", [*WRAPPINGS, fragments])
def test_a_herald_is_found_by_its_form(wrapping, six: bool, careful: bool) -> None:
    """Neither the server nor the client uses a usual port; nothing else of these ports is found."""
    addresses = {"client": "2001:db8::2", "server": "2001:db8::1"} if six else {}
    traffic = Dump(vmcore=Random(0).randbytes(5000), path=b"lab\0", client_port=5555, **addresses)
    packets, expected = [], []
    for number, one in enumerate(traffic.traffic()):
        ports = {20023: 4000}
        datagram = one._replace(
            sport=ports.get(one.sport, one.sport), dport=ports.get(one.dport, one.dport)
        )
        packets += wrapping(datagram, number) if wrapping is fragments else wrapping(datagram)
        expected.append(seen(datagram, len(packets) - 1.0))
    assert found_in(packets, careful) == expected
    without = [packet for at, packet in enumerate(packets) if at > expected[0].time]
    assert found_in(without, careful) == []
