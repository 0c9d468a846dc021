# SPDX-License-Identifier: GPL-2.0-or-later
"""Sends a dump to a server: what a sender of the core has to say, over a transport.

result = send_dump("vmcore.0", "192.0.2.1", sending=Sending(path="lab"))
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from random import Random
from typing import IO, Any

from ..core.sending.cut import Dump
from ..core.sending.faults import Rates
from ..core.sending.kernel import KernelSender
from ..core.sending.sender import Counters, GaveUp, Patience, Sender
from ..core.sending.window import WindowSender
from ..dump.content import Content, FileObjectContent, Held
from ..errors import NetdumpError, UsageError
from ..formats import ACK_PORT, FINISHED, HERALD, HERALD_PORT, MESSAGE_TYPES
from ..net.transport import Transport
from ..net.udp_client import UdpTransport
from ..net.wrapped import FaultyTransport
from ..wire import Buffer
from .prepare import Outgoing, Preparation, prepared
from .strings import sent_bytes
from .watch import Notice, Watch, duration

_MAX_PORT = 0xFFFF
_MAX_PATH = 1023  # MAXPATHLEN (sys/param.h) less the NUL
_NETDUMPD_PAYLOAD, _NETDUMPD_MTU = 4096, 4148  # PROTOCOL.md, "Faults of the reference server"

#: Told how far the sending has come: what was done, of how many bytes, in how many seconds.
Progress = Callable[[Counters, int, float], None]


class SendError(NetdumpError):
    """The dump was not sent; `result` says how far it came."""

    def __init__(self, message: str, result: SendResult) -> None:
        super().__init__(message)
        self.result = result


@dataclass(frozen=True, slots=True)
class SendResult:
    """What was sent. `acknowledged` of the `bytes` of vmcore the server has said it has.

    `messages` are those of the dump, each counted once; `round_trip` is the smoothed time
    from a message to its ack. `dropped` were lost on purpose, in both directions together.
    `payload` is what a message carried at the end: less than at the start if the server, or the
    way to it, did not take that.
    """

    server: str
    finished: bool
    bytes: int
    acknowledged: int
    messages: int
    retransmissions: int
    round_trip: float
    seconds: float
    dropped: int = 0
    payload: int = 0

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """How to send: to which path below the server's directory, with what patience, as the kernel
    does or with a window, with which faults.

    The patience is that with a silent server; `timeout` bounds all of it, in seconds: a server
    that acks a message now and then is not silent.
    """

    path: str = ""
    patience: Patience = field(default_factory=Patience)
    timeout: float | None = None
    kernel: bool = False
    kernel_ack_bug: bool = False
    faults: Rates = field(default_factory=Rates)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.timeout is not None and not self.timeout > 0:
            raise UsageError(f"--timeout: {self.timeout} is no time to send anything in")
        _ = self.sent_path

    @property
    def sent_path(self) -> bytes:
        """The path as it goes into the HERALD, without its NUL."""
        return sent_bytes("--path", self.path, _MAX_PATH)


def send_dump(
    file: str | os.PathLike[str] | Buffer | IO[bytes],
    server: str | tuple[str, int],
    *,
    port: int | None = None,
    client: str | None = None,
    client_port: int = ACK_PORT,
    mtu: int | None = None,
    preparation: Preparation | None = None,
    sending: Sending | None = None,
    progress: Progress | None = None,
    notice: Notice | None = None,
) -> SendResult:
    """Send a dump to a server over plain UDP. NetdumpError if that fails, SendError if it is
    given up on the way.

    `file` is a path (of a vmcore, an entry of a dump directory, or a capture), the bytes of a
    vmcore, or a binary file with one that can be sought in. `server` is a name or an address, or
    a pair of it and its `port` for HERALDs, which is 20023 if it is given neither way; the rest
    of the dump goes to the port that the server answers from. `client` and `client_port` are the
    address and the port to send from, port 0 for any free one: acks go to port 20024 of the
    client unless the server answers the port that a message came from. `mtu`, in bytes, sets the
    size of messages; without it 1500 does, or 1280 for IPv6. See `Preparation` for what is made of
    the dump and `Sending` for how it is sent; `progress` is called with how far it has come,
    `notice` with a line when the server is slow, or acks no messages of that size.
    """
    address, herald_port = _end(server, port)
    if not 0 <= client_port <= _MAX_PORT:
        raise UsageError(f"there is no port {client_port} to send from")
    with prepared(_source(file), preparation) as dump:
        transport = UdpTransport(address, client, client_port, mtu)
        try:
            return send(dump, transport, sending, progress, notice, port=herald_port)
        finally:
            transport.close()


def _end(server: str | tuple[str, int], port: int | None) -> tuple[str, int]:
    """Address and HERALD port of the server."""
    if isinstance(server, str):
        address, port = server, HERALD_PORT if port is None else port
    elif len(server) != 2:
        raise UsageError(f"{server}: not a pair of an address and a port")
    elif port is None:
        address, port = server
    else:
        raise UsageError(f"the server's port is given twice: {server[1]} and {port}")
    if not 0 < port <= _MAX_PORT:
        raise UsageError(f"{address}: there is no port {port} to send to")
    return address, port


def _source(file: str | os.PathLike[str] | Buffer | IO[bytes]) -> str | os.PathLike[str] | Content:
    if isinstance(file, str | os.PathLike):
        return file
    if isinstance(file, bytes | bytearray | memoryview):
        return Held(file)
    return FileObjectContent(file)


def send(
    dump: Outgoing,
    transport: Transport,
    sending: Sending | None = None,
    progress: Progress | None = None,
    notice: Notice | None = None,
    *,
    port: int = HERALD_PORT,
) -> SendResult:
    """Send a dump that is ready over a transport that is open; SendError if it is given up.

    `port` is the server's for HERALDs.
    """
    sending = sending or Sending()
    faulty = None
    if sending.faults:
        random = Random(sending.seed)
        transport = faulty = FaultyTransport(transport, sending.faults, random.random)
    sender = _sender(dump, sending, transport.mtu_payload, port)
    clock = time.monotonic
    began = clock()

    def result() -> SendResult:
        counters = sender.counters
        return SendResult(
            server=transport.server,
            finished=sender.done,
            bytes=dump.size,
            acknowledged=counters.acknowledged,
            messages=counters.messages,
            retransmissions=counters.retransmissions,
            round_trip=counters.round_trip,
            seconds=clock() - began,
            dropped=faulty.out.dropped + faulty.back.dropped if faulty is not None else 0,
            payload=counters.payload,
        )

    watch = Watch(transport.server, dump.size, sender.counters, began)
    until = float("inf") if sending.timeout is None else began + sending.timeout
    try:
        while not sender.done:
            _turn(sender, transport, clock, until)
            now = clock()
            if progress is not None:
                progress(sender.counters, dump.size, now - began)
            if notice is not None:
                watch.look(sender.counters, now, notice)
            if now >= until and not sender.done:
                raise SendError(_out_of_time(result()), result())
    except GaveUp as end:
        told = _reason(end, sender.counters, transport, port, sending)
        raise SendError(told, result()) from None
    if sender.counters.acknowledged != dump.size:
        raise SendError("the file became shorter while it was sent: send it again", result())
    return result()


def _sender(dump: Dump, sending: Sending, payload: int, port: int) -> Sender:
    path = sending.sent_path
    if sending.kernel or sending.kernel_ack_bug:
        bug = sending.kernel_ack_bug
        return KernelSender(dump, path, payload, sending.patience, herald_port=port, ack_bug=bug)
    return WindowSender(dump, path, payload, sending.patience, herald_port=port)


def _turn(sender: Sender, transport: Transport, clock: Callable[[], float], until: float) -> None:
    """Send what may be sent, then hear what comes back, at most until a time."""
    while (burst := sender.next_burst(clock())) is not None:
        transport.send(burst.data, burst.size, burst.port)
    received = transport.receive(max(0.0, min(until, sender.deadline()) - clock()))
    now = clock()
    for payload, port in received:
        sender.receive(payload, port, now)


def _out_of_time(result: SendResult) -> str:
    """How far it came in the time that it had."""
    told = (
        f"not done in the {result.seconds:.0f} seconds of --timeout: {result.server} has confirmed "
        f"{result.acknowledged} of {result.bytes} bytes"
    )
    rest = result.bytes - result.acknowledged
    if not result.acknowledged or not rest:
        return told
    left = duration(rest * result.seconds / result.acknowledged)
    return f"{told}, and at that speed the rest takes {left}"


def _reason(
    end: GaveUp, counters: Counters, transport: Transport, port: int, sending: Sending
) -> str:
    """What went wrong, and what to do about it, in a line."""
    waited = f"for {sending.patience.total:.0f} seconds"
    told = f" ({transport.trouble})" if transport.trouble else ""
    if end.kind == HERALD and told:
        return (
            f"the HERALD came to no server at {transport.server}, UDP port {port}: "
            f"{transport.trouble}; start one there, or check the address"
        )
    if end.kind == HERALD:
        return (
            f"no answer to the HERALD from {transport.server} {waited}: check the address, that "
            f"a server runs there, and that UDP port {port} and the answer to our port pass"
        )
    if end.kind == FINISHED:
        return (
            f"{transport.server} did not confirm the end {waited}{told}, but has confirmed all "
            "data: look there whether the dump is complete"
        )
    where = f"gave up at byte {end.offset} of the {MESSAGE_TYPES[end.kind]} messages"
    if not counters.acknowledged and counters.payload > _NETDUMPD_PAYLOAD:
        return (
            f"{where}: {transport.server} acked no message of {counters.payload} bytes {waited}"
            f"{told}; a stock netdumpd takes {_NETDUMPD_PAYLOAD} at most: try --mtu {_NETDUMPD_MTU}"
        )
    kernel = sending.kernel or sending.kernel_ack_bug
    lacking = "not acked all of that chunk" if kernel else "acked nothing new"
    return (
        f"{where}: {transport.server} has {lacking} {waited}{told}; look into its log for a full "
        "disk or a limit, or try again with more --retries"
    )
