# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of ``netdump lua``."""

from __future__ import annotations

from .common import Commands


def add(commands: Commands) -> None:
    """Add the command to those of ``netdump``."""
    parser = commands.add_parser(
        "lua",
        help="print or install the Wireshark dissector",
        description="Print the dissector for Wireshark and tshark (4.0 and later), or put it where "
        "they load it. Its filters begin with fbsd_netdump.",
        epilog="exit status: 0 all good; 1 failed; 2 wrong usage",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-o", dest="output", metavar="FILE", help="write it to a file")
    where.add_argument(
        "--install", action="store_true",
        help="put it into the personal plugin folder that the installed Wireshark names",
    )  # fmt: skip
    where.add_argument("--uninstall", action="store_true", help="take it out of there")
    parser.add_argument(
        "--profile", action="store_true",
        help='install the profile "netdump": columns, colours and I/O graphs',
    )  # fmt: skip
