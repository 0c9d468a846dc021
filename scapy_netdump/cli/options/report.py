# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of ``netdump report``."""

from __future__ import annotations

from .common import EXITS, Commands, add_selection


def add(commands: Commands) -> None:
    """Add the command to those of ``netdump``."""
    parser = commands.add_parser(
        "report",
        help="show in pictures how dumps went, and why they were slow",
        description="Make an HTML page, or pictures, of the dumps in some captures: offset, "
        "throughput and messages in flight over time, what the client waited for, how long acks "
        "took, and which parts of the file are here. Needs matplotlib "
        "(pip install 'scapy-netdump[report]').",
        epilog=EXITS,
    )
    parser.add_argument("captures", metavar="CAPTURE", nargs="+", help="- is standard input")
    parser.add_argument(
        "-o", dest="page", metavar="PAGE", help="the page to write (default: report.html)"
    )
    parser.add_argument(
        "--png", dest="directory", metavar="DIR",
        help="write each picture to a file there; without -o no page then",
    )  # fmt: skip
    parser.add_argument(
        "-p", dest="private_key", metavar="PRIVATEKEY",
        help="the RSA private key of encrypted dumps, in PEM form",
    )  # fmt: skip
    add_selection(parser)
