# SPDX-License-Identifier: GPL-2.0-or-later
"""Notices to a service manager, received from real sockets."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scapy_netdump.server.service.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A service manager's socket, and what it is called in the environment."""
    if request.param == "abstract" and sys.platform != "linux":
        pytest.skip("abstract sockets are Linux's")
    name = str(tmp_path / "notify") if request.param == "path" else f"@netdump-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(name.replace("@", "\0"))
        bound.settimeout(10)
        yield bound, name


def test_what_is_sent(manager: tuple[socket.socket, str]) -> None:
    bound, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    notifier.ready("waiting for dumps")
    notifier.status("1 dump\nrunning")
    notifier.alive()
    notifier.stopping("")
    notifier.close()
    assert [bound.recv(1000) for _ in range(4)] == [
        b"READY=1\nSTATUS=waiting for dumps",
        b"STATUS=1 dump running",
        b"WATCHDOG=1",
        b"STOPPING=1",
    ]


def test_children_are_left_without_what_is_for_this_process(
    manager: tuple[socket.socket, str],
) -> None:
    environment = {
        "NOTIFY_SOCKET": manager[1],
        "WATCHDOG_USEC": "10000000",
        "WATCHDOG_PID": str(os.getpid()),
        "PATH": "/bin",
    }
    notifier = Notifier(environment)
    assert environment == {"PATH": "/bin"}
    assert notifier.watchdog == 5.0
    notifier.close()


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "9", "WATCHDOG_PID": "1"},
    ],
)
def test_no_watchdog_unless_it_is_asked_for(
    manager: tuple[socket.socket, str], asked: dict[str, str]
) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": manager[1], **asked})
    assert notifier.watchdog is None
    notifier.close()


@pytest.mark.parametrize("address", ["", "/no/such/socket", "@no-such-socket", "vsock:2:1", "x"])
def test_nobody_to_tell_is_no_failure(address: str) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000"})
    assert notifier.watchdog is None
    notifier.ready("x")
    notifier.close()
    notifier.close()


def test_a_manager_that_does_not_listen_is_not_waited_for(
    manager: tuple[socket.socket, str],
) -> None:
    bound, name = manager
    notifier = Notifier({"NOTIFY_SOCKET": name})
    for _ in range(2000):  # more than any queue of datagrams holds
        notifier.status("x" * 100)
    bound.close()
    notifier.stopping("")
    notifier.close()
