# SPDX-License-Identifier: GPL-2.0-or-later
"""``netdump recover``."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..capture.live import LiveCapture
from ..errors import CaptureError, UsageError
from ..exits import FAILED, GOOD, INCOMPLETE
from ..recover import Recoverer, Recovery
from ..text import counted, printable
from .describe import describe_dump
from .progress import ProgressLine
from .selection import selection_of


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
        with ProgressLine() as progress, _stopped_by_signals(recoverer.stop):
            for capture in options.captures:
                try:
                    recoverer.read(capture, progress)
                except CaptureError as error:  # what the others hold is worth having
                    recoverer.recovery.problems.append(str(error))
        if options.interface is not None:
            with LiveCapture(options.interface) as live, _stopped_by_signals(live.stop):
                print(f"netdump: capturing on {options.interface}, ^C ends", file=sys.stderr)
                recoverer.watch(live)
        return recoverer.finish()


@contextmanager
def _stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Let the first ^C (or SIGTERM) end the reading in good order, and the second at once."""

    def handle(*_: object) -> None:
        stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _report(recovery: Recovery) -> None:
    for dump in recovery.dumps:
        print(describe_dump(dump))
    for note in recovery.notes:
        print(f"note: {note}")
    if not recovery.dumps and (recovery.frames or not recovery.problems):
        print(f"no netdump traffic in {counted(recovery.frames, 'frame')}")
