# SPDX-License-Identifier: GPL-2.0-or-later
"""What a client needs of the network: a way to one server and the acks that come back.

udp_client.py does it with a plain socket, raw/transport.py with Ethernet frames.
"""

from __future__ import annotations

import errno
from typing import Protocol

from ..errors import NetdumpError
from ..wire import Buffer


class TransportError(NetdumpError):
    """There is no way to the server: no such name, no ARP answer, a port that is taken."""


#: Errors of a call that no network and no passing state of this host can produce: our own. All
#: else may be over in a moment, as ICMP errors are (forged or not), a firewall's no (EPERM), an
#: interface that is down (ENETDOWN, ENXIO), or that lost its address (EINVAL, EADDRNOTAVAIL).
OUR_FAULTS = frozenset(
    {errno.EBADF, errno.ENOTSOCK, errno.EFAULT, errno.EDESTADDRREQ, errno.EAFNOSUPPORT}
)


class Transport(Protocol):
    """Sends client messages to one dump server and hears what that server answers.

    Whoever makes one knows the way when it is made: names are looked up, ARP is answered,
    the source port is ours; a TransportError says what failed there.
    """

    @property
    def mtu_payload(self) -> int:
        """The largest payload of a message that travels unfragmented: MTU - 20 - 8 - 24 with
        IPv4."""

    @property
    def server(self) -> str:
        """Address of the server in words, for messages to the user."""

    @property
    def trouble(self) -> str:
        """What the network last reported of the way there, such as "Connection refused" from an
        ICMP error; empty if nothing. No such report ends a dump (PROTOCOL.md: ICMP is ignored);
        it explains one that was given up."""

    def send(self, datagrams: Buffer, size: int, port: int) -> None:
        """Send datagrams to the server's `port`.

        They stand end to end in `datagrams`, each of `size` bytes but the last, which may be
        shorter: what UDP_SEGMENT takes. The buffer is used again after the call. What the
        system refuses counts as lost on the way, and is sent again as all that is lost, until
        the sender's patience ends. A TransportError only for `OUR_FAULTS`.
        """

    def receive(self, timeout: float) -> list[tuple[bytes, int]]:
        """What has come from the server: UDP payloads, and the server's port each came from.

        Waits up to `timeout` seconds for the first, and not at all for more. Empty when nothing
        came; that may be before the time is out. A payload may be several acks end to end.
        Whatever does not come from the server's address is dropped, ICMP errors are ignored.
        """

    def close(self) -> None:
        """Give back the port."""
