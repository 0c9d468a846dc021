# SPDX-License-Identifier: GPL-2.0-or-later
"""Which dumps a dump directory holds, whoever put them there: this package, netdumpd, savecore."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ..errors import StoreError
from .dump_files import Published
from .names import PART, STORED_NAME


class DumpName(NamedTuple):
    """What the name of a file tells: whose dump it is of (empty in savecore's names), and which
    of its files."""

    host: str
    number: int
    kind: str


def dump_name(name: str) -> DumpName | None:
    """What a file's name tells; None if it is none of a dump's that is over."""
    match = STORED_NAME.fullmatch(name)
    if match is None or match["end"] == PART:
        return None
    kind = "map" if match["end"] else match["kind"].removesuffix("_encrypted")
    return DumpName(match["host"] or "", int(match["number"]), kind)


def stored_dumps(directory: Path) -> dict[tuple[str, int], Published]:
    """The files of each dump by host and number, sorted. StoreError if it cannot be read."""
    try:
        names = sorted(os.listdir(directory))
    except OSError as error:
        raise StoreError(f"{directory}: cannot be read: {error.strerror}") from None
    dumps: dict[tuple[str, int], Published] = {}
    for name in names:
        found = dump_name(name)
        if found is not None:
            key = found.host, found.number
            dumps[key] = replace(dumps.get(key, Published()), **{found.kind: directory / name})
    return dict(sorted(dumps.items()))
