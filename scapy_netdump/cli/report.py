# SPDX-License-Identifier: GPL-2.0-or-later
"""``netdump report``: how the dumps in a capture went, as a page and as pictures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..dump.captures import Captures
from ..dump.dump import HEAD
from ..dump.open import unlocked_with
from ..dump.scratch import Scratches, opened
from ..errors import CaptureError, UsageError
from ..report.collect import MAX_REPORTED, Collector
from ..report.page import Section, page
from ..text import counted, printable
from .common import EXITS, FAILED, GOOD, INCOMPLETE, ask_passphrase, stopped_by_signals
from .progress import ProgressLine
from .selection import add_selection, selection_of

_PAGE = "report.html"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Make an HTML page, or pictures, of the dumps in some captures: offset, "
        "throughput and messages in flight over time, what the client waited for, how long acks "
        "took, and which parts of the file are here. Needs matplotlib "
        "(pip install 'scapy-netdump[report]')."
    )
    parser.epilog = EXITS
    parser.add_argument("captures", metavar="CAPTURE", nargs="+", help="- is standard input")
    parser.add_argument(
        "-o", dest="page", metavar="PAGE", help="the page to write (default: report.html)"
    )
    parser.add_argument(
        "--png", dest="directory", metavar="DIR",
        help="write each picture to a file there; without -o no page then",
    )  # fmt: skip
    parser.add_argument(
        "-p", dest="private_key", metavar="PRIVATEKEY",
        help="the RSA private key of encrypted dumps, in PEM form",
    )  # fmt: skip
    add_selection(parser)


def run(options: argparse.Namespace) -> int:
    """Read, draw, write, and return the exit status."""
    from .report_section import section_of  # draws, and matplotlib is an extra

    name = options.page or (None if options.directory else _PAGE)
    for capture in options.captures:
        if name is not None and Path(capture).exists() and Path(name).exists():
            _refuse_same(Path(capture), Path(name))
    collector = Collector(Scratches(HEAD).storage_for)
    captures = Captures(collector.storage_for, selection_of(options), watcher=collector)
    _read(options, captures, collector)
    unlock = unlocked_with(options.private_key, ask_passphrase)
    dumps = list(opened(captures.finish(), unlock=unlock))
    sections = [
        section_of(number, dump, watched)
        for number, (dump, watched) in enumerate(zip(dumps, collector.dumps, strict=False), 1)
    ]
    notes = captures.notes
    if len(dumps) > MAX_REPORTED:
        notes.append(f"only the first {MAX_REPORTED} dumps are shown")
    for problem in captures.problems:
        print(f"netdump: {printable(problem)}", file=sys.stderr)
    if sections:
        _write(options, name, sections, [*captures.problems, *notes])
    elif captures.frames or not captures.problems:
        print(f"no netdump traffic in {counted(captures.frames, 'frame')}")
    if dumps and not captures.problems and all(dump.complete for dump in dumps):
        return GOOD
    return INCOMPLETE if dumps else FAILED


def _refuse_same(capture: Path, target: Path) -> None:
    if capture.samefile(target):
        raise UsageError(f"{target}: is the capture; name another file for the page with -o")


def _read(options: argparse.Namespace, captures: Captures, collector: Collector) -> None:
    with ProgressLine() as progress, stopped_by_signals(captures.stop):
        for capture in options.captures:
            collector.reading(capture)
            try:
                captures.read(capture, progress)
            except CaptureError as error:  # what the others hold is worth having
                captures.problems.append(str(error))
    collector.finish()


def _write(
    options: argparse.Namespace, name: str | None, sections: list[Section], notes: list[str]
) -> None:
    for section in sections:
        print(printable(section.title))
        for part in section.parts:
            print(f"  {part.sentence}")
        print(f"  {printable(section.verdict)}")
    if options.directory is not None:
        directory = Path(options.directory)
        directory.mkdir(parents=True, exist_ok=True)
        for section in sections:
            for picture in section.all_pictures:
                (directory / f"{picture.name}.png").write_bytes(picture.png)
        print(f"pictures: {printable(options.directory)}")
    if name is not None:
        text = page(options.captures, sections, notes)
        Path(name).write_text(text, encoding="utf-8", errors="backslashreplace")
        print(f"page: {printable(name)}")
