# SPDX-License-Identifier: GPL-2.0-or-later
"""What `send_dump` says while a server is slow, repeats itself or takes no large messages."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from helpers.ack_server import Server as AckServer
from helpers.ack_server import ack_once, as_netdumpd

from scapy_netdump import Patience, Preparation, SendError, Sending, UsageError, send_dump
from scapy_netdump.client.watch import Watch, duration
from scapy_netdump.core.sending.faults import Rates
from scapy_netdump.core.sending.sender import Counters
from scapy_netdump.formats import VMCORE
from scapy_netdump.wire import HEADER_SIZE, messages

CLIENT, SERVER = "127.87.65.1", "127.87.65.2"
DATA = Random(4).randbytes(300_000)
SHORT = Patience(polls=100, retries=2)


@pytest.fixture
def server() -> Iterator[AckServer]:
    server = AckServer(SERVER)
    server.start()
    yield server
    server.close()


def told(watch: Watch, counters: Counters, now: float) -> list[str]:
    lines: list[str] = []
    watch.look(counters, now, lines.append)
    return lines


def test_a_slow_server_is_told_of_ever_less_often() -> None:
    counters = Counters(payload=1000)
    watch = Watch("it", 1_000_000, counters, 0.0)
    times = []
    for second in range(2000):
        counters.acks += 1
        counters.acknowledged += 500 if counters.acknowledged < 900_000 else 0
        times += [second for line in told(watch, counters, second) if "is slow" in line]
    assert times == [10, 30, 70, 150, 310, 630, 1270, 1910]


def test_how_slow_it_is_and_how_long_that_takes() -> None:
    counters = Counters(payload=1000)
    watch = Watch("it", 700_000, counters, 5.0)
    counters.acks, counters.acknowledged = 25, 20_000
    assert told(watch, counters, 14.9) == []
    assert told(watch, counters, 15.0) == [
        "it is slow: 2500 bytes/s in the last 10 s; 20000 of 700000 bytes are there, the rest "
        "takes 4:32 at that speed (--timeout ends it sooner)"
    ]
    assert told(watch, counters, 35.0) == [
        "it has acked nothing new for 20 s; 20000 of 700000 bytes are there"
    ]


def test_a_server_that_is_not_slow_or_has_all_is_not_told_of() -> None:
    counters = Counters(payload=1448)
    watch = Watch("it", 10_000_000, counters, 0.0)
    for second in range(100):
        counters.acks += 100
        counters.acknowledged = second * 100_000
        assert told(watch, counters, second) == []
    counters.acknowledged = 10_000_000
    assert told(watch, counters, 200.0) == []


def test_smaller_messages_are_told_of_with_what_is_known() -> None:
    counters = Counters(payload=1448)
    watch = Watch("it", 10_000_000, counters, 0.0)
    counters.payload = 1208
    assert told(watch, counters, 1.0) == [
        "it acks no messages of 1448 bytes: they are cut to 1208 (a smaller --mtu does so from the "
        "start)"
    ]
    assert told(watch, counters, 1.1) == []
    counters.payload = 1448
    assert told(watch, counters, 2.0) == ["it takes messages of 1448 bytes now"]
    counters.acknowledged = 100_000
    assert told(watch, counters, 2.5) == []
    counters.payload = 1208
    assert told(watch, counters, 3.0) == [
        "it acks nothing any more: messages are cut to 1208 bytes, in case larger ones do not "
        "arrive"
    ]


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (61, "1:01"), (3600, "1:00:00"), (360_059, "100:00:59")]
)
def test_durations_are_as_on_a_clock(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


@pytest.mark.parametrize("kernel", [False, True])
def test_old_acks_again_and_again_are_silence(server: AckServer, kernel: bool) -> None:
    """Of messages that were acked before, some of them ever so often."""
    heard: list[bytes] = []

    def answer(message: bytes) -> list[bytes]:
        heard.append(message)
        return ack_once(message) if len(heard) <= 20 else [ack_once(old)[0] for old in heard[:20]]

    server.answer = answer
    with pytest.raises(
        SendError, match=r"acked (nothing new|all of that chunk) for 0 seconds"
    ) as error:
        send_dump(
            DATA, SERVER, port=server.port, client=CLIENT,
            sending=Sending(patience=SHORT, kernel=kernel),
        )  # fmt: skip
    assert error.value.result.seconds < 3


def test_a_timeout_bounds_a_server_that_is_never_silent(server: AckServer) -> None:
    acked: list[bytes] = []

    def answer(message: bytes) -> list[bytes]:
        acked.append(message)
        server._rung.settimeout(0.02)
        return ack_once(message) if len(acked) % 8 == 1 else []

    server.answer = answer
    with pytest.raises(SendError, match="not done in the 1 seconds of --timeout: ") as error:
        send_dump(
            DATA * 100, SERVER, port=server.port, client=CLIENT,
            sending=Sending(kernel=True, timeout=1),
        )  # fmt: skip
    assert 0.9 < error.value.result.seconds < 2


@pytest.mark.parametrize("mtu", [9000, 65_535])
def test_a_server_like_netdumpd_gets_smaller_messages(server: AckServer, mtu: int) -> None:
    server.answer = as_netdumpd
    lines: list[str] = []
    result = send_dump(
        DATA, SERVER, port=server.port, client=CLIENT, mtu=mtu, notice=lines.append,
        sending=Sending(patience=Patience(polls=200)),
    )  # fmt: skip
    assert result.finished
    assert result.payload == 4096
    assert lines == [
        f"{SERVER} acks no messages of {mtu - 52} bytes: they are cut to 4096 (a smaller --mtu "
        "does so from the start)"
    ]
    stored = bytearray(len(DATA))
    for _, datagram in server.heard:
        (message,) = messages(datagram)
        if message.type == VMCORE and message.len <= 4096:
            stored[message.offset : message.offset + message.len] = datagram[HEADER_SIZE:]
    assert stored == DATA


# What makes no sense, from Python


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Preparation(cipher="chacha20"), "-C: a cipher needs a public key"),
        (lambda: Preparation(level=3), "a compression level, and no compression"),
        (lambda: Sending(path="a\0b"), "--path: has a NUL"),
        (lambda: Sending(path="x" * 1024), "--path: no more than 1023 bytes fit, and it has 1024"),
        (lambda: Sending(path="\ud800"), "--path: half of a character"),
        (lambda: Sending(timeout=0), "--timeout: 0 is no time"),
        (lambda: Sending(timeout=float("nan")), "--timeout: nan is no time"),
        (lambda: Patience(polls=0), "no patience: 0 polls"),
        (lambda: Patience(retries=-1), "no patience: 2000 polls and -1 retries"),
        (lambda: Rates(loss=-0.1), "from 0 to 1"),
        (lambda: Rates(loss=float("nan")), "from 0 to 1"),
        (lambda: Rates(loss=0.6, corrupt=0.6), "add up to more than 1"),
        (lambda: send_dump(b"data", SERVER, mtu=70_000), "70000: not an MTU"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(make: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        make()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["hostname", "versionstring", "panicstring", "architecture"])
@pytest.mark.parametrize(
    ("text", "words"),
    [("x" * 200, "no more than"), ("a\0b", "has a NUL"), ("\udc00", "half of a character")],
)
def test_what_the_header_has_no_room_for_is_an_error(name: str, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=f"--{name}: {words}"):
        send_dump(b"data", SERVER, preparation=Preparation(**{name: text}))
