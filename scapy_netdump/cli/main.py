# SPDX-License-Identifier: GPL-2.0-or-later
"""The command ``netdump``: its commands, options and exit statuses.

A command's module is imported only when it is called for, so that help is there at once.
Nothing imports this module.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper

from ..errors import NetdumpError, UsageError
from ..text import printable
from .exits import FAILED, USAGE
from .options import decrypt, dmesg, info, lua, recover, report, send, serve, service
from .options.common import EXITS

_DESCRIPTION = "FreeBSD netdump(4): kernel crash dumps that were sent over a network."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``netdump`` with its arguments (``sys.argv`` if None); returns the exit status."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a dump may hold any text
    try:
        try:
            return _run(arguments)
        finally:
            print(end="", flush=True)
    except NetdumpError as error:
        print(f"netdump: {printable(str(error))}", file=sys.stderr)
        return USAGE if isinstance(error, UsageError) else FAILED
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        print("netdump: interrupted", file=sys.stderr)
        return FAILED
    except (OSError, MemoryError) as error:
        print(f"netdump: {printable(str(error)) or 'out of memory'}", file=sys.stderr)
        return FAILED


def _run(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    # numpy's linear algebra, of which nothing is used, otherwise starts a thread for each core
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.disable()  # what is loaded here stays to the end: looking for garbage in it takes 20 ms
    command = import_module(f".{options.command}", __package__)
    gc.freeze()
    gc.enable()
    status: int = command.run(options)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("netdump", description=_DESCRIPTION, epilog=EXITS)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (recover, serve, send, service, info, dmesg, decrypt, report, lua):
        command.add(commands)
    return parser


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        package = import_module(__name__.partition(".")[0])
        print(f"netdump {package.__version__}")
        parser.exit()
