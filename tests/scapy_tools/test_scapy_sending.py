# SPDX-License-Identifier: GPL-2.0-or-later
"""Scapy's own sr1() and sr() with netdump's layers, over a cable between two namespaces."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from helpers.netns import LEFT, RIGHT, Namespace, cable
from scapy.all import ICMP, IP, UDP, ICMPv6DestUnreach, IPv6, Packet, Raw

from scapy_netdump.layers import Netdump, NetdumpAck, NetdumpHerald

__all__ = ["cable"]  # a fixture

SETUP = f"""
from scapy.all import *
from scapy_netdump import Netdump, NetdumpAck, NetdumpHerald, NetdumpSession
conf.verb = 0
to_server = IP(dst="{RIGHT}")
herald = to_server / UDP() / Netdump(seqno=1) / NetdumpHerald(path="lab")
"""


@pytest.fixture
def client(cable: tuple[Namespace, Namespace]) -> Iterator[Namespace]:
    left, right = cable
    with right.background(sys.executable, "helpers/ack_server.py", RIGHT):
        yield left


@pytest.mark.root
def test_sr1_gets_the_ack_from_another_port(client: Namespace) -> None:
    code = """
ack = sr1(herald, timeout=10)
print(ack[NetdumpAck].seqno, ack.sport != 20023)
data = to_server / UDP(dport=ack.sport) / Netdump(seqno=2) / b"memory"
print(sr1(data, timeout=10)[NetdumpAck].seqno)
"""
    assert client.python(SETUP + code) == "1 True\n2\n"


@pytest.mark.root
def test_srp1_does_too(client: Namespace) -> None:
    code = """
frame = Ether(dst=getmacbyip(to_server.dst)) / herald
print(srp1(frame, iface="cable", timeout=10)[NetdumpAck].seqno)
"""
    assert client.python(SETUP + code) == "1\n"


@pytest.mark.root
def test_sr_matches_many_by_seqno_under_loss(client: Namespace) -> None:
    client.drop_at_random(20)
    code = """
ack = sr1(herald, timeout=0.5, retry=30)
to_dump = to_server / UDP(dport=ack.sport)
messages = [to_dump / Netdump(seqno=n, offset=n * 8) / bytes(8) for n in range(2, 102)]
answered, unanswered = sr(messages, timeout=0.5, retry=30, session=NetdumpSession)
print(len(unanswered), sorted(got[NetdumpAck].seqno for sent, got in answered))
"""
    assert client.python(SETUP + code) == f"0 {list(range(2, 102))}\n"


@pytest.mark.root
def test_a_port_unreachable_is_no_answer(cable: tuple[Namespace, Namespace]) -> None:
    code = """
seen = []
look = lambda packet: seen.append(packet) or False
print(sr1(herald, timeout=1, stop_filter=look), any(ICMP in p for p in seen))
"""
    assert cable[0].python(SETUP + code) == "None True\n"


def quoted(message: Packet, size: int) -> bytes:
    """What an ICMP error quotes of a message: the IP header, and some bytes behind it."""
    return bytes(message)[:size]


@pytest.mark.parametrize("size", [28, 32, 36, 56, 60])
@pytest.mark.parametrize("payload", [Netdump(seqno=0) / NetdumpHerald(path="lab"), NetdumpAck()])
def test_no_icmp_error_that_quotes_a_message_is_filed_with_it(payload: Packet, size: int) -> None:
    sent = IP(src=LEFT, dst=RIGHT) / UDP(sport=20024, dport=20023) / payload
    error = IP(src=RIGHT, dst=LEFT) / ICMP(type=3, code=3) / Raw(quoted(sent, size))
    assert IP(bytes(error)).hashret() != sent.hashret()
    ack = IP(src=RIGHT, dst=LEFT) / UDP(sport=40000, dport=20024) / NetdumpAck()
    assert IP(bytes(ack)).hashret() == sent.hashret()


def test_an_ack_from_another_port_answers_and_only_to_the_port_of_the_message() -> None:
    sent = IP(src=LEFT, dst=RIGHT) / UDP() / Netdump(seqno=7)
    ack = IP(src=RIGHT, dst=LEFT) / UDP(sport=40000, dport=20024) / NetdumpAck(seqno=7)
    assert IP(bytes(ack)).answers(sent)
    sent[UDP].sport = 5000
    assert not IP(bytes(ack)).answers(sent)


def test_no_icmpv6_error_either() -> None:
    sent = IPv6(src="2001:db8::2", dst="2001:db8::1") / UDP() / Netdump(seqno=1)
    error = IPv6(src="2001:db8::1", dst="2001:db8::2") / ICMPv6DestUnreach(code=4)
    assert IPv6(bytes(error / Raw(bytes(sent)))).hashret() != sent.hashret()
    ack = IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP(dport=20024) / NetdumpAck(seqno=1)
    answer = IPv6(bytes(ack))
    assert answer.hashret() == sent.hashret()
    assert answer.answers(sent)
