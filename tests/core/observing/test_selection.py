# SPDX-License-Identifier: GPL-2.0-or-later
"""Directions and Selection: which flows are netdump, which way they go, which are wanted."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from helpers.receiving import message
from helpers.traffic import Datagram, batch

from scapy_netdump import formats
from scapy_netdump.core.observing.batch import Flow
from scapy_netdump.core.observing.messages import Direction
from scapy_netdump.core.observing.selection import (
    MAX_CLIENTS,
    Directions,
    Selection,
    odd_heralds,
)

CLIENT, SERVER, OTHER = (ip_address(f"10.99.0.{host}").packed for host in (2, 1, 7))
P = 41885  # the port that the server took for the dump


def flow(source: bytes, sport: int, destination: bytes, dport: int) -> Flow:
    return Flow(source, sport, destination, dport)


def ways(flows: list[Flow], **selection: object) -> list[Direction]:
    return [Direction(way) for way in Directions(Selection(**selection)).of(flows)]


HERALD = flow(CLIENT, formats.ACK_PORT, SERVER, formats.HERALD_PORT)
DATA = flow(CLIENT, formats.ACK_PORT, SERVER, P)
ACKS = flow(SERVER, P, CLIENT, formats.ACK_PORT)
ODD_HERALD = flow(CLIENT, 5555, SERVER, formats.HERALD_PORT)
ODD_DATA = flow(CLIENT, 5555, SERVER, P)
ODD_ACKS = flow(SERVER, P, CLIENT, 5555)


def test_the_usual_ports_tell_the_way():
    assert ways([HERALD, DATA, ACKS]) == [Direction.MESSAGES, Direction.MESSAGES, Direction.ACKS]


def test_a_server_that_answers_from_the_herald_port_sends_acks():
    from_herald_port = flow(SERVER, formats.HERALD_PORT, CLIENT, formats.ACK_PORT)
    assert ways([HERALD, from_herald_port]) == [Direction.MESSAGES, Direction.ACKS]


def test_a_port_of_the_clients_own_is_learned_from_its_herald():
    assert ways([ODD_DATA, ODD_ACKS]) == [Direction.NEITHER, Direction.NEITHER]
    assert ways([ODD_DATA, ODD_ACKS, ODD_HERALD]) == [
        Direction.MESSAGES,
        Direction.ACKS,
        Direction.MESSAGES,
    ]


def test_what_was_learned_holds_for_the_batches_that_follow():
    directions = Directions(Selection())
    directions.of([ODD_HERALD])
    assert directions.of([ODD_DATA, ODD_ACKS]).tolist() == [Direction.MESSAGES, Direction.ACKS]
    assert directions.of([flow(OTHER, 5555, SERVER, P)]).tolist() == [Direction.NEITHER]


def test_one_pair_of_ports_for_both_ways_is_both():
    same = flow(CLIENT, formats.ACK_PORT, SERVER, formats.ACK_PORT)
    assert ways([same]) == [Direction.BOTH]


def test_other_traffic_is_neither():
    assert ways([flow(CLIENT, 53, SERVER, 53)]) == [Direction.NEITHER]


def test_a_named_port_is_taken_for_a_clients():
    assert ways([ODD_DATA, ODD_ACKS], port=5555) == [Direction.MESSAGES, Direction.ACKS]


def test_a_named_port_of_the_server_does_not_blur_the_way():
    assert ways([DATA, ACKS], port=P) == [Direction.MESSAGES, Direction.ACKS]


def test_flows_without_the_named_port_are_not_wanted():
    other = flow(CLIENT, formats.ACK_PORT, SERVER, P + 1)
    assert ways([HERALD, DATA, other], port=P) == [
        Direction.NEITHER,
        Direction.MESSAGES,
        Direction.NEITHER,
    ]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"client": CLIENT}, True),
        ({"client": SERVER}, False),
        ({"server": SERVER}, True),
        ({"server": CLIENT}, False),
        ({"client": CLIENT, "server": SERVER}, True),
        ({"client": CLIENT, "server": OTHER}, False),
        ({"client": OTHER}, False),
    ],
)
def test_client_and_server_are_wanted_in_their_roles_in_both_directions(wanted, expected):
    for seen in (HERALD, DATA, ACKS):
        assert bool(ways([seen], **wanted)[0]) == expected


def test_where_both_ways_are_possible_either_role_is_wanted():
    same = flow(CLIENT, formats.ACK_PORT, SERVER, formats.ACK_PORT)
    assert ways([same], client=SERVER) == ways([same], client=CLIENT) == [Direction.BOTH]
    assert ways([same], client=OTHER) == [Direction.NEITHER]


def forged(number: int) -> Flow:
    return flow(number.to_bytes(4, "big"), 7777, SERVER, formats.HERALD_PORT)


def test_forged_heralds_are_forgotten_when_they_are_too_many():
    directions = Directions(Selection())
    directions.of([forged(number) for number in range(3 * MAX_CLIENTS)])
    data = [flow(number.to_bytes(4, "big"), 7777, SERVER, P) for number in range(3 * MAX_CLIENTS)]
    assert int((directions.of(data) != Direction.NEITHER).sum()) <= MAX_CLIENTS


def test_forged_heralds_do_not_make_a_client_forgotten_that_goes_on_sending():
    directions = Directions(Selection())
    directions.of([ODD_HERALD])
    for begin in range(0, 3 * MAX_CLIENTS, 1000):
        flows = [ODD_DATA, *(forged(begin + number) for number in range(1000))]
        assert directions.of(flows)[0] == Direction.MESSAGES


@pytest.mark.parametrize("port", [None, 4000, 5555])
def test_a_herald_to_any_port_speaks_for_its_client(port):
    herald = flow(CLIENT, 5555, SERVER, 4000)
    directions = Directions(Selection(port=port))
    flows = [herald, ODD_DATA, ODD_ACKS]
    assert directions.of(flows, [herald]).tolist() == [
        Direction.MESSAGES, Direction.MESSAGES, Direction.ACKS,
    ]  # fmt: skip
    assert directions.of(flows[1:]).tolist() == [Direction.MESSAGES, Direction.ACKS]


def test_a_named_herald_port_leaves_other_servers_out():
    herald, other = flow(CLIENT, 5555, SERVER, 4000), flow(OTHER, 5555, SERVER, 4001)
    directions = Directions(Selection(port=4000))
    directions.of([herald, other], [herald, other])
    assert directions.of([flow(OTHER, 5555, SERVER, P)]).tolist() == [Direction.NEITHER]


@pytest.mark.parametrize(
    ("payload", "found"),
    [
        (message(formats.HERALD, 1, 0, b"lab\0"), True),
        (message(formats.HERALD, 1), True),
        (message(formats.HERALD, 1, 0, b"lab\0") + b"x", False),
        (message(formats.HERALD, 1, 9), False),
        (message(formats.VMCORE, 1, 0, b"lab"), False),
        (message(formats.HERALD, 1)[:-1], False),
        (b"\0\0\0\1", False),
        (message(formats.HERALD, 1, 0, b"x" * 2000), False),
    ],
)
def test_the_form_of_a_herald(payload, found):
    datagrams = [Datagram(1.0, "10.99.0.7", 5555, "10.99.0.2", 4000, payload)] * 2
    assert odd_heralds(batch(datagrams)) == [flow(OTHER, 5555, CLIENT, 4000)] * found
