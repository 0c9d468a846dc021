# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of clients, asked in one thread and used in another."""

from __future__ import annotations

import threading

from scapy_netdump.server.names import Names


class Resolver:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.now = 0.0

    def look_up(self, address: str) -> str:
        self.asked.append(address)
        return f"host{len(self.asked)}"


def test_a_name_is_known_after_it_was_asked_for_and_not_before() -> None:
    resolver = Resolver()
    names = Names(resolver.look_up)
    assert names.name_of("192.0.2.1") == ""
    names.resolve("192.0.2.1")
    assert names.name_of("192.0.2.1") == "host1"
    assert names.name_of("192.0.2.2") == ""
    assert resolver.asked == ["192.0.2.1"]


def test_it_is_asked_again_when_it_is_old() -> None:
    resolver = Resolver()
    names = Names(resolver.look_up, lambda: resolver.now)
    for resolver.now in (0.0, 100.0, 299.0):
        names.resolve("a")
    assert names.name_of("a") == "host1"
    resolver.now = 301.0
    names.resolve("a")
    assert names.name_of("a") == "host2"


def test_forged_addresses_do_not_fill_the_memory() -> None:
    names = Names(lambda address: "x")
    for number in range(3000):
        names.resolve(str(number))
    assert sum(names.name_of(str(number)) == "x" for number in range(3000)) == 1024
    assert names.name_of("2999") == "x"


def test_a_resolver_that_hangs_holds_up_nobody() -> None:
    answer = threading.Event()
    names = Names(lambda address: "late" if answer.wait(20) else "never")
    asking = threading.Thread(target=names.resolve, args=("a",))
    asking.start()
    assert names.name_of("a") == ""
    answer.set()
    asking.join()
    assert names.name_of("a") == "late"
