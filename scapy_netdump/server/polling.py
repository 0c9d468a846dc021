# SPDX-License-Identifier: GPL-2.0-or-later
"""What the server's loop waits for: sockets, a time, and a word from another thread."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from typing import Protocol, TypeAlias

from ..net.server_sockets import Poller
from .relay import Relay

#: Called with the time, in seconds by the monotonic clock.
Call: TypeAlias = Callable[[float], None]


class Watchable(Protocol):
    """A socket, or what has one."""

    def fileno(self) -> int:
        """Its descriptor."""


class Polling:
    """Calls back when a socket has something to read, when a time has come, when it is woken.

    ``alarm`` is that time, by the monotonic clock; who is called then sets the next one. All is
    called in the thread that calls `turn`, which waits outside the ``relay``'s lock; only `wake`
    may be called from elsewhere.
    """

    def __init__(self, on_alarm: Call, on_wake: Call, relay: Relay) -> None:
        self._relay = relay
        self.alarm = 0.0
        self._now = 0.0
        self._on_alarm = on_alarm
        self._on_wake = on_wake
        self._calls: dict[int, Call] = {}
        self._poller = Poller()
        self._waker, self._woken = socket.socketpair()
        self.watch(self._woken, self._hear)

    def turn(self) -> None:
        """Wait for something to happen, and call whom it concerns."""
        timeout = max(0.0, self.alarm - self._now)
        ready = self._relay.resting(self._poller.wait, timeout)
        now = self._now = time.monotonic()
        for descriptor, _ in ready:
            call = self._calls.get(descriptor)
            if call is not None:  # else it was closed by what another one brought
                call(now)
        if now >= self.alarm:
            self._on_alarm(now)

    def watch(self, sock: Watchable, call: Call) -> None:
        """Call when the socket has something, in place of whom else it was watched for."""
        if sock.fileno() not in self._calls:
            self._poller.add(sock.fileno())
        self._calls[sock.fileno()] = call

    def unwatch(self, sock: Watchable) -> None:
        """Watch the socket no more, if it is watched; to be called before it is closed."""
        if self._calls.pop(sock.fileno(), None) is not None:
            self._poller.remove(sock.fileno())

    def wake(self) -> None:
        """Have ``on_wake`` called soon. Any thread and a signal handler may call this."""
        with contextlib.suppress(OSError):  # full: it will wake anyhow; closed: it is over
            self._waker.send(b"\0", socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Give back what the system keeps for it."""
        self._waker.close()
        self._woken.close()
        self._poller.close()

    def _hear(self, now: float) -> None:
        with contextlib.suppress(BlockingIOError):
            self._woken.recv(1 << 10, socket.MSG_DONTWAIT)
        self._on_wake(now)
