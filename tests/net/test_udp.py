# SPDX-License-Identifier: GPL-2.0-or-later
"""Sockets that send and receive many datagrams at once, where the system can and where not."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from scapy_netdump.net import udp
from scapy_netdump.net.udp import Splitter, ask_for_buffer, join_received

ADDRESS = "127.85.68.80"  # U, D, P

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A sender and a receiver, not connected."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.bind((ADDRESS, 0))
        receiver.settimeout(10)
        ask_for_buffer(receiver, 1 << 22)
        yield sender, receiver


def numbered(count: int, size: int, last: int) -> bytes:
    return b"".join(bytes([number % 256]) * size for number in range(count)) + b"z" * last


def received(receiver: socket.socket, total: int) -> list[bytes]:
    found: list[bytes] = []
    while sum(map(len, found)) < total:
        found.append(receiver.recv(1 << 16))
    return found


@pytest.mark.parametrize("able", [True, False])
@pytest.mark.parametrize(
    ("count", "size", "last"),
    [(1, 24, 0), (44, 1472, 100), (100, 24, 7), (5, 40_000, 1), (2, 65_507, 0), (130, 1448, 0)],
)
def test_datagrams_arrive_one_by_one_as_they_were_put_together(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, able: bool, count: int, size: int, last: int
) -> None:
    sender, receiver = pair
    splitter = Splitter(sender)
    monkeypatch.setattr(splitter, "_able", able and splitter._able)
    data = numbered(count, size, last)
    splitter.send(data, size, receiver.getsockname())
    whole = [bytes([number % 256]) * size for number in range(count)]
    assert received(receiver, len(data)) == whole + [b"z" * last] * (last > 0)


def test_sizes_may_change_from_burst_to_burst(pair: Pair) -> None:
    sender, receiver = pair
    splitter = Splitter(sender)
    for sizes in ((100, 10), (4, 4), (60_000, 60_000), (100, 100), (30_000, 2)):
        data = bytes(sum(sizes))
        splitter.send(data, sizes[0], receiver.getsockname())
        assert tuple(map(len, received(receiver, len(data)))) == sizes


def test_a_system_that_refuses_to_split_gets_them_one_by_one(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender, receiver = pair
    monkeypatch.setattr(udp, "_UDP_SEGMENT", 9999)  # no such option
    splitter = Splitter(sender)
    for _ in range(2):
        splitter.send(bytes(1000), 300, receiver.getsockname())
        assert [len(data) for data in received(receiver, 1000)] == [300, 300, 300, 100]


def test_what_could_not_be_split_once_is_split_again_later(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told that the way takes smaller datagrams only, which may be forged, and ends in any case."""
    sender, receiver = pair
    splitter = Splitter(sender)
    with monkeypatch.context() as patch:
        patch.setattr(udp, "_UDP_SEGMENT", 9999)
        for _ in range(10):
            splitter.send(bytes(1000), 300, receiver.getsockname())
    for _ in range(100):
        splitter.send(bytes(1000), 300, receiver.getsockname())
    assert set(map(len, received(receiver, 110 * 1000))) == {300, 100}
    try:
        assert sender.getsockopt(udp.SOL_UDP, udp._UDP_SEGMENT) == 300
    except OSError:
        pytest.skip("this system splits nothing")


def test_a_datagram_that_is_too_large_is_an_error(pair: Pair) -> None:
    sender, receiver = pair
    with pytest.raises(OSError) as raised:  # noqa: PT011 - the number tells which
        Splitter(sender).send(bytes(65_508), 65_508, receiver.getsockname())
    assert raised.value.errno == errno.EMSGSIZE


def test_joined_datagrams_come_out_end_to_end(pair: Pair) -> None:
    sender, receiver = pair
    if not join_received(receiver):
        pytest.skip("this system joins nothing")
    Splitter(sender).send(numbered(40, 1000, 5), 1000, receiver.getsockname())
    assert b"".join(received(receiver, 40_005)) == numbered(40, 1000, 5)


def test_the_buffer_that_was_got_is_told(pair: Pair) -> None:
    assert ask_for_buffer(pair[0], 1 << 16) >= 1 << 15
    assert ask_for_buffer(pair[0], 1 << 30) > 1 << 16  # what the system gives of it
