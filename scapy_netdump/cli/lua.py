# SPDX-License-Identifier: GPL-2.0-or-later
"""``netdump lua``."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..wireshark.install import PROFILE_NAME, dissector, install, install_profile, uninstall, write
from .exits import GOOD

_CHECK = "check: tshark -G protocols | grep fbsd_netdump"


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
