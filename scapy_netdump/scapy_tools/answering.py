# SPDX-License-Identifier: GPL-2.0-or-later
"""A dump server as an answering machine, to look at and to change.

>>> netdumpd("/var/crash")                                 # until Ctrl-C
>>> server = netdumpd("/var/crash", bg=True); ...; server.stop()
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event as Flag
from typing import Any, cast

from scapy.ansmachine import AnsweringMachine
from scapy.layers.inet import UDP
from scapy.packet import Packet
from scapy.sendrecv import AsyncSniffer

from ..core.receiving.events import Ended, Event, Refused, WriteFailed
from ..core.receiving.limits import Limits
from ..core.receiving.receiver import Receiver
from ..formats import ACK_PORT, HERALD_PORT
from ..layers import Netdump, NetdumpAck
from ..net.ends import End
from ..store.live_dumps import LiveDumps
from ..text import printable
from .server_socket import DumpServerSocket, FrameServerSocket, UdpServerSocket
from .session import datagram_of, udp_and_ip

#: Data ports, which clients share.
_SLOTS = 16


class Netdump_am(AnsweringMachine[Packet]):
    """Receives dumps into a directory, with a Scapy packet for each message.

    That is slow, a thousand or two messages a second, and open to change: derive a class from
    this one to answer otherwise. `serve` and `netdump serve` are made for speed.

    directory: where files of dumps go
    address, port: where HERALDs come to; by default any IPv4 address of the host
    iface: hear and send frames there, instead of the system's UDP sockets
    ack_port: where acks go at the client; None for the port that a message came from
    limits: what is taken from whom, a scapy_netdump.core.receiving.limits.Limits
    on_event: called with what happens, see scapy_netdump.core.receiving.events
    """

    def parse_options(
        self,
        directory: str | Path = ".",
        address: str = "",
        port: int = HERALD_PORT,
        ack_port: int | None = ACK_PORT,
        limits: Limits | None = None,
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        self.directory = Path(directory)
        self.address, self.port, self.ack_port = address, port, ack_port
        self.limits, self.on_event = limits, on_event

    def open(self) -> None:
        """Take directory and port; a NetdumpError says why that cannot be."""
        self.dumps = LiveDumps(self.directory)
        try:
            self.socket = self._listen()
        except BaseException:
            self.dumps.close()
            raise
        self.socket.idle = self._look_at_clock
        by_port = self.ack_port is None
        self.receiver = Receiver(
            self.dumps, self.limits, secret=os.urandom(16), by_port=by_port, slots=_SLOTS
        )
        self.slots: dict[int, int] = {}  # by the server's port
        self.optsniff["opened_socket"] = self.socket

    def _listen(self) -> DumpServerSocket:
        interface = self.optsniff.pop("iface", None)
        if interface is not None:
            return FrameServerSocket(interface, self.address, self.port)
        return UdpServerSocket(self.address or "0.0.0.0", self.port)

    def close(self) -> None:
        """End all dumps, and give back directory and port."""
        self.receiver.stop(time.monotonic())
        self._settle()
        self.socket.close()
        self.dumps.close()

    def sniff(self) -> None:
        self.open()
        try:
            super().sniff()
        finally:
            self.close()

    def sniff_bg(self) -> None:
        self.open()
        self.sniffer = NetdumpdSniffer(self)
        self.sniffer.start()
        self.sniffer.started.wait()

    def is_request(self, req: Packet) -> int:
        """Whether somebody may get an answer to this: any message, so far."""
        return int(udp_and_ip(req) is not None and isinstance(req[UDP].payload, Netdump))

    def make_reply(self, req: Packet) -> Any:
        """The ack; None for no answer."""
        udp, ip = req[UDP], req[UDP].underlayer
        port = self.take(req)
        if port is None:
            return None
        to = udp.sport if self.ack_port is None else self.ack_port
        back = type(ip)(src=ip.dst, dst=ip.src) / UDP(sport=port, dport=to)
        return back / NetdumpAck(seqno=req[Netdump].seqno)

    def take(self, req: Packet) -> int | None:
        """Give a message to its dump; the port to ack it from, or None for no ack."""
        now = time.monotonic()
        udp, ip = req[UDP], req[UDP].underlayer
        data = datagram_of(udp)
        peer, slot = (ip.src, udp.sport), self.slots.get(udp.dport)
        if slot is not None:
            session = self.receiver.session(peer, ip.dst, slot, data, now)
            acks = self.receiver.receive(session, data, now) if session is not None else b""
            return udp.dport if acks else None
        answer = self.receiver.herald(peer, ip.dst, data, now)
        return None if answer is None else self._port_of(answer[0])

    def _port_of(self, slot: int) -> int | None:
        for port, known in self.slots.items():
            if known == slot:
                return port
        try:
            port = self.socket.open_port()
        except OSError:
            return None
        self.slots[port] = slot
        return port

    def reply(self, pkt: Packet, *args: Any, **options: Any) -> None:
        super().reply(pkt, *args, **options)
        self._settle()  # after the ack: this may wait for the disk

    def send_reply(self, reply: Packet, send_function: Any = None) -> None:
        self.socket.send(reply)

    def _look_at_clock(self) -> None:
        self.receiver.expire(time.monotonic())
        self._settle()

    def _settle(self) -> None:
        """Do what the receiver says is to be done."""
        events, closings, _, _ = self.receiver.take()
        self.receiver.filing -= len(closings)
        for event in [*events, *(closing.run(time.monotonic()) for closing in closings)]:
            self.print_event(event)
            if self.on_event is not None:
                self.on_event(event)

    def print_event(self, event: Event) -> None:
        """Say how a dump ended, or why one does not begin or go on."""
        if not self.verbose:
            return
        if isinstance(event, Ended):
            print(printable(f"{event.client}: {event.status}: {event.files['info']}"))
        elif isinstance(event, Refused):
            print(printable(f"{event.client}: refused: {event.reason}"))
        elif isinstance(event, WriteFailed):
            print(printable(f"{event.client}: {event.file} at {event.offset}: {event.error}"))


class NetdumpdSniffer(AsyncSniffer):
    """What `netdumpd(bg=True)` returns: `stop` ends it and all dumps; `end` is its port."""

    def __init__(self, machine: Netdump_am) -> None:
        self.machine = machine
        self.started = Flag()
        super().__init__(**machine.optsniff, started_callback=self.started.set)

    @property
    def end(self) -> End:
        """The address and port that HERALDs come to."""
        end: End = self.machine.socket.end
        return end

    def _run(self, *args: Any, **options: Any) -> None:
        try:
            super()._run(*args, **options)
        finally:
            self.started.set()
            self.machine.close()


def netdumpd(
    directory: str | Path = ".", *, bg: bool = False, **options: Any
) -> NetdumpdSniffer | None:
    """Receives dumps into a directory: until Ctrl-C, or with `bg` until `stop` of what this
    returns. The options are those of Netdump_am and of all answering machines."""
    machine = Netdump_am(directory=directory, **options)
    if not bg:
        machine()
        return None
    return cast(NetdumpdSniffer, machine.bg())
