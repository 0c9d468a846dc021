# SPDX-License-Identifier: GPL-2.0-or-later
"""Asking for the passphrase of a private key: on the terminal, and nowhere else."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

from ..errors import NetdumpError
from ..text import printable

_TERMINAL = "/dev/tty"


class NoTerminalError(NetdumpError):
    """There is nobody to ask."""


def ask_passphrase(private_key: Path) -> bytes:
    """What the user types on the terminal. Never from standard input, where it would show."""
    try:
        os.close(os.open(_TERMINAL, os.O_RDWR | os.O_NOCTTY))
    except OSError:
        raise NoTerminalError(
            f"{private_key}: needs a passphrase, and there is no terminal to ask for it"
        ) from None
    try:
        return getpass.getpass(f"Passphrase of {printable(str(private_key))}: ").encode()
    except EOFError:
        return b""
