# SPDX-License-Identifier: GPL-2.0-or-later
"""``netdump send``: dumpon(8)'s letters, and names of the net.netdump variables."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from ..client.prepare import Preparation, prepared
from ..client.send import SendError, Sending, SendResult, send
from ..core.sending.faults import Rates
from ..core.sending.sender import Counters, Patience
from ..errors import UsageError
from ..formats import ACK_PORT, HERALD_PORT
from ..net.transport import Transport
from ..net.udp_client import MTU, UdpTransport
from ..net.wrapped import TracedTransport
from ..text import counted, printable
from .common import GOOD, port, port_or_any
from .progress import ProgressLine

_MAX_PATH = 1023  # MAXPATHLEN (sys/param.h) less the NUL
_EXITS = (
    "exit status: 0 the server has confirmed all of the dump; 1 failed, the message says how far "
    "it got; 2 wrong usage"
)


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = "Send a dump to a netdump server, as a panicking kernel does, or faster."
    parser.epilog = _EXITS
    parser.add_argument(
        "file", metavar="FILE",
        help="a vmcore (the info, key and kdh files beside it are used), or a capture with a dump",
    )  # fmt: skip
    _add_network(parser)
    _add_dump(parser)
    _add_discipline(parser)
    _add_faults(parser)
    parser.add_argument("--debug", action="store_true", help="tell of all that is sent and heard")
    parser.add_argument("--json", action="store_true", help="print an object with the result")


def _add_network(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("network")
    group.add_argument(
        "-s", dest="server", metavar="SERVER", required=True, help="name or address of the server"
    )
    group.add_argument(
        "--server-port", type=port, default=HERALD_PORT, metavar="PORT",
        help="port of the server for HERALDs (default: 20023)",
    )  # fmt: skip
    group.add_argument(
        "-c", dest="client", metavar="CLIENT", help="address to send from (default: as routed)"
    )
    group.add_argument(
        "-i", dest="interface", metavar="IFACE",
        help="send Ethernet frames there, with ARP, as the kernel does; needs root",
    )  # fmt: skip
    group.add_argument(
        "-g", dest="gateway", metavar="GATEWAY",
        help="with -i: the way to a server that does not answer ARP (default: as routed)",
    )  # fmt: skip
    group.add_argument(
        "--arp-retries", type=_count, default=3, metavar="N",
        help="with -i: how often to ask for the server's hardware address (default: 3)",
    )  # fmt: skip
    group.add_argument(
        "--port", type=port_or_any, default=ACK_PORT, metavar="PORT",
        help="port to send from; 0 for any free one, for a server that acks to the port that a "
        "message came from (default: 20024)",
    )  # fmt: skip
    group.add_argument(
        "--mtu", type=_mtu, metavar="MTU",
        help="largest packet, which sets the size of messages; a stock netdumpd takes up to 4148 "
        "(default: 1500; with -i the interface's)",
    )  # fmt: skip


def _add_dump(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the dump")
    group.add_argument(
        "--path", default="", metavar="PATH", help="where to, below the server's dump directory"
    )
    group.add_argument(
        "-k", dest="public_key", metavar="PUBKEY", help="encrypt for this public RSA key"
    )
    group.add_argument(
        "-C", dest="cipher", metavar="CIPHER", default="chacha20",
        choices=("chacha20", "aes-256-cbc"), help="with -k: chacha20 (default) or aes-256-cbc",
    )  # fmt: skip
    compression = group.add_mutually_exclusive_group()
    for letter, name in (("-z", "gzip"), ("-Z", "zstd")):
        compression.add_argument(
            letter, dest="compression", action="store_const", const=name, default="none",
            help=f"compress with {name}",
        )  # fmt: skip
    group.add_argument(
        "--number", type=_count, metavar="N", help="which dump of a capture that has several"
    )
    for name in ("hostname", "versionstring", "panicstring", "architecture"):
        group.add_argument(f"--{name}", metavar="TEXT", help=f"the {name} in the dump header")


def _add_discipline(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how to send")
    group.add_argument(
        "--kernel", action="store_true",
        help="as FreeBSD's kernel: 64 KiB at a time, all of it acked before the next "
        "(default: a sliding window)",
    )  # fmt: skip
    group.add_argument(
        "--kernel-ack-bug", action="store_true",
        help="as --kernel, and count an ack also for the messages 32 before and behind, as it does",
    )  # fmt: skip
    group.add_argument(
        "--polls", type=_count, default=2000, metavar="N",
        help="polls of 0.5 ms to wait for an ack (default: 2000)",
    )  # fmt: skip
    group.add_argument(
        "--retries", type=_count_or_none, default=10, metavar="N",
        help="with N, N+2 transmissions in vain end the dump (default: 10)",
    )  # fmt: skip


def _add_faults(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "faults, to test servers", "How many datagrams of all, each way: as 0.01 or 1%%."
    )
    for name, what in (
        ("loss", "drop"),
        ("reorder", "hold back until others have passed"),
        ("duplicate", "send twice"),
        ("corrupt", "damage, so that it must be noticed"),
    ):
        group.add_argument(f"--{name}", type=_rate, default=0.0, metavar="RATE", help=what)
    group.add_argument(
        "--seed", type=int, default=0, metavar="N", help="the same number, the same faults"
    )


def _rate(text: str) -> float:
    try:
        value = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text}: not a rate; as 0.05 or 5%")
    return value


def _mtu(text: str) -> int:
    # 68 is IPv4's least (RFC 791); the most has a payload of 65,483 bytes
    if not text.isdecimal() or not 100 <= int(text) <= 65_535:
        raise argparse.ArgumentTypeError(f"{text}: not an MTU; 100 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not _count_or_none(text):
        raise argparse.ArgumentTypeError(f"{text}: not a number from 1 on")
    return int(text)


def _count_or_none(text: str) -> int:
    if not text.isdecimal() or int(text) > 1 << 20:
        raise argparse.ArgumentTypeError(f"{text}: not a number from 0 to {1 << 20}")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Send, report, and return the exit status."""
    sending = _sending(options)
    if options.gateway is not None and options.interface is None:
        raise UsageError("-g is for frames that are sent with -i; elsewhere the system routes")
    with (
        ProgressLine() as progress,
        prepared(options.file, _preparation(options), progress) as dump,
        closing(_transport(options)) as transport,
    ):
        _debug(options, f"sending {dump.describe()}")
        try:
            shown = _shown(progress, transport.server)
            result = send(dump, transport, sending, shown, port=options.server_port)
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
    faults = Rates(options.loss, options.reorder, options.duplicate, options.corrupt)
    if faults.total > 1:
        raise UsageError("a datagram suffers one fault at most: the rates add up to more than 1")
    if "\0" in options.path or len(options.path.encode(errors="surrogateescape")) > _MAX_PATH:
        raise UsageError(f"--path: no more than {_MAX_PATH} bytes, and no NUL")
    return Sending(
        path=options.path,
        patience=Patience(options.polls, options.retries),
        kernel=options.kernel,
        kernel_ack_bug=options.kernel_ack_bug,
        faults=faults,
        seed=options.seed,
    )


def _preparation(options: argparse.Namespace) -> Preparation:
    return Preparation(
        compression=options.compression,
        public_key=Path(options.public_key) if options.public_key is not None else None,
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
    return UdpTransport(options.server, options.client, options.port, options.mtu or MTU)


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
        arp_retries=options.arp_retries,
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
            words += f", {_time((size - counters.acknowledged) / rate)} left"
        line(f"to {server}", counters.acknowledged, size, words)

    return show


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


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
