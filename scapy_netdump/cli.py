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

from .errors import NetdumpError, UsageError
from .exits import FAILED, USAGE
from .text import printable

_DESCRIPTION = "FreeBSD netdump(4): kernel crash dumps that were sent over a network."
_EXITS = (
    "exit status: 0 all good; 1 failed; 2 wrong usage; "
    "3 something was recovered, but bytes are missing"
)


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
    command = import_module(f".commands.{options.command}", __package__)
    gc.freeze()
    gc.enable()
    status: int = command.run(options)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("netdump", description=_DESCRIPTION, epilog=_EXITS)
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_recover(commands)
    _add_info(commands)
    return parser


class _Version(argparse.Action):
    """Looks the version up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        package = import_module(str(__package__))
        print(f"netdump {package.__version__}")
        parser.exit()


def _add_recover(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "recover",
        help="rebuild the dumps in packet captures",
        description="Rebuild every dump in some captures (pcap or pcapng, plain, gzip or zstd), "
        "with the file names of a netdump server, and say which bytes are missing. Captures of "
        "the same dump fill each other's holes.",
        epilog=_EXITS,
    )
    parser.add_argument("captures", metavar="CAPTURE", nargs="*", help="- is standard input")
    parser.add_argument("-i", dest="interface", metavar="IFACE", help="capture live; ends with ^C")
    parser.add_argument(
        "-o", dest="directory", metavar="DIR", default=".",
        help="where the files go; created if need be (default: here)",
    )  # fmt: skip
    _add_selection(parser)
    parser.add_argument(
        "--names", action="store_true", help="name files by the clients' names in reverse DNS"
    )
    parser.add_argument("--json", action="store_true", help="print a list with an object a dump")


def _add_info(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "info",
        help="say what a capture, a dump directory, a KDH or a key file holds",
        description="Say what files hold: captures, dump directories, dump headers (kdh.*) and "
        "keys (key.*). Nothing is written.",
        epilog=_EXITS,
    )
    parser.add_argument("files", metavar="FILE", nargs="+")
    _add_selection(parser)
    parser.add_argument("--json", action="store_true", help="print a list with an object a file")


def _add_selection(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("which dumps of a capture")
    group.add_argument("--client", metavar="ADDRESS", help="only those of this client")
    group.add_argument("--server", metavar="ADDRESS", help="only those to this server")
    group.add_argument(
        "--port", type=_port, metavar="PORT",
        help="only those with this UDP port on either side, also if nothing else tells "
        "that it is netdump",
    )  # fmt: skip


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1 << 16:
        raise argparse.ArgumentTypeError(f"{text}: not a port; 1 to 65535")
    return int(text)
