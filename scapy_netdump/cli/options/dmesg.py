# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of ``netdump dmesg``."""

from __future__ import annotations

from .common import EXITS, Commands


def add(commands: Commands) -> None:
    """Add the command to those of ``netdump``."""
    parser = commands.add_parser(
        "dmesg",
        help="print what the console showed at the panic",
        description="Print the message buffer of a dump, the oldest text first: of a vmcore, "
        "plain, compressed or encrypted, of a textdump, or of a dump in a capture. It stands in "
        "the first pages, so that a dump which broke off early still has it. Missing bytes are "
        "marked, and control characters escaped.",
        epilog=EXITS,
    )
    parser.add_argument("file", metavar="FILE", help="a vmcore, or a capture")
    parser.add_argument(
        "-p", dest="private_key", metavar="PRIVATEKEY",
        help="the RSA private key of an encrypted dump, in PEM form",
    )  # fmt: skip
    parser.add_argument(
        "--number", type=int, metavar="N", help="which dump of a capture that has several"
    )
    parser.add_argument(
        "--extract", metavar="DIR", help="also write the files of a textdump to this directory"
    )
    parser.add_argument("--json", action="store_true", help="print an object with the text")
