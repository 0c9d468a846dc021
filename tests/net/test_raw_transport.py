# SPDX-License-Identifier: GPL-2.0-or-later
"""The transport that sends frames, over a cable between two namespaces; most of it needs root."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from helpers.netns import HERE, LEFT, RIGHT, Namespace, cable

__all__ = ["cable"]  # a fixture

FOREIGN = "10.83.0.77"  # an address that neither end of the cable has
FAR = "198.51.100.1"  # a server's behind a gateway

SETUP = """
import sys
from scapy_netdump.errors import NetdumpError
from scapy_netdump.net.raw.transport import RawTransport
from scapy_netdump.wire import acks, header

def seqnos(transport, count):
    found, ports = [], set()
    for _ in range(100):
        for payload, port in transport.receive(0.1):
            found += acks(payload)
            ports.add(port)
        if len(set(found)) >= count:
            break
    return sorted(set(found)), ports

def herald(transport):
    transport.send(header(1, 1, 0, 0), 24, 20023)
    found, (port,) = seqnos(transport, 1)
    assert found == [1] and port != 20023, (found, port)
    return port

def messages(first, end, size):
    return b"".join(header(3, n, n * size, size) + bytes(size) for n in range(first, end))
"""

TRANSFER = """
port = herald(transport)
for first in range(2, 202, 40):
    transport.send(messages(first, first + 40, 1448), 1472, port)
    assert seqnos(transport, 40) == (list(range(first, first + 40)), {port})
transport.send(messages(202, 203, 7), 31, port)
assert seqnos(transport, 1) == ([202], {port})
transport.close()
print(transport.mtu_payload, transport.server, transport.trouble or "no trouble")
"""


@pytest.fixture
def ends(cable: tuple[Namespace, Namespace]) -> Iterator[tuple[Namespace, Namespace]]:
    left, right = cable
    with right.background(sys.executable, "helpers/ack_server.py", RIGHT):
        yield left, right


def icmp_errors_received(end: Namespace) -> int:
    names, values = (
        line.split()
        for line in end.run("cat", "/proc/net/snmp").stdout.splitlines()
        if line.startswith("Icmp:")
    )
    return int(values[names.index("InDestUnreachs")])


def error_of(end: Namespace, transport: str) -> str:
    code = f"try: {transport}\nexcept NetdumpError as error: print(error)"
    return end.python(SETUP + code)


@pytest.mark.root
def test_messages_and_acks_from_the_hosts_own_address(ends: tuple[Namespace, Namespace]) -> None:
    code = f"transport = RawTransport('cable', '{RIGHT}')"
    assert ends[0].python(SETUP + code + TRANSFER) == f"1448 {RIGHT} no trouble\n"
    assert icmp_errors_received(ends[1]) == 0


@pytest.mark.root
def test_an_address_that_the_host_does_not_have(ends: tuple[Namespace, Namespace]) -> None:
    code = f"transport = RawTransport('cable', '{RIGHT}', '{FOREIGN}')"
    assert ends[0].python(SETUP + code + TRANSFER) == f"1448 {RIGHT} no trouble\n"


@pytest.mark.root
def test_arp_requests_for_that_address_are_answered(ends: tuple[Namespace, Namespace]) -> None:
    left, right = ends
    code = f"""
transport = RawTransport('cable', '{RIGHT}', '{FOREIGN}')
print(transport._hardware, flush=True)
while True: transport.receive(1)
"""
    ask = f"""
from scapy.all import *
conf.verb = 0
for address in "{FOREIGN}", "10.83.0.78":
    print(srp1(Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(pdst=address), iface="cable", timeout=2))
"""
    with left.background(sys.executable, "-c", SETUP + code):
        answer, nobody = right.python(ask).splitlines()
    hardware = left.run("cat", "/sys/class/net/cable/address").stdout.strip()
    assert f"ARP is at {hardware} says {FOREIGN}" in answer
    assert nobody == "None"


@pytest.fixture
def gateway(cable: tuple[Namespace, Namespace]) -> Iterator[Namespace]:
    """The left end; the right one is a gateway, with a server that does not answer ARP."""
    left, right = cable
    right.run("ip", "address", "add", f"{FAR}/32", "dev", "lo")
    right.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/all/arp_ignore")
    with right.background(sys.executable, "helpers/ack_server.py", FAR):
        yield left


@pytest.mark.root
def test_a_gateway_that_was_named(gateway: Namespace) -> None:
    code = f"transport = RawTransport('cable', '{FAR}', gateway='{RIGHT}', arp_wait=0.05)"
    assert gateway.python(SETUP + code + TRANSFER) == f"1448 {FAR} no trouble\n"


@pytest.mark.root
def test_the_gateway_of_the_hosts_route(gateway: Namespace) -> None:
    gateway.run("ip", "route", "add", "default", "via", RIGHT)
    code = f"transport = RawTransport('cable', '{FAR}', arp_wait=0.05)"
    assert gateway.python(SETUP + code + TRANSFER) == f"1448 {FAR} no trouble\n"


@pytest.mark.root
def test_no_arp_answer_is_explained(gateway: Namespace) -> None:
    call = f"RawTransport('cable', '{FAR}', gateway='{FOREIGN}', arp_retries=2, arp_wait=0.05)"
    assert error_of(gateway, call) == (
        f"cable: no ARP answer from {FAR} and the gateway {FOREIGN}, asked 2 times each as {LEFT};"
        " check the addresses and the cable, or name a gateway (-g)\n"
    )


@pytest.mark.root
def test_jumbo_frames(ends: tuple[Namespace, Namespace]) -> None:
    for end in ends:
        end.run("ip", "link", "set", "cable", "mtu", "9000")
    code = f"""
transport = RawTransport('cable', '{RIGHT}')
port = herald(transport)
transport.send(messages(2, 9, 8948), 8972, port)
print(transport.mtu_payload, len(seqnos(transport, 7)[0]))
"""
    assert ends[0].python(SETUP + code) == "8948 7\n"


@pytest.mark.root
def test_icmp_is_no_answer_but_explains(cable: tuple[Namespace, Namespace]) -> None:
    code = f"""
transport = RawTransport('cable', '{RIGHT}')
transport.send(header(1, 1, 0, 0), 24, 20023)
print(transport.receive(2), transport.trouble)
"""
    assert cable[0].python(SETUP + code) == f"[] {RIGHT} says port-unreachable\n"


@pytest.mark.root
def test_an_interface_that_goes_down_ends_nothing(ends: tuple[Namespace, Namespace]) -> None:
    code = f"""
import subprocess
transport = RawTransport('cable', '{RIGHT}')
port = herald(transport)
subprocess.run(["ip", "link", "set", "cable", "down"], check=True)
transport.send(messages(2, 3, 8), 32, port)
print(transport.receive(0.1), transport.trouble)
subprocess.run(["ip", "link", "set", "cable", "up"], check=True)
found = []
while not found:
    transport.send(messages(2, 3, 8), 32, port)
    found, _ = seqnos(transport, 1)
print(found)
"""
    assert ends[0].python(SETUP + code) == "[] cable: Network is down\n[2]\n"


@pytest.mark.root
@pytest.mark.parametrize(
    ("call", "error"),
    [
        (f"RawTransport('none', '{RIGHT}')", "none: no such interface"),
        (f"RawTransport('lo', '{RIGHT}')", "lo: not an Ethernet interface; leave out -i"),
        ("RawTransport('cable', 'no.invalid')", "no.invalid: no IPv4 address by this name"),
        ("RawTransport('cable', '2001:db8::1')", "2001:db8::1: no IPv4 address by this name"),
    ],
)
def test_what_cannot_be_is_explained(
    cable: tuple[Namespace, Namespace], call: str, error: str
) -> None:
    assert error_of(cable[0], call).startswith(error)


@pytest.mark.root
def test_an_interface_without_an_address_is_explained(cable: tuple[Namespace, Namespace]) -> None:
    cable[0].run("ip", "address", "flush", "dev", "cable")
    assert error_of(cable[0], f"RawTransport('cable', '{RIGHT}')").startswith(
        "cable: has no IPv4 address; say which to use (-c CLIENT)"
    )


@pytest.mark.root
def test_a_taken_port_is_explained(cable: tuple[Namespace, Namespace]) -> None:
    taken = "import socket; other = socket.socket(type=socket.SOCK_DGRAM)"
    call = f"{taken}; other.bind(('{LEFT}', 20024)); RawTransport('cable', '{RIGHT}')"
    assert error_of(cable[0], call) == (
        f"{LEFT} port 20024: Address already in use; end the program that has it\n"
    )


def test_without_privileges_it_says_so() -> None:
    code = """
import os, encodings.idna  # the latter while it can still be read
if os.getuid() == 0: os.setuid(65534)
try: RawTransport('lo', '127.0.0.1')
except NetdumpError as error: print(error)
"""
    run = [sys.executable, "-c", SETUP + code]
    assert "root or with CAP_NET_RAW only" in subprocess.check_output(run, cwd=HERE, text=True)
