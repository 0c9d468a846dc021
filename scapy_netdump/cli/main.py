# SPDX-License-Identifier: GPL-2.0-or-later
"""The command ``netdump``: its commands, and what becomes of errors.

A command's module is imported when argparse has found its name on the command line, and no
sooner: ``netdump --help`` and ``netdump --version`` are there at once.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from types import ModuleType
from typing import Any

from ..errors import NetdumpError, UsageError
from ..text import printable
from .common import EXITS, FAILED, USAGE, open_standard_descriptors

_DESCRIPTION = "FreeBSD netdump(4): kernel crash dumps that were sent over a network."

#: Each command, and what ``netdump --help`` says of it. It is a module here, with two functions:
#: ``add`` adds its options to its parser; ``run`` takes them and returns the exit status.
_COMMANDS = {
    "recover": "rebuild the dumps in packet captures",
    "serve": "receive dumps from panicking kernels",
    "send": "send a vmcore to a dump server",
    "service": "print what makes the system start `netdump serve` at boot",
    "info": "say what a dump is, what of it is missing, and what that means",
    "dmesg": "print what the console showed at the panic",
    "decrypt": "decrypt a kernel dump",
    "report": "show in pictures how dumps went, and why they were slow",
    "lua": "print or install the Wireshark dissector",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``netdump`` with its arguments (``sys.argv`` if None); returns the exit status."""
    open_standard_descriptors()
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a dump may hold any text
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()  # not print(end=""): that fails on a terminal that is gone
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
    status: int = options.run(options)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("netdump", description=_DESCRIPTION, epilog=EXITS)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=_CommandParser
    )
    for name, does in _COMMANDS.items():
        commands.add_parser(name, help=does)
    return parser


class _CommandParser(argparse.ArgumentParser):
    """The parser of a command, without its options until it is the one to parse."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """What argparse calls with the arguments behind the command's name."""
        command = _load(self.prog.split()[-1])
        command.add(self)
        self.set_defaults(run=command.run)
        return super().parse_known_args(args, namespace)


def _load(command: str) -> ModuleType:
    # numpy's linear algebra, of which nothing is used, otherwise starts a thread for each core
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.disable()  # what is loaded here stays to the end: looking for garbage in it takes 20 ms
    module = import_module(f".{command}", __package__)
    gc.freeze()
    gc.enable()
    return module


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        package = import_module(__name__.partition(".")[0])
        print(f"netdump {package.__version__}")
        parser.exit()
