# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of ``netdump info``."""

from __future__ import annotations

from .common import EXITS, Commands, add_selection


def add(commands: Commands) -> None:
    """Add the command to those of ``netdump``."""
    parser = commands.add_parser(
        "info",
        help="say what a dump is, what of it is missing, and what that means",
        description="Say what files hold: captures, vmcores, dump directories, dump headers "
        "(kdh.*) and keys (key.*); and of a dump, whether what is here is enough to debug it. "
        "Nothing is written.",
        epilog=EXITS,
    )
    parser.add_argument("files", metavar="FILE", nargs="+")
    parser.add_argument(
        "-p", dest="private_key", metavar="PRIVATEKEY",
        help="the RSA private key of encrypted dumps, in PEM form",
    )  # fmt: skip
    add_selection(parser)
    parser.add_argument("--json", action="store_true", help="print a list with an object a file")
