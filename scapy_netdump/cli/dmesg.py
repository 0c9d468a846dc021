# SPDX-License-Identifier: GPL-2.0-or-later
"""``netdump dmesg``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ..dump.dump import Dump
from ..dump.open import open_dump
from ..errors import UsageError
from ..store.text_files import write_files
from ..text import printable
from .common import EXITS, GOOD, INCOMPLETE, ask_passphrase
from .progress import ProgressLine


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Print the message buffer of a dump, the oldest text first: of a vmcore, "
        "plain, compressed or encrypted, of a textdump, or of a dump in a capture. It stands in "
        "the first pages, so that a dump which broke off early still has it. Missing bytes are "
        "marked, and control characters escaped."
    )
    parser.epilog = EXITS
    parser.add_argument("file", metavar="FILE", help="a vmcore, or a capture")
    parser.add_argument(
        "-p", dest="private_key", metavar="PRIVATEKEY",
        help="the RSA private key of an encrypted dump, in PEM form",
    )  # fmt: skip
    parser.add_argument(
        "--number", type=int, metavar="N", help="which dump of a capture that has several"
    )
    parser.add_argument(
        "--extract", metavar="DIR", help="also write the files of a textdump to this directory"
    )
    parser.add_argument("--json", action="store_true", help="print an object with the text")


def run(options: argparse.Namespace) -> int:
    """Print the console text of a dump, and return the exit status."""
    with (
        ProgressLine() as progress,
        open_dump(
            options.file,
            options.number,
            private_key=options.private_key,
            passphrase=ask_passphrase,
            progress=progress,
        ) as dump,
    ):
        console = dump.console
        if options.extract is not None:
            _extract(dump, Path(options.extract))
    missing = console.bytes_missing
    if options.json:
        print(
            json.dumps({"file": dump.name, "console": console, "bytes_missing": missing}, indent=2)
        )
    else:
        print(console, end="")
    return INCOMPLETE if missing else GOOD


def _extract(dump: Dump, directory: Path) -> None:
    """Write the files of a textdump, and say so."""
    if dump.contents.kind != "textdump":
        raise UsageError(f"{dump.name}: no textdump, there are no files to extract")
    for path in write_files(directory, dump.text_files):
        print(f"netdump: {printable(str(path))} written", file=sys.stderr)
