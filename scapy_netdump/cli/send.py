# SPDX-License-Identifier: GPL-2.0-or-later
"""``netdump send``: sends a dump, and tells how far it came."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from contextlib import closing

from ..client.prepare import Preparation, prepared
from ..client.send import SendError, Sending, SendResult, send
from ..client.watch import duration
from ..core.sending.faults import Rates
from ..core.sending.sender import Counters, Patience
from ..errors import UsageError
from ..net.transport import Transport
from ..net.udp_client import UdpTransport
from ..net.wrapped import TracedTransport
from ..text import counted, printable
from .common import GOOD
from .progress import ProgressLine
from .send_options import FAULTS, add, check_effects

__all__ = ["add", "run"]

_ARP_RETRIES = 3  # netdump(4), net.netdump.arp_retries


def run(options: argparse.Namespace) -> int:
    """Send, report, and return the exit status."""
    check_effects(options)
    sending = _sending(options)
    with (
        ProgressLine() as progress,
        prepared(options.file, _preparation(options), progress) as dump,
        closing(_transport(options)) as transport,
    ):
        _debug(options, f"sending {dump.describe()}")
        try:
            shown = _shown(progress, transport.server)
            port = options.server_port
            result = send(dump, transport, sending, shown, progress.say, port=port)
        except SendError as error:
            if options.json:
                _print_json(error.result, str(error))
            raise
    if options.json:
        _print_json(result, None)
    else:
        print(_described(result))
    return GOOD


def _sending(options: argparse.Namespace) -> Sending:
    faults = Rates(*(getattr(options, name) or 0.0 for name in FAULTS))
    return Sending(
        path=options.path,
        patience=Patience(options.polls, options.retries),
        timeout=options.timeout,
        kernel=options.kernel,
        kernel_ack_bug=options.kernel_ack_bug,
        faults=faults,
        seed=options.seed or 0,
    )


def _preparation(options: argparse.Namespace) -> Preparation:
    return Preparation(
        compression=options.compression,
        public_key=options.public_key,
        cipher=options.cipher,
        hostname=options.hostname,
        versionstring=options.versionstring,
        panicstring=options.panicstring,
        architecture=options.architecture,
        dumptime=int(time.time()),
        number=options.number,
    )


def _transport(options: argparse.Namespace) -> Transport:
    transport = _raw(options) if options.interface is not None else _plain(options)
    if not options.debug:
        return transport
    return TracedTransport(transport, lambda line: _debug(options, line))


def _plain(options: argparse.Namespace) -> Transport:
    return UdpTransport(options.server, options.client, options.port, options.mtu)


def _raw(options: argparse.Namespace) -> Transport:
    from ..net.raw.transport import RawTransport  # Scapy, which takes a second to load

    if options.mtu is not None:
        raise UsageError("--mtu: with -i it is the interface's; `ip link set mtu` changes it")
    if not options.port:
        raise UsageError("--port 0: with -i a port must be named, the system does not choose one")
    return RawTransport(
        options.interface,
        options.server,
        options.client or "",
        options.gateway or "",
        port=options.port,
        arp_retries=options.arp_retries or _ARP_RETRIES,
        arp_wait=Patience(options.polls).interval,
    )


def _debug(options: argparse.Namespace, line: str) -> None:
    if options.debug:
        print(f"netdump: {printable(line)}", file=sys.stderr)


def _shown(line: ProgressLine, server: str) -> Callable[[Counters, int, float], None]:
    """Puts progress on the line: rate, messages sent again, time left."""

    def show(counters: Counters, size: int, seconds: float) -> None:
        if not line.due:
            return
        rate = counters.acknowledged / seconds if seconds else 0.0
        words = f"{rate / 1e6:.0f} MB/s, {counters.retransmissions} sent again"
        if rate:
            words += f", {duration((size - counters.acknowledged) / rate)} left"
        line(f"to {server}", counters.acknowledged, size, words)

    return show


def _print_json(result: SendResult, error: str | None) -> None:
    print(json.dumps({**result.as_dict(), "error": error}, indent=2))


def _described(result: SendResult) -> str:
    rate = result.bytes / result.seconds / 1e6 if result.seconds else 0.0
    words = [
        f"{counted(result.bytes, 'byte')} sent to {result.server} in {result.seconds:.1f} s "
        f"({rate:.0f} MB/s)",
        f"{counted(result.messages, 'message')}, {result.retransmissions} sent again",
    ]
    if result.round_trip:
        words.append(f"round trip {result.round_trip * 1000:.2f} ms")
    if result.dropped:
        words.append(f"{counted(result.dropped, 'datagram')} dropped on purpose")
    return "; ".join(words)
