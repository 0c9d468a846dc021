# SPDX-License-Identifier: GPL-2.0-or-later
"""A Scapy socket to a netdump server, for which nobody needs root.

>>> s = NetdumpSocket("192.0.2.1")
>>> ack = s.sr1(Netdump(seqno=1) / NetdumpHerald(path="lab"), timeout=1)
>>> answered, unanswered = s.sr(Netdump(seqno=2) / b"memory", timeout=1, retry=3)
"""

import errno
import socket
import time
from collections import deque
from struct import unpack_from
from typing import Any

from scapy.config import conf
from scapy.data import MTU
from scapy.packet import Packet
from scapy.supersocket import SuperSocket

from ..errors import NetdumpError
from ..formats import ACK_PORT, HERALD, HERALD_PORT, NETDUMP_FORMAT
from ..layers import NetdumpAck
from ..net.udp import ask_for_buffer
from ..wire import HEADER_SIZE, ack, acks

# What a system says when it could not send a datagram just now (a full queue), must not (a
# firewall), or was told that an earlier one came back. The network may lose any of them, too.
_AS_GOOD_AS_LOST = {errno.ENOBUFS, errno.EPERM, errno.ECONNREFUSED}
_RECEIVE_BUFFER = 4 << 20  # acks come faster than Scapy takes them


class NetdumpSocket(SuperSocket):
    """Sends messages to a netdump server over UDP and receives its acks.

    HERALDs go to `port` of `server`. The server acks one from a port that it picked for the
    dump; all other messages go there from then on (`data_port`), and before that to `port`
    as well, where servers ignore them. Acks are taken from that port only, and while a
    HERALD is unanswered from any port of the server. An ICMP error means nothing here.

    Messages leave from port 20024, where servers send their acks to. With `sport=0` they
    leave from any free port, for servers that answer where a message came from. `source` is
    the address to send from, by default the one that the system would choose.
    """

    desc = "send netdump messages over UDP and receive their acks"

    def __init__(
        self, server: str, *, port: int = HERALD_PORT, sport: int = ACK_PORT, source: str = ""
    ) -> None:
        self.closed = True  # nothing to close yet, should this fail
        family, address = _resolve(server, port)
        self.ins = self.outs = _bound(family, source or _source_to(family, address), sport)
        self.closed = False
        self.data_port: int | None = None
        self._server = address
        self._herald: int | None = None  # seqno of the one that is unanswered
        self._received: deque[Packet] = deque()

    @property
    def server(self) -> tuple[str, int]:
        """Address of the server and the port that its heralds go to."""
        return self._server[0], self._server[1]

    @property
    def sport(self) -> int:
        """The port that messages leave from."""
        port: int = self.ins.getsockname()[1]
        return port

    def send(self, x: Packet | bytes, **_: Any) -> int:
        """Send a message; returns its size in bytes, or 0 if the system would not take it."""
        data = bytes(x)
        to = self._destination(data)
        if isinstance(x, Packet):
            x.sent_time = time.time()
        try:
            return self.ins.sendto(data, to)
        except OSError as error:
            if error.errno in _AS_GOOD_AS_LOST:
                return 0
            raise NetdumpError(f"{to[0]} port {to[1]}: {error.strerror}") from None

    def _destination(self, data: bytes) -> Any:
        """The address that a message goes to."""
        if len(data) >= HEADER_SIZE:
            kind, seqno, *_ = unpack_from(NETDUMP_FORMAT, data)
            if kind == HERALD:
                self._herald = seqno
                return self._server
        if self.data_port is None:
            return self._server
        return (self._server[0], self.data_port, *self._server[2:])

    def recv(self, x: int = MTU, **_: Any) -> Packet | None:
        """The next ack; what the server sends that holds none, as Raw.

        Waits for a datagram; None if that one has nothing to do with the dump.
        """
        if not self._received:
            self._receive(x)
        return self._received.popleft() if self._received else None

    def _receive(self, size: int) -> None:
        data, (host, port, *_) = self.ins.recvfrom(size)
        if host != self._server[0]:
            return
        seqnos = acks(data)
        if self._herald in seqnos:
            self.data_port = port
            self._herald = None
        if port == self.data_port:
            self._received += [NetdumpAck(ack(n)) for n in seqnos] or [conf.raw_layer(data)]

    @staticmethod
    def select(
        sockets: list[SuperSocket], remain: float | None = conf.recv_poll_rate
    ) -> list[SuperSocket]:
        """Those of `sockets` that have something; waits for one, `remain` seconds at most."""
        waiting = [s for s in sockets if isinstance(s, NetdumpSocket) and s._received]
        others = SuperSocket.select(sockets, 0 if waiting else remain)
        return waiting + [s for s in others if s not in waiting]


def _resolve(host: str, port: int) -> tuple[int, Any]:
    """The first address of a host, as the socket module takes it, with its family."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        raise NetdumpError(f"{host}: no address by this name; check the name") from None
    family, _, _, _, address = found[0]
    return family, address


def _source_to(family: int, server: Any) -> str:
    """The address from which the system would send to the server."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(server)
        except OSError as error:
            raise NetdumpError(f"{server[0]}: {error.strerror}") from None
        source: str = probe.getsockname()[0]
        return source


def _bound(family: int, source: str, sport: int) -> socket.socket:
    """A socket that is not connected: a connected one would drop acks from another port, and
    report ICMP errors."""
    opened = socket.socket(family, socket.SOCK_DGRAM)
    try:
        ask_for_buffer(opened, _RECEIVE_BUFFER)
        opened.bind((source, sport))
    except OSError as error:
        opened.close()
        where = f"{source} port {sport}"
        if error.errno != errno.EADDRINUSE:
            raise NetdumpError(f"{where}: {error.strerror}") from None
        raise NetdumpError(
            f"{where} is taken: close the socket or end the program that has it, as servers"
            " send acks there; or use sport=0 if the server answers the port of a message"
        ) from None
    return opened
