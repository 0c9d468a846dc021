# SPDX-License-Identifier: GPL-2.0-or-later
"""What a dump consists of, what of it is missing, and which memory that is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..core.extents import Range
from ..kerneldump.contents import Contents, Verdict, verdict
from ..kerneldump.minidump import Minidump
from ..kerneldump.pages import PageMap
from .content import Content

#: Ranges of lost memory that are listed; a dump without pages has one, a bad one thousands.
_MOST_RANGES = 1 << 16


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found. ``lost_memory`` are ``[start, end)`` ranges of physical addresses, as far
    as they can be told: the first of many, and none behind a hole in the page bitmap."""

    contents: Contents
    missing: list[Range]
    verdict: Verdict
    lost_memory: list[Range]

    def as_dict(self) -> dict[str, Any]:
        """The survey as JSON takes it."""
        return {
            "kind": self.contents.kind,
            "architecture": self.contents.architecture,
            "length": self.contents.length,
            "note": self.contents.note,
            "regions": [region.as_dict(self.missing) for region in self.contents.regions],
            "usable": self.verdict.usable,
            "verdict": self.verdict.text,
            "lost_memory": self.lost_memory,
        }


def survey(content: Content, contents: Contents, *, certain: bool = True) -> Survey:
    """Look into a plain dump, of which ``contents`` tells what it is. Without ``certain`` more
    may be missing than is known."""
    missing = list(content.missing)
    lost: Iterable[Range] = ()
    if contents.core is not None:
        lost = contents.core.lost(missing)
    elif contents.minidump is not None:
        lost = _lost_pages(content, contents, contents.minidump)
    meaning = verdict(contents, missing, certain=certain)
    return Survey(contents, missing, meaning, list(_joined(lost)))


def _lost_pages(content: Content, contents: Contents, minidump: Minidump) -> Iterator[Range]:
    pages = contents.region("memory pages")
    if pages is None:
        return iter(())
    bitmap = _up_to_a_hole(content, contents, "page bitmap")
    page_map = PageMap(minidump, bitmap, _up_to_a_hole(content, contents, "dump_avail"))
    lost = page_map.lost(pages.start, pages.missing(content.missing))
    return ((address, address + minidump.page) for address in lost)


def _up_to_a_hole(content: Content, contents: Contents, name: str) -> bytes:
    region = contents.region(name)
    if region is None:
        return b""
    end = min((start for start, _ in region.missing(content.missing)), default=region.end)
    return content.read(region.start, end - region.start)


def _joined(ranges: Iterable[Range]) -> Iterator[Range]:
    """Ranges, in order, of which those that follow without a gap are one; not too many."""
    held: Range | None = None
    count = 0
    for start, end in ranges:
        if held is not None and held[1] == start:
            held = held[0], end
            continue
        if held is not None:
            yield held
            count += 1
        held = start, end
        if count == _MOST_RANGES:
            return
    if held is not None:
        yield held
