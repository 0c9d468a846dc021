# SPDX-License-Identifier: GPL-2.0-or-later
"""``netdump report``: how the dumps in a capture went, as a page and as pictures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ..dump.heads import Heads
from ..dump.inspection import Inspection
from ..errors import CaptureError, NetdumpError, UsageError
from ..kerneldump.regions import Region
from ..recovery.recoverer import RecoveredDump, Recoverer, Recovery
from ..report.collect import MAX_REPORTED, Collector, View, Watched
from ..report.diagnosis import diagnose
from ..report.facts import facts
from ..report.page import Part, Picture, Section, page
from ..report.pictures import coverage_picture, transfer_picture, waiting_picture
from ..text import counted, printable
from .answers import look
from .describe import describe_dump
from .exits import FAILED, GOOD, INCOMPLETE
from .passphrase import ask_passphrase
from .progress import ProgressLine
from .selection import selection_of
from .signals import stopped_by_signals

_PAGE = "report.html"


def run(options: argparse.Namespace) -> int:
    """Read, draw, write, and return the exit status."""
    name = options.page or (None if options.directory else _PAGE)
    for capture in options.captures:
        if name is not None and Path(capture).exists() and Path(name).exists():
            _refuse_same(Path(capture), Path(name))
    heads = Heads()
    collector = Collector(heads)
    recovery = _read(options, collector)
    private_key = Path(options.private_key) if options.private_key is not None else None
    inspections = heads.inspections(private_key, ask_passphrase)
    sections = [
        _section(number, *found)
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


def _section(
    number: int, dump: RecoveredDump, watched: Watched, inspection: Inspection | NetdumpError
) -> Section:
    several = len(watched.views) > 1
    parts = [
        _part(f"dump{number}" + (f"-view{turn}" if several else ""), view)
        for turn, view in enumerate(watched.views, 1)
    ]
    looked = look(inspection)
    pictures = []
    if dump.bytes_expected:
        png = _coverage(dump, inspection)
        pictures.append(Picture(f"dump{number}-coverage", "Coverage of the file by region", png))
    title = f"{dump.client} to {dump.server}"
    if dump.kdh is not None:
        title += f": {dump.kdh.hostname}, {dump.kdh.panicstring}"
    return Section(
        title=title,
        complete=dump.complete,
        verdict=f"{dump.status}. {looked.lines[0] if looked.lines else ''}",
        description=describe_dump(dump, looked.lines),
        parts=parts,
        pictures=pictures,
    )


def _part(name: str, view: View) -> Part:
    timeline = view.timeline
    return Part(
        title=f"How it went, as seen in {', '.join(view.captures)}",
        sentence=diagnose(timeline).text,
        facts=facts(timeline),
        pictures=[
            Picture(
                f"{name}-transfer",
                "Offset in the file, throughput, messages in flight and what the time was spent "
                "on. Stalls are shaded: pauses of more than 100 ms and four round trips.",
                transfer_picture(timeline),
            ),
            Picture(
                f"{name}-waiting",
                "Where the time went, and how long acks took.",
                waiting_picture(timeline),
            ),
        ],
    )


def _coverage(dump: RecoveredDump, inspection: Inspection | NetdumpError) -> bytes:
    """A picture by region; of a dump that cannot be looked into, of the file as it was sent."""
    if isinstance(inspection, NetdumpError) or not inspection.contents.regions:
        return coverage_picture([Region("file as sent", 0, dump.bytes_expected)], dump.missing)
    return coverage_picture(inspection.contents.regions, list(inspection.content.missing))


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
