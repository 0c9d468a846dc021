# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumps that take their time, for a known reason, as a capture shows them. Imports no Scapy.

    from slow_dumps import Way, seen

    traffic = seen(Dump(vmcore=bytes(1 << 20)), Way(delay=0.01))     # a list of Datagrams

A client with the kernel's discipline (PROTOCOL.md: a chunk, all of its acks, the next chunk), a
server that takes one message after the other, and a way between them; seconds everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from helpers.traffic import Datagram, Dump, seqno_of

from scapy_netdump import formats


def _never(_: int) -> float:
    return 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """``delay`` each way; ``gap`` between two messages that are sent, ``pause`` before a chunk,
    ``timeout`` until unacked messages are sent again. The server takes ``service`` for a message,
    and ``sleep`` of its sequence number more. ``lost`` is the share of messages, ``acks_lost``
    that of acks; ``start`` is how long the HERALD takes to be answered."""

    delay: float = 1e-4
    gap: float = 2e-6
    pause: float = 1e-5
    timeout: float = 1.0
    service: float = 2e-6
    sleep: Callable[[int], float] = _never
    lost: float = 0.0
    acks_lost: float = 0.0
    start: float = 0.0
    at: str = "client"
    seed: int = 0


def seen(dump: Dump, way: Way) -> list[Datagram]:
    """What a capture at one end of the way shows of a dump."""
    random = Random(way.seed)
    events: list[Datagram] = []
    now, server_free = dump.start, 0.0

    def show(datagram: Datagram, client_time: float, server_time: float, at: set[str]) -> None:
        if way.at in at:
            time = client_time if way.at == "client" else server_time
            events.append(datagram._replace(time=time))

    for chunk in dump.chunks():
        unacked = {seqno_of(message): message for message in chunk}
        acked: dict[int, float] = {}
        while unacked:
            for seqno, message in unacked.items():
                arrives, arrived = now + way.delay, random.random() >= way.lost
                show(message, now, arrives, {"client", "server"} if arrived else {"client"})
                now += way.gap
                if not arrived:
                    continue
                server_free = max(server_free, arrives) + way.service + way.sleep(seqno)
                if message.dport == formats.HERALD_PORT:
                    server_free += way.start
                back, returned = server_free + way.delay, random.random() >= way.acks_lost
                ack = dump.ack(seqno)
                show(ack, back, server_free, {"client", "server"} if returned else {"server"})
                if returned:
                    acked[seqno] = min(back, acked.get(seqno, back))
            expires = now + way.timeout
            done = {seqno for seqno in unacked if acked.get(seqno, expires) < expires}
            unacked = {seqno: message for seqno, message in unacked.items() if seqno not in done}
            now = expires if unacked else max(now, *(acked[seqno_of(part)] for part in chunk))
        now += way.pause
    return sorted(events, key=lambda datagram: datagram.time)
