# SPDX-License-Identifier: GPL-2.0-or-later
"""What a dump server waits for, and the sockets of single dumps.

No error that a socket reports ends anything: ICMP is not authenticated, and what is lost
the client sends again.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys

from ..wire import ACK_SIZE
from .ends import SIZE_ROOM, End, address_of, datagram_sizes, end_of
from .listening import share
from .udp import (
    MAX_DATAGRAM,
    MOST,
    ReceiveBuffer,
    Splitter,
    ask_for_buffer,
    join_received,
)

#: Bytes after which other dumps have their turn.
_AT_ONCE = 1 << 20

#: As many datagrams of one size in a row, each of no more bytes, have the next looked for many
#: in a call; fewer, one a call. (Where the system joins them, they are longer.)
_MANY, _FEW, _LONGEST = 8, 2, 9000

#: After so many datagrams that came alone, only each so manieth time one more is looked for.
_ALONE, _LOOK = 8, 64

#: Looks, of a microsecond or so each, before the process sleeps until something comes: to be
#: woken takes longer than a client on a local network takes to answer. Each time that this is
#: in vain it looks less often; each so manieth sleep it tries again.
_LOOKS, _FEWER, _TRY_AGAIN = 100, 10, 64


class Poller:
    """Which sockets have something to read: epoll(7) where there is one, else poll(2)."""

    def __init__(self) -> None:
        if sys.platform == "linux":
            self._poll = select.epoll()
            self._second = 1.0
        else:
            self._poll = select.poll()
            self._second = 1000.0
        self._looks = 0
        self._sleeps = 0

    def add(self, descriptor: int) -> None:
        """Watch one from now on."""
        self._poll.register(descriptor, select.POLLIN)

    def remove(self, descriptor: int) -> None:
        """Watch it no more."""
        self._poll.unregister(descriptor)

    def wait(self, timeout: float) -> list[tuple[int, int]]:
        """Wait until there are some: their descriptors, each with what poll(2) says of it."""
        poll = self._poll.poll
        for _ in range(self._looks):
            ready = poll(0)
            if ready:
                self._looks = _LOOKS
                return ready
        self._sleeps += 1
        again = self._sleeps % _TRY_AGAIN == 0
        self._looks = _LOOKS if again else max(0, self._looks - _FEWER)
        return poll(timeout * self._second)

    def close(self) -> None:
        """Give back what the system keeps for it."""
        if sys.platform == "linux":
            self._poll.close()


class DataSocket:
    """The socket of one dump, connected to its client's port: it hears nobody else.

    One `receive` takes what has come, but no more than lets the other dumps have their turn.
    """

    #: The most datagrams that one `receive` takes.
    MOST = MOST

    def __init__(self, local: End, client: End, *, buffer: int, coalescing: bool) -> None:
        """At a port that may be a `SharedPort`'s. OSError if there can be no such socket."""
        family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
        #: What others sent to its port before it was connected, each with its sender.
        self.strangers: list[tuple[bytes, End]] = []
        self._peer: object = None
        self._most = self.MOST
        self._alone = 0
        self._expected = 0  # the size of the many that come at a time; 0: not so many do
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            share(self._socket)
            self._socket.bind(address_of(local))
            self._socket.connect(address_of(client))
            self._peer = self._socket.getpeername()
            self._early: list[bytes] = []
            self._take_early(client)
            ask_for_buffer(self._socket, buffer)
            self.coalescing = coalescing and join_received(self._socket)
        except OSError:
            self._socket.close()
            raise
        self.client = client
        self.local = end_of(self._socket.getsockname())
        self._splitter = Splitter(self._socket, coalescing)

    def fileno(self) -> int:
        """Its descriptor, to poll."""
        return self._socket.fileno()

    def receive(self, into: ReceiveBuffer) -> list[int]:
        """Datagrams that have come, end to end, as far as there is room for any more: their
        sizes."""
        buffer = into.view
        if self._early:
            data = self._early.pop(0)
            buffer[: len(data)] = data
            return [len(data)]
        if self._expected:
            return self._at_once(into)
        sizes: list[int] = []
        end = calls = 0
        receive = self._socket.recvmsg_into
        last = min(len(buffer), _AT_ONCE) - MAX_DATAGRAM
        for _ in range(self._most):
            if end > last:
                break
            try:
                size, ancillary, _, sender = receive([buffer[end:]], SIZE_ROOM)
            except BlockingIOError:
                break
            except OSError:
                continue
            if sender != self._peer:  # was on its way to this port when that was connected
                self.strangers.append((bytes(buffer[end : end + size]), end_of(sender)))
                continue
            calls += 1
            sizes += datagram_sizes(size, ancillary) if ancillary else (size,)
            end += size
        # Each look for one more costs a call: it is spared where it is in vain.
        self._alone = self._alone + 1 if calls == 1 else 0
        self._most = 1 if self._alone >= _ALONE and self._alone % _LOOK else self.MOST
        if _MANY <= calls == len(sizes) and into.takes_many:
            self._expect(sizes)
        return sizes

    def send(self, acks: bytes) -> None:
        """Send acks to the client."""
        for _ in range(2):  # the first try may only tell of an ICMP error that came before
            try:
                self._splitter.send(acks, ACK_SIZE)
                return
            except OSError:
                continue

    def close(self) -> None:
        """Give back the port."""
        self._socket.close()

    def _at_once(self, into: ReceiveBuffer) -> list[int]:
        try:
            sizes = into.receive(self._socket.fileno(), self._expected)
        except OSError:
            self._expected = 0
            return []
        self._expect(sizes)
        return sizes

    def _expect(self, sizes: list[int]) -> None:
        """Find out from those that came how the next are best received."""
        size = sizes[0]
        alike = sizes.count(size) >= len(sizes) - 1
        self._expected = size if len(sizes) > _FEW and alike and 0 < size <= _LONGEST else 0

    def _take_early(self, client: End) -> None:
        """Before it was connected anyone could send to its port: tell the client's datagrams from
        those of others."""
        with contextlib.suppress(OSError):
            while True:
                data, sender = self._socket.recvfrom(MAX_DATAGRAM)
                end = end_of(sender)
                if end == client:
                    self._early.append(data)
                else:
                    self.strangers.append((data, end))


def probe(buffer: int, coalescing: bool) -> tuple[int, bool]:
    """The receive buffer that a dump's socket will get, and whether it joins datagrams."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return ask_for_buffer(sock, buffer), coalescing and join_received(sock)


def has_ipv6() -> bool:
    """Whether this host can listen on IPv6 at all."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True
