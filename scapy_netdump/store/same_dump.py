# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether two sources show the same dump: by their headers, sizes, and the bytes of both.

Imports the package's core and its neighbours.
"""

from __future__ import annotations

import numpy as np

from ..core.extents import Extents
from ..core.observing.batch import Mask
from ..text import counted
from .kept_dumps import KeptDump
from .naming import PART
from .two_sources import TwoSources

#: Bytes that two dumps without a header must have in common, zeros not counted, to be taken
#: for one. The first page of two dumps of one machine is the same, but holds fewer than these.
MIN_AGREEING = 512


def why_not_same(sources: TwoSources) -> str | None:
    """Why the two are not to be one, in a few words; None if they are."""
    kept = sources.kept
    if kept.derived:
        return "it is a decrypted or decompressed copy, and what came is not"
    if kept.vmcore.endswith(PART) and _is_received(kept):
        return "a server is still receiving it"
    name = sources.name(sources.merged(Extents()))
    if kept.vmcore != name and kept.directory.stat(name) is not None:
        return f"{name} is there already"
    return _unlike_header(sources) or _unlike_key(sources) or _unlike_bytes(sources)


def _is_received(kept: KeptDump) -> bool:
    info = kept.directory.stat(kept.info)
    return info is not None and kept.directory.locked(kept.info)


def _unlike_header(sources: TwoSources) -> str | None:
    mine, header = sources.kept.header, sources.fresh.sound_header
    if mine is not None and header is not None and sources.kept.kdh != sources.fresh.kdh:
        return f"another dump: {_difference(mine.as_dict(), header.as_dict())}"
    if mine is None and header is not None:
        told = sources.kept.values
        for name, value in (
            ("Dump Length", str(header.dumplength)),
            ("Hostname", header.hostname),
            ("Panic String", header.panicstring),
        ):
            have = told.get(name, value)
            have = have.partition("B ")[0] if name == "Dump Length" else have
            if have != value and have.isprintable() and value.isprintable():
                return f"another dump: {name} is {have} there, {value} here"
    return None


def _unlike_key(sources: TwoSources) -> str | None:
    mine, key = sources.kept.key, bytes(sources.fresh.key)
    size = min(len(mine), len(key))
    return "another dump: its key differs" if mine[:size] != key[:size] else None


def _unlike_bytes(sources: TwoSources) -> str | None:
    if not sources.fresh.vmcore.total:
        return "there are no bytes of a vmcore to continue it with"
    agreeing = _compare(sources)
    if sources.kept.header is not None and sources.fresh.sound_header is not None:
        if sources.differing.total > agreeing:
            return f"its header is the same, but {_bytes(sources)} differ"
        return None  # all 512 bytes are the same, and with them the time of the panic
    sizes = _too_long(sources)
    if sizes is not None:
        return sizes
    if sources.differing.total:
        return f"another dump: {_bytes(sources)} differ"
    if agreeing < MIN_AGREEING:
        return f"too few bytes in common to tell that it is the same dump: {agreeing}"
    return None


def _bytes(sources: TwoSources) -> str:
    return f"{counted(sources.differing.total, 'byte')} of it"


def _too_long(sources: TwoSources) -> str | None:
    """Why one goes on where the other has its end, if it does."""
    kept = sources.kept
    mine, header = kept.header, sources.fresh.sound_header
    for known, end in ((mine, sources.fresh.vmcore.end), (header, kept.size)):
        if known is None:
            continue
        padding = known.blocksize if known.compression else 0
        if end > known.dumplength + padding:
            return f"another dump: {end} bytes, where the header tells {known.dumplength}"
    return None


def _compare(sources: TwoSources) -> int:
    """Note what differs where both have bytes; returns how many agree and are not zero."""
    agreeing = 0
    for start, end in sources.both():
        old, new = sources.read(start, end)
        known: Mask = old != 0
        agreeing += int(np.count_nonzero(known & (old == new)))
        differs = old != new
        if sources.kept.present is None:
            differs &= known
        if differs.any():
            sources.differing.compare(start, old.tobytes(), np.where(differs, new, old).tobytes())
    return agreeing


def _difference(mine: dict[str, int | str], fresh: dict[str, int | str]) -> str:
    """The first field, of those that a person would look at, in which two headers differ."""
    for name in ("hostname", "dumptime", "panicstring", "dumplength", *mine):
        if mine[name] != fresh[name]:
            return f"{name} is {mine[name]} there, {fresh[name]} here"
    return "the headers differ"
