# SPDX-License-Identifier: GPL-2.0-or-later
"""What several commands' options have in common. Imports the standard library."""

from __future__ import annotations

import argparse
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

EXITS = (
    "exit status: 0 all good; 1 failed; 2 wrong usage; "
    "3 something was recovered, but bytes are missing"
)


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Which dumps of a capture: ``--client``, ``--server``, ``--port``."""
    group = parser.add_argument_group("which dumps of a capture")
    group.add_argument("--client", metavar="ADDRESS", help="only those of this client")
    group.add_argument("--server", metavar="ADDRESS", help="only those to this server")
    group.add_argument(
        "--port", type=port, metavar="PORT",
        help="only those with this UDP port on either side, also if nothing else tells "
        "that it is netdump",
    )  # fmt: skip


def port(text: str) -> int:
    """A UDP port from the command line."""
    if not text.isdecimal() or not 0 < int(text) < 1 << 16:
        raise argparse.ArgumentTypeError(f"{text}: not a port; 1 to 65535")
    return int(text)
