# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of ``netdump serve``. Those of netdumpd have its letters and its meaning."""

from __future__ import annotations

import argparse

from ..core.receiving.events import (
    CONTRADICTED,
    ERROR,
    INCOMPLETE,
    INTERRUPTED,
    LIMIT,
    SUCCESS,
    TIMEOUT,
)
from ..formats import ACK_PORT, HERALD_PORT
from .common import port, port_or_any

_EXITS = "exit status: 0 stopped by a signal; 1 failed; 2 wrong usage"
_REASONS = (SUCCESS, INCOMPLETE, CONTRADICTED, TIMEOUT, ERROR, INTERRUPTED, LIMIT)
_UNITS = {"K": 10, "M": 20, "G": 30, "T": 40}


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Receive dumps, as netdumpd does, until SIGTERM or ^C (SIGHUP is ignored). Always stays "
        "in the foreground, and logs to standard error unless told otherwise; `netdump service` "
        "prints what starts it at boot."
    )
    parser.epilog = _EXITS
    _add_netdumpd(parser)
    _add_network(parser)
    _add_files(parser)
    _add_limits(parser)
    _add_process(parser)


def _add_netdumpd(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("netdumpd's options")
    group.add_argument(
        "-a", dest="addresses", metavar="ADDRESS", action="append", default=[],
        help="address to listen on; may be repeated (default: all, IPv4 and IPv6)",
    )  # fmt: skip
    group.add_argument(
        "-D", dest="debug", action="store_true",
        help="log to standard error even with --syslog; netdumpd then stays in the foreground as "
        "well, which is what is done in any case",
    )  # fmt: skip
    group.add_argument(
        "-d", dest="directory", metavar="DIR", default="/var/crash",
        help="where dumps go; must be there (default: /var/crash)",
    )  # fmt: skip
    group.add_argument(
        "-i", dest="handler", metavar="SCRIPT",
        help="program to run in DIR when a dump is over, with five arguments: reason "
        f"({', '.join(_REASONS)}), client's address, HOST as in the names of the files, info file, "
        "vmcore file (empty if there is none); of the environment it gets PATH, HOME, USER, the "
        "language and the time zone",
    )  # fmt: skip
    group.add_argument(
        "-P", dest="pidfile", metavar="FILE",
        help="write the process's number, and remove the file at the end (default: nowhere; "
        "netdumpd: /var/run/netdumpd.pid)",
    )  # fmt: skip
    group.add_argument(
        "-p", dest="path", metavar="PATH", default="",
        help="directory below DIR for dumps of clients that ask for none, or for one that "
        "cannot be used (default: DIR itself)",
    )  # fmt: skip


def _add_network(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("network")
    group.add_argument(
        "--port", type=port_or_any, default=HERALD_PORT, metavar="PORT",
        help="where HERALDs arrive; 0 for any free port (default: 20023)",
    )  # fmt: skip
    group.add_argument(
        "--ack-port", type=_ack_port, default=ACK_PORT, metavar="PORT",
        help="where acks go: a port, or `source` for the one that a message came from "
        "(default: 20024)",
    )  # fmt: skip
    group.add_argument(
        "--allow", action="append", default=[], metavar="CIDR",
        help="only clients in this network, or at this address; may be repeated",
    )  # fmt: skip
    group.add_argument(
        "--names", action="store_true",
        help="name files by the clients' names in reverse DNS, as netdumpd does",
    )  # fmt: skip
    group.add_argument(
        "--capture", metavar="FILE",
        help="also write all messages and acks to a pcapng file; if there is one already, to the "
        "first that is free of FILE-1, FILE-2, with the suffix kept",
    )  # fmt: skip
    group.add_argument(
        "--no-coalescing", dest="coalescing", action="store_false",
        help="do not have the system join and split datagrams (UDP GRO and GSO, Linux only)",
    )  # fmt: skip


def _add_files(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("files")
    group.add_argument(
        "--mkdir", action="store_true", help="create DIR, and the directories clients ask for"
    )
    group.add_argument(
        "--keep", type=_count, metavar="N",
        help="keep the N latest complete dumps of each host; older complete ones are removed once "
        "they are a day old (default: all are kept)",
    )  # fmt: skip
    group.add_argument(
        "--keep-younger", action="store_true",
        help="with --keep, also remove dumps that are younger than a day",
    )  # fmt: skip
    group.add_argument(
        "--sync", choices=("none", "finish", "always"), default="none",
        help="what an ack means. none: the bytes are in the system's page cache; a server that is "
        "killed loses nothing, a power cut does. finish: FINISHED is acked after fsync. always: "
        "every ack comes after fdatasync, which is slow (default: none)",
    )  # fmt: skip
    group.add_argument(
        "--note-heralds", action="store_true",
        help="leave a file for a HERALD after which nothing came, so that a script can see that a "
        "machine panicked",
    )  # fmt: skip
    group.add_argument(
        "--min-free", type=size, default=0, metavar="SIZE",
        help="space to leave free on the disk, as savecore's minfree; less than the disk has in "
        "all; K, M, G, T are understood",
    )  # fmt: skip
    group.add_argument("--max-size", type=size, metavar="SIZE", help="largest vmcore (default: 1T)")


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("clients")
    group.add_argument(
        "--max-clients", type=_count, metavar="N", help="dumps at once (default: 128)"
    )
    group.add_argument(
        "--herald-rate", type=_seconds, metavar="N", help="new dumps a second (default: 64)"
    )
    group.add_argument(
        "--timeout", type=_seconds, metavar="SECONDS",
        help="a client that is silent for so long has died (default: 600)",
    )  # fmt: skip
    group.add_argument(
        "--linger", type=_seconds, metavar="SECONDS",
        help="how long messages of a finished dump are acked again (default: 30)",
    )  # fmt: skip


def _add_process(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("process")
    group.add_argument(
        "--user", metavar="USER[:GROUP]",
        help="become this user, started as root; DIR must be writable for it, and is the user's if "
        "--mkdir makes it",
    )  # fmt: skip
    group.add_argument(
        "--no-sandbox", dest="sandbox", action="store_false",
        help="do not confine the process to DIR (Landlock), and do not give up root's capabilities "
        "that have nothing to do with files (Linux only)",
    )  # fmt: skip
    group.add_argument(
        "--handler-timeout", type=_seconds, default=3600.0, metavar="SECONDS",
        help="kill SCRIPT after so long, also when the server is gone (default: 3600)",
    )  # fmt: skip
    group.add_argument(
        "--notify", action="store_true",
        help="tell systemd that the server is ready, and how it does (sd_notify)",
    )  # fmt: skip
    log = group.add_mutually_exclusive_group()
    log.add_argument("--json", action="store_true", help="log to standard output, an object a line")
    log.add_argument(
        "--syslog", action="store_true",
        help="log to the system's log, as `netdump`, facility daemon",
    )  # fmt: skip


def size(text: str) -> int:
    """A size in bytes, or with K, M, G or T behind it in their binary meaning."""
    digits, unit = (text[:-1], text[-1].upper()) if text[-1:].upper() in _UNITS else (text, "")
    if not digits.isdecimal() or len(digits) > 15:
        raise argparse.ArgumentTypeError(f"{text}: not a size; as 4096, 512M or 2G")
    return int(digits) << _UNITS.get(unit, 0)


def _ack_port(text: str) -> int | None:
    return None if text == "source" else port(text)


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 1 << 20:
        raise argparse.ArgumentTypeError(f"{text}: not a number from 1 on")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text}: not a number above 0")
    return value
