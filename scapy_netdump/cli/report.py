# SPDX-License-Identifier: GPL-2.0-or-later
"""``netdump report``: how the dumps in a capture went, as a page and as pictures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..dump.heads import Heads
from ..errors import CaptureError, UsageError
from ..recovery.recoverer import Recoverer, Recovery
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
    heads = Heads()
    collector = Collector(heads.storage_for)
    recovery = _read(options, collector)
    private_key = Path(options.private_key) if options.private_key is not None else None
    inspections = heads.inspections(private_key, ask_passphrase)
    sections = [
        section_of(number, *found)
        for number, found in enumerate(
            zip(recovery.dumps, collector.dumps, inspections, strict=False), 1
        )
    ]
    if len(recovery.dumps) > MAX_REPORTED:
        recovery.notes.append(f"only the first {MAX_REPORTED} dumps are shown")
    for problem in recovery.problems:
        print(f"netdump: {printable(problem)}", file=sys.stderr)
    if sections:
        _write(options, name, sections, recovery)
    elif recovery.frames or not recovery.problems:
        print(f"no netdump traffic in {counted(recovery.frames, 'frame')}")
    if recovery.complete:
        return GOOD
    return INCOMPLETE if recovery.dumps else FAILED


def _refuse_same(capture: Path, target: Path) -> None:
    if capture.samefile(target):
        raise UsageError(f"{target}: is the capture; name another file for the page with -o")


def _read(options: argparse.Namespace, collector: Collector) -> Recovery:
    with Recoverer(None, selection_of(options), watcher=collector) as recoverer:
        with ProgressLine() as progress, stopped_by_signals(recoverer.stop):
            for capture in options.captures:
                collector.reading(capture)
                try:
                    recoverer.read(capture, progress)
                except CaptureError as error:  # what the others hold is worth having
                    recoverer.recovery.problems.append(str(error))
        collector.finish()
        return recoverer.finish()


def _write(
    options: argparse.Namespace, name: str | None, sections: list[Section], recovery: Recovery
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
        text = page(options.captures, sections, [*recovery.problems, *recovery.notes])
        Path(name).write_text(text, encoding="utf-8", errors="backslashreplace")
        print(f"page: {printable(name)}")
