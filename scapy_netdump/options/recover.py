# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of ``netdump recover``."""

from __future__ import annotations

from .common import EXITS, Commands, add_selection


def add(commands: Commands) -> None:
    """Add the command to those of ``netdump``."""
    parser = commands.add_parser(
        "recover",
        help="rebuild the dumps in packet captures",
        description="Rebuild every dump in some captures (pcap or pcapng, plain, gzip or zstd), "
        "with the file names of a netdump server, and say which bytes are missing. Captures of "
        "the same dump fill each other's holes.",
        epilog=EXITS,
    )
    parser.add_argument("captures", metavar="CAPTURE", nargs="*", help="- is standard input")
    parser.add_argument("-i", dest="interface", metavar="IFACE", help="capture live; ends with ^C")
    parser.add_argument(
        "-o", dest="directory", metavar="DIR", default=".",
        help="where the files go; created if need be (default: here)",
    )  # fmt: skip
    add_selection(parser)
    parser.add_argument(
        "--names", action="store_true", help="name files by the clients' names in reverse DNS"
    )
    parser.add_argument("--json", action="store_true", help="print a list with an object a dump")
