# SPDX-License-Identifier: GPL-2.0-or-later
"""A dump in the page of ``netdump report``: in words, in numbers and in pictures."""

from __future__ import annotations

from ..dump.inspection import Inspection
from ..errors import NetdumpError
from ..kerneldump.regions import Region
from ..recovery.recoverer import RecoveredDump
from ..report.collect import View, Watched
from ..report.diagnosis import diagnose
from ..report.facts import facts
from ..report.page import Part, Picture, Section
from ..report.pictures import coverage_picture, transfer_picture, waiting_picture
from .words import describe_dump, look


def section_of(
    number: int, dump: RecoveredDump, watched: Watched, inspection: Inspection | NetdumpError
) -> Section:
    """All that the page shows of a dump, the ``number``-th."""
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
