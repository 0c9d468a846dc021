# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of ``netdump service``."""

from __future__ import annotations

from .common import Commands


def add(commands: Commands) -> None:
    """Add the command to those of ``netdump``."""
    parser = commands.add_parser(
        "service",
        help="print what makes the system start `netdump serve` at boot",
        description="Print a systemd unit or a FreeBSD rc.d script for `netdump serve`, with the "
        "place of this installation filled in. The first lines say where it belongs.",
    )
    parser.add_argument("kind", choices=("systemd", "rc.d"))
