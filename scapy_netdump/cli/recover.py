# SPDX-License-Identifier: GPL-2.0-or-later
"""``netdump recover``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..capture.live import LiveCapture
from ..core.observing.disputes import Prefer
from ..errors import CaptureError, NetdumpError, UsageError
from ..kerneldump.key import DumpKey
from ..recovery.recoverer import Recoverer
from ..recovery.result import Recovery
from ..text import counted, printable
from .describe import describe_dump
from .exits import FAILED, GOOD, INCOMPLETE
from .progress import ProgressLine
from .selection import selection_of
from .signals import stopped_by_signals

if TYPE_CHECKING:
    from ..recovery.plain_copies import Unlock


def run(options: argparse.Namespace) -> int:
    """Recover, report, and return the exit status."""
    if not options.captures and options.interface is None:
        raise UsageError("nothing to recover from: name a capture, or an interface with -i")
    unlock = _unlock(Path(options.private_key)) if options.private_key is not None else None
    recovery = _recover(options)
    failures = _add_plain(recovery, unlock, options)
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
    from ..dump.keys import DumpCipher, load_private_key, unwrap_key
    from .passphrase import ask_passphrase

    key = load_private_key(private_key, lambda: ask_passphrase(private_key))

    def unlock(blob: DumpKey) -> DumpCipher:
        return DumpCipher(blob, unwrap_key(blob, key, str(private_key)))

    return unlock


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


def _add_plain(recovery: Recovery, unlock: Unlock | None, options: argparse.Namespace) -> list[str]:
    """Have plain copies made of dumps, if that was asked for; returns what went wrong."""
    failures: list[str] = []
    if unlock is None and not options.decompress:
        return failures
    from ..recovery.plain_copies import PlainDumps

    with ProgressLine() as progress:
        plain = PlainDumps(unlock, options.decompress, options.savecore, progress)
        for number, dump in enumerate(recovery.dumps):
            try:
                recovery.dumps[number] = plain.add(dump)
            except NetdumpError as error:
                failures.append(str(error))
    return failures


def _report(recovery: Recovery) -> None:
    for dump in recovery.dumps:
        print(describe_dump(dump))
    for note in recovery.notes:
        print(f"note: {printable(note)}")
    found = recovery.dumps or recovery.refused
    if not found and (recovery.frames or not recovery.problems):
        print(f"no netdump traffic in {counted(recovery.frames, 'frame')}")
