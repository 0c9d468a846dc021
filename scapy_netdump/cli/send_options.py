# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of ``netdump send``: dumpon(8)'s letters, and names of the net.netdump variables."""

from __future__ import annotations

import argparse

from ..errors import UsageError
from ..formats import ACK_PORT, HERALD_PORT
from ..net.udp_client import MTUS
from .common import port, port_or_any

#: Options for faults of the network, in the order of `Rates`, and what they do to a datagram.
FAULTS = {
    "loss": "drop",
    "reorder": "hold back until others have passed",
    "duplicate": "send twice",
    "corrupt": "damage, so that it must be noticed",
}
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
        "--arp-retries", type=_count, metavar="N",
        help="with -i: how often to ask for the server's hardware address (default: 3)",
    )  # fmt: skip
    group.add_argument(
        "--port", type=port_or_any, default=ACK_PORT, metavar="PORT",
        help="port to send from; 0 for any free one, for a server that acks to the port that a "
        "message came from (default: 20024)",
    )  # fmt: skip
    group.add_argument(
        "--mtu", type=_mtu, metavar="MTU",
        help="largest packet, which sets the size of messages; a stock netdumpd takes up to 4148. "
        "What does not arrive is cut smaller, but not with --kernel (default: 1500, for IPv6 "
        "1280; with -i the interface's)",
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
        "-C", dest="cipher", metavar="CIPHER",
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
        group.add_argument(
            f"--{name}", metavar="TEXT",
            help=f"the {name} in the dump header, as UTF-8; an error if there is no room for it",
        )  # fmt: skip


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
    group.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS",
        help="end the dump if it is not done by then (default: go on as long as the server acks "
        "anything new, and tell how slow it is)",
    )  # fmt: skip


def _add_faults(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "faults, to test servers", "How many datagrams of all, each way: as 0.01 or 1%."
    )
    for name, what in FAULTS.items():
        group.add_argument(f"--{name}", type=_rate, metavar="RATE", help=what)
    group.add_argument(
        "--seed", type=int, metavar="N", help="the same number, the same faults (default: 0)"
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
    if not text.isdecimal() or int(text) not in MTUS:
        raise argparse.ArgumentTypeError(f"{text}: not an MTU; {MTUS[0]} to {MTUS[-1]}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text}: not a number of seconds")
    return value


def _count(text: str) -> int:
    if not _count_or_none(text):
        raise argparse.ArgumentTypeError(f"{text}: not a number from 1 on")
    return int(text)


def _count_or_none(text: str) -> int:
    if not text.isdecimal() or int(text) > 1 << 20:
        raise argparse.ArgumentTypeError(f"{text}: not a number from 0 to {1 << 20}")
    return int(text)


def check_effects(options: argparse.Namespace) -> None:
    """UsageError for an option that would be without effect, as another one is missing. (Of a
    cipher and a number that is true in programs too: client/prepare.py, dump/open.py.)"""
    for given, option in ((options.gateway, "-g"), (options.arp_retries, "--arp-retries")):
        if given is not None and options.interface is None:
            raise UsageError(
                f"{option} is for frames that are sent with -i; elsewhere the system routes"
            )
    if options.seed is not None and all(getattr(options, name) is None for name in FAULTS):
        raise UsageError("--seed chooses among faults: ask for some (--loss and the like)")
