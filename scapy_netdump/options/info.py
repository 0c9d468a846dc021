# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of ``netdump info``."""

from __future__ import annotations

from .common import EXITS, Commands, add_selection


def add(commands: Commands) -> None:
    """Add the command to those of ``netdump``."""
    parser = commands.add_parser(
        "info",
        help="say what a capture, a dump directory, a KDH or a key file holds",
        description="Say what files hold: captures, dump directories, dump headers (kdh.*) and "
        "keys (key.*). Nothing is written.",
        epilog=EXITS,
    )
    parser.add_argument("files", metavar="FILE", nargs="+")
    add_selection(parser)
    parser.add_argument("--json", action="store_true", help="print a list with an object a file")
