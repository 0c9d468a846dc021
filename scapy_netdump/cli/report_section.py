# SPDX-License-Identifier: GPL-2.0-or-later
"""A dump in the page of ``netdump report``: in words, in numbers and in pictures."""

from __future__ import annotations

from ..dump.dump import Dump
from ..errors import NetdumpError
from ..kerneldump.regions import Region
from ..report.collect import View, Watched
from ..report.diagnosis import diagnose
from ..report.facts import facts
from ..report.page import Part, Picture, Section
from ..report.pictures import coverage_picture, transfer_picture, waiting_picture
from .words import describe_dump, look


def section_of(number: int, dump: Dump, watched: Watched) -> Section:
    """All that the page shows of a dump, the ``number``-th."""
    several = len(watched.views) > 1
    parts = [
        _part(f"dump{number}" + (f"-view{turn}" if several else ""), view)
        for turn, view in enumerate(watched.views, 1)
    ]
    looked = look(dump)
    pictures = []
    if dump.account.bytes_expected:
        png = _coverage(dump)
        pictures.append(Picture(f"dump{number}-coverage", "Coverage of the file by region", png))
    assert dump.transfer is not None
    title = f"{dump.transfer.client} to {dump.transfer.server}"
    if dump.kdh is not None:
        title += f": {dump.kdh.hostname}, {dump.kdh.panicstring}"
    return Section(
        title=title,
        complete=dump.complete,
        verdict=f"{dump.verdict}. {looked.lines[0] if looked.lines else ''}",
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


def _coverage(dump: Dump) -> bytes:
    """A picture by region; of a dump that cannot be looked into, of the file as it was sent."""
    try:
        regions, missing = dump.regions, list(dump.head.missing)
    except NetdumpError:
        regions = []
    if not regions:
        regions = [Region("file as sent", 0, dump.account.bytes_expected)]
        missing = dump.missing
    return coverage_picture(regions, missing)
