# SPDX-License-Identifier: GPL-2.0-or-later
"""What the commands have in common: exit statuses, ports, signals that end them, passphrases."""

from __future__ import annotations

import argparse
import getpass
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..errors import NetdumpError
from ..text import printable

GOOD = 0
FAILED = 1
USAGE = 2
INCOMPLETE = 3

EXITS = (
    "exit status: 0 all good; 1 failed; 2 wrong usage; "
    "3 something was recovered, but bytes are missing"
)

_TERMINAL = "/dev/tty"


def port(text: str) -> int:
    """A UDP port from the command line."""
    if not text.isdecimal() or not 0 < int(text) < 1 << 16:
        raise argparse.ArgumentTypeError(f"{text}: not a port; 1 to 65535")
    return int(text)


def port_or_any(text: str) -> int:
    """A UDP port from the command line, or 0 for any that is free."""
    return 0 if text == "0" else port(text)


def open_standard_descriptors() -> None:
    """Have /dev/null where the descriptor 0, 1 or 2 is closed (``2>&-``): the next file that is
    opened would get that number, and what is written to standard error would go into a dump."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null == number:
                os.set_inheritable(number, True)
            else:
                os.dup2(null, number)
                os.close(null)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


@contextmanager
def stopped_by_signals(
    stop: Callable[[], None], signals: Sequence[int] = (signal.SIGINT, signal.SIGTERM)
) -> Iterator[None]:
    """Let the first ^C (or SIGTERM) call ``stop``, and the second ^C end the command at once."""

    def handle(*_: object) -> None:
        stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, handle) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
