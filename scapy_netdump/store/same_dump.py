# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether two sources show the same dump: their evidence, which core/identity.py weighs."""

from __future__ import annotations

import numpy as np

from ..core.account import Account
from ..core.extents import Extents
from ..core.identity import Evidence, Judgement, judge
from ..core.observing.batch import Mask
from .kept_dumps import KeptFiles
from .naming import PART
from .two_sources import TwoSources


def compare(sources: TwoSources) -> Judgement:
    """Whether the two are to be one."""
    hindrance = _hindrance(sources)
    return judge(_evidence(sources)) if hindrance is None else Judgement(False, hindrance)


def _hindrance(sources: TwoSources) -> str | None:
    """Why the two cannot be one, whatever they hold, in a few words; None if they can."""
    kept = sources.kept
    if kept.derived:
        return "it is a decrypted or decompressed copy, and what came is not"
    if kept.vmcore.endswith(PART) and _is_received(kept):
        return "a server is still receiving it"
    name = sources.name(sources.merged(Extents()))
    if kept.vmcore != name and kept.directory.stat(name) is not None:
        return f"{name} is there already"
    return None


def _is_received(kept: KeptFiles) -> bool:
    info = kept.directory.stat(kept.info)
    return info is not None and kept.directory.locked(kept.info)


def _evidence(sources: TwoSources) -> Evidence:
    mine, fresh = sources.kept.account, sources.fresh
    agreeing = _compare(sources)
    return Evidence(
        headers=(mine.sound_kdh, fresh.sound_kdh),
        keys=(bytes(mine.key), bytes(fresh.key)),
        agreeing=agreeing,
        differing=sources.differing.total,
        shared=sources.shared,
        told=_told(sources.kept, fresh),
        ends=(mine.end, fresh.vmcore.end),
    )


def _told(kept: KeptFiles, fresh: Account) -> tuple[dict[str, str], dict[str, str]]:
    """What the info file says of a dump of which no header was kept, as netdumpd keeps none, and
    what the other one's header says of the same."""
    header = fresh.sound_header
    if header is None or kept.account.sound_header is not None:
        return {}, {}
    other = {
        "Dump Length": str(header.dumplength),
        "Hostname": header.hostname,
        "Panic String": header.panicstring,
    }
    told = {name: kept.values[name] for name in other if name in kept.values}
    if "Dump Length" in told:
        told["Dump Length"] = told["Dump Length"].partition("B ")[0]
    clear = [name for name in told if told[name].isprintable() and other[name].isprintable()]
    return {name: told[name] for name in clear}, {name: other[name] for name in clear}


def _compare(sources: TwoSources) -> int:
    """Note what differs where both have bytes; returns how many agree and are not zero."""
    agreeing = 0
    for start, end in sources.both():
        old, new = sources.read(start, end)
        known: Mask = old != 0
        agreeing += int(np.count_nonzero(known & (old == new)))
        differs = old != new
        if not sources.kept.account.holes_known:
            differs &= known
        if differs.any():
            sources.differing.compare(start, old.tobytes(), np.where(differs, new, old).tobytes())
    return agreeing
