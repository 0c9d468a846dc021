# SPDX-License-Identifier: GPL-2.0-or-later
"""``netdump lua``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..wireshark.install import PROFILE_NAME, dissector, install, install_profile, uninstall, write
from .common import GOOD

_CHECK = "check: tshark -G protocols | grep fbsd_netdump"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Print the dissector for Wireshark and tshark (4.0 and later), or put it where "
        "they load it. Its filters begin with fbsd_netdump."
    )
    parser.epilog = "exit status: 0 all good; 1 failed; 2 wrong usage"
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


def run(options: argparse.Namespace) -> int:
    """Print, write, install or remove the dissector, and return the exit status."""
    if options.output is not None:
        write(Path(options.output), dissector())
    elif options.install:
        print(f"installed: {install()}")
        print(_CHECK)
    elif options.uninstall:
        path = uninstall()
        print("not installed: nothing to remove" if path is None else f"removed: {path}")
    elif not options.profile:
        print(dissector(), end="")
    if options.profile:
        print(f"profile: {install_profile()}")
        print(f"use it: wireshark -C {PROFILE_NAME} CAPTURE")
    return GOOD
