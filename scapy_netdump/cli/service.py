# SPDX-License-Identifier: GPL-2.0-or-later
"""``netdump service``."""

from __future__ import annotations

import argparse
import sys

from ..server.service.units import rc_script, systemd_unit
from .common import GOOD

_KINDS = {"systemd": systemd_unit, "rc.d": rc_script}


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Print a systemd unit or a FreeBSD rc.d script for `netdump serve`, with the "
        "place of this installation filled in. The first lines say where it belongs."
    )
    parser.add_argument("kind", choices=("systemd", "rc.d"))


def run(options: argparse.Namespace) -> int:
    """Print the file, and return the exit status."""
    command = [sys.executable, "-m", str(__package__).partition(".")[0]]
    print(_KINDS[options.kind](command), end="")
    return GOOD
