# SPDX-License-Identifier: GPL-2.0-or-later
"""``netdump recover``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ..capture.live import LiveCapture
from ..errors import CaptureError, UsageError
from ..exits import FAILED, GOOD, INCOMPLETE
from ..recover import Recoverer, Recovery
from ..text import counted, printable
from .describe import describe_dump
from .progress import ProgressLine
from .selection import selection_of
from .signals import stopped_by_signals


def run(options: argparse.Namespace) -> int:
    """Recover, report, and return the exit status."""
    if not options.captures and options.interface is None:
        raise UsageError("nothing to recover from: name a capture, or an interface with -i")
    recovery = _recover(options)
    for problem in recovery.problems:
        print(f"netdump: {printable(problem)}", file=sys.stderr)
    if options.json:
        print(json.dumps([dump.as_dict() for dump in recovery.dumps], indent=2))
    else:
        _report(recovery)
    if recovery.complete:
        return GOOD
    return INCOMPLETE if recovery.dumps else FAILED


def _recover(options: argparse.Namespace) -> Recovery:
    selection = selection_of(options)
    with Recoverer(Path(options.directory), selection, names=options.names) as recoverer:
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


def _report(recovery: Recovery) -> None:
    for dump in recovery.dumps:
        print(describe_dump(dump))
    for note in recovery.notes:
        print(f"note: {note}")
    if not recovery.dumps and (recovery.frames or not recovery.problems):
        print(f"no netdump traffic in {counted(recovery.frames, 'frame')}")
