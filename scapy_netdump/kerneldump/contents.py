# SPDX-License-Identifier: GPL-2.0-or-later
"""What kind of dump some bytes are, what it consists of, and what its holes mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..text import counted
from .elfcore import MAGIC as ELF_MAGIC
from .elfcore import ElfCore, ElfError
from .minidump import HEAD_SIZE as MINIDUMP_HEAD_SIZE
from .minidump import Minidump, MinidumpError
from .regions import Range, Region, pages_touched
from .textdump import BLOCK, is_textdump

#: Bytes from the start of a dump that tell what it is; an ELF core has all its program
#: headers in them.
HEAD_SIZE = 1 << 16

#: Without these nothing can be found in a minidump.
_NEEDED = ("header", "dump_avail", "page bitmap", "page tables", "ELF headers")
_RING, _PAGES = "message buffer", "memory pages"


@dataclass(frozen=True, slots=True)
class Contents:
    """What a dump of ``length`` bytes is. ``kind``: minidump, full dump, textdump or unknown;
    ``note`` says more where something is odd."""

    kind: str
    length: int
    regions: list[Region]
    architecture: str = ""
    note: str = ""
    minidump: Minidump | None = field(default=None, repr=False)
    core: ElfCore | None = field(default=None, repr=False)

    def region(self, name: str) -> Region | None:
        """The region of a name, if the dump has it."""
        return next((region for region in self.regions if region.name == name), None)


def contents_of(head: bytes, length: int, *, textdump: bool = False) -> Contents:
    """What a dump of ``length`` bytes is whose first HEAD_SIZE bytes, or as many as are there
    up to the first hole, are ``head``. ``textdump``: its KDH says that it is one."""
    if textdump or is_textdump(head[:BLOCK]):
        return Contents("textdump", length, [Region("text files", 0, length)])
    whole = [Region("contents", 0, length)]
    try:
        minidump = Minidump.parse(head[:MINIDUMP_HEAD_SIZE])
        core = ElfCore.parse(head) if minidump is None else None
    except (MinidumpError, ElfError) as error:
        kind = "full dump" if head.startswith(ELF_MAGIC) else "minidump"
        return Contents(kind, length, whole, note=str(error))
    if minidump is not None:
        regions = minidump.regions(length)
        return Contents("minidump", length, regions, minidump.architecture, minidump=minidump)
    if core is not None:
        return Contents("full dump", length, core.regions(length), core.architecture, core=core)
    note = f"begins with {head[:16].hex(' ')}" if head else "its first bytes are missing"
    return Contents("unknown", length, whole, note=note)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a debugger can use a dump (None: not known), and why, in a sentence."""

    usable: bool | None
    text: str


def verdict(contents: Contents, missing: Sequence[Range], *, certain: bool = True) -> Verdict:
    """What holes in a dump mean for whoever wants to debug it. Without ``certain`` more may be
    missing than that."""
    if contents.kind == "textdump":
        return _about_text(missing, certain)
    if contents.note:
        return Verdict(None, f"cannot be told: {contents.note}")
    lost = {region.name: region.missing(missing) for region in contents.regions}
    lacking = [_lacking(region, lost) for region in contents.regions if _is_needed(region, lost)]
    if lacking:
        return Verdict(False, f"not usable: {_listed(lacking)}; {_console(contents, lost)}")
    whole = [region.name for region in contents.regions if not lost[region.name]]
    described = _listed([name for name in whole if not _is_memory(name)])
    holes = _holes(contents, lost)
    if not holes:
        nothing = "nothing is missing" if certain else "nothing is known to be missing"
        return Verdict(True, f"usable in kgdb: {nothing}")
    return Verdict(True, f"usable in kgdb: {holes}; {described} {_are(described)} whole")


def _about_text(missing: Sequence[Range], certain: bool) -> Verdict:
    if not missing:
        return Verdict(True, f"usable: a textdump{' with all its files' if certain else ''}")
    count = sum(end - start for start, end in missing)
    return Verdict(False, f"usable in part: {count} bytes of text files are missing")


def _is_needed(region: Region, lost: dict[str, list[Range]]) -> bool:
    return region.name in _NEEDED and bool(lost[region.name])


def _lacking(region: Region, lost: dict[str, list[Range]]) -> str:
    count = sum(end - start for start, end in lost[region.name])
    part = "" if count == region.size else f" ({count} of {region.size} bytes)"
    return f"{region.name} missing{part}"


def _holes(contents: Contents, lost: dict[str, list[Range]]) -> str:
    """What is missing of memory and of the console, in words."""
    page = contents.minidump.page if contents.minidump is not None else 4096
    pages = sum(_count_pages(region, lost[region.name], page) for region in _memory(contents))
    total = sum(-(-region.size // page) for region in _memory(contents))
    parts = [
        f"{pages} of {counted(total, 'memory page')} {'is a hole' if pages == 1 else 'are holes'}"
    ]
    ring = lost.get(_RING)
    if ring:
        count = sum(end - start for start, end in ring)
        parts.append(f"the message buffer lacks {counted(count, 'byte')}")
    return "; ".join(parts if pages else parts[1:])


def _memory(contents: Contents) -> list[Region]:
    return [region for region in contents.regions if _is_memory(region.name)]


def _is_memory(name: str) -> bool:
    return name == _PAGES or name.startswith("memory from")


def _count_pages(region: Region, lost: list[Range], page: int) -> int:
    """How many pages of a region have any of the lost bytes."""
    return sum(after - first for first, after in pages_touched(lost, region.start, page))


def _console(contents: Contents, lost: dict[str, list[Range]]) -> str:
    ring = contents.region(_RING)
    if ring is None:
        return "the console text cannot be found without them"
    count = sum(end - start for start, end in lost[_RING])
    if count == 0:
        return "console text recovered"
    return "console text missing" if count == ring.size else "console text recovered in part"


def _listed(names: Sequence[str]) -> str:
    return " and ".join([*([", ".join(names[:-1])] if names[:-1] else []), *names[-1:]])


def _are(listed: str) -> str:
    return "are" if " and " in listed else "is"
