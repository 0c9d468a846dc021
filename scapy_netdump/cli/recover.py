# SPDX-License-Identifier: GPL-2.0-or-later
"""``netdump recover``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ..capture.live import LiveCapture
from ..core.observing.disputes import Prefer
from ..dump.dump import Unlock
from ..errors import CaptureError, UsageError
from ..recovery.plain_copies import PlainCopies
from ..recovery.recoverer import Recoverer
from ..recovery.result import Recovery
from ..text import counted, printable
from .common import EXITS, FAILED, GOOD, INCOMPLETE, ask_passphrase, stopped_by_signals
from .progress import ProgressLine
from .selection import add_selection, selection_of
from .words import describe_dump


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Rebuild every dump in some captures (pcap or pcapng, plain, gzip or zstd), "
        "with the file names of a netdump server, and say which bytes are missing. Captures of "
        "the same dump fill each other's holes, and those of a dump that was recovered before."
    )
    parser.epilog = EXITS
    parser.add_argument("captures", metavar="CAPTURE", nargs="*", help="- is standard input")
    parser.add_argument("-i", dest="interface", metavar="IFACE", help="capture live; ends with ^C")
    _add_places(parser)
    _add_plain(parser)
    add_selection(parser)
    parser.add_argument(
        "--prefer", choices=("acked", "first", "last"), default="acked",
        help="which of different payloads for the same bytes is kept: the one acked first, or "
        "what was seen first or last in the order of the captures; a file that is continued "
        "counts as first, and only last replaces bytes of it (default: acked)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print a list with an object a dump")


def _add_places(parser: argparse.ArgumentParser) -> None:
    """Where the files go, and what they are called."""
    group = parser.add_argument_group("where the files go")
    places = group.add_mutually_exclusive_group()
    places.add_argument(
        "-o", dest="directory", metavar="DIR", default=".",
        help="created if need be (default: here). An incomplete dump of the same host in it that "
        "is this one is continued: its holes are filled, and its mapfile shrinks. Any other dump "
        "is left alone, and this one gets a new number",
    )  # fmt: skip
    places.add_argument(
        "--into", metavar="DIR",
        help="continue a dump in DIR, of whatever host, and keep nothing if it is not the same. "
        "Also what netdumpd left, or a server that was killed: as nobody knows its holes, "
        "what is zero there and was not captured counts as missing",
    )  # fmt: skip
    names = group.add_mutually_exclusive_group()
    names.add_argument(
        "--names", action="store_true", help="name files by the clients' names in reverse DNS"
    )
    names.add_argument(
        "--savecore-names", dest="savecore", action="store_true",
        help="name files as savecore(8) does: vmcore.N, info.N, bounds, vmcore.last",
    )  # fmt: skip


def _add_plain(parser: argparse.ArgumentParser) -> None:
    """Decryption and decompression."""
    group = parser.add_argument_group(
        "plain copies",
        "A dump that came encrypted or compressed stays as it is, so that it can be continued. "
        "Beside it these write vmcore.HOST.N, with a mapfile if bytes of it are missing.",
    )
    group.add_argument(
        "--decrypt-with", dest="private_key", metavar="KEY",
        help="decrypt with this RSA private key, in PEM form; a passphrase is asked for on the "
        "terminal",
    )  # fmt: skip
    group.add_argument("--decompress", action="store_true", help="decompress gzip and zstd")


def run(options: argparse.Namespace) -> int:
    """Recover, report, and return the exit status."""
    if not options.captures and options.interface is None:
        raise UsageError("nothing to recover from: name a capture, or an interface with -i")
    unlock = _unlock(Path(options.private_key)) if options.private_key is not None else None
    recovery = _recover(options)
    failures = _make_plain(recovery, unlock, options)
    for problem in [*recovery.problems, *failures]:
        print(f"netdump: {printable(problem)}", file=sys.stderr)
    if options.json:
        print(json.dumps([dump.as_dict() for dump in recovery.dumps], indent=2))
    else:
        _report(recovery)
    if failures:
        return FAILED
    if recovery.complete:
        return GOOD
    return INCOMPLETE if recovery.dumps else FAILED


def _unlock(private_key: Path) -> Unlock:
    """What opens the keys of dumps. The passphrase is asked for now, not after hours."""
    from ..dump.keys import unlocker

    return unlocker(private_key, ask_passphrase)


def _recover(options: argparse.Namespace) -> Recovery:
    with Recoverer(
        Path(options.directory if options.into is None else options.into),
        selection_of(options),
        names=options.names,
        prefer=Prefer(options.prefer),
        savecore=options.savecore,
        into=options.into is not None,
    ) as recoverer:
        with ProgressLine() as progress, stopped_by_signals(recoverer.stop):
            for capture in options.captures:
                try:
                    recoverer.read(capture, progress)
                except CaptureError as error:  # what the others hold is worth having
                    recoverer.recovery.problems.append(str(error))
        if options.interface is not None:
            with LiveCapture(options.interface) as live, stopped_by_signals(live.stop):
                print(f"netdump: capturing on {options.interface}, ^C ends", file=sys.stderr)
                recoverer.watch(live)
        return recoverer.finish()


def _make_plain(
    recovery: Recovery, unlock: Unlock | None, options: argparse.Namespace
) -> list[str]:
    """Have plain copies made of dumps, if that was asked for; returns what went wrong."""
    if unlock is None and not options.decompress:
        return []
    with ProgressLine() as progress:
        copies = PlainCopies(unlock, options.decompress, options.savecore, progress)
        return copies.add_all(recovery.dumps)


def _report(recovery: Recovery) -> None:
    for dump in recovery.dumps:
        print(describe_dump(dump))
    for note in recovery.notes:
        print(f"note: {printable(note)}")
    found = recovery.dumps or recovery.refused
    if not found and (recovery.frames or not recovery.problems):
        print(f"no netdump traffic in {counted(recovery.frames, 'frame')}")
