# SPDX-License-Identifier: GPL-2.0-or-later
"""Names in a dump directory beside those of dumps (naming.py): of bounds files and links, of files
that are to take another's place, and which names nobody else may choose."""

from __future__ import annotations

import os
import re

from .naming import FileName

#: Names that are the store's own, whatever follows or leads: those above and what is written
#: beside them, now or by a version to come.
_OWN_NAME = re.compile(
    r"(?:info|vmcore|vmcore_encrypted|kdh|key|other|bounds)\..*|bounds|.*\.(?:last|new|part|map)",
    re.ASCII | re.DOTALL | re.IGNORECASE,
)

_NEW_NAME = re.compile(r"(?P<target>.+)\.[0-9a-f]{8}\.new", re.DOTALL)
_BOUNDS = re.compile(r"bounds(?:\..+)?", re.DOTALL)
_LINK = re.compile(r"(?:info|key|vmcore|vmcore_encrypted)\.(?:.+\.)?last(?:\.gz|\.zst)?", re.DOTALL)


def new_name(name: str) -> str:
    """What a file is called until it takes the place of another: a name that no other process
    hits upon at the same time."""
    return f"{name}.{os.urandom(4).hex()}.new"


def is_new_name(name: str) -> bool:
    """Whether a name was given by ``new_name``, to what was to be a file of the store's."""
    match = _NEW_NAME.fullmatch(name)
    if match is None:
        return False
    target = match["target"]
    return bool(FileName.parse(target) or _BOUNDS.fullmatch(target) or is_last_link(target))


def is_last_link(name: str) -> bool:
    """Whether a link to the last dump is called so."""
    return ".last" in name and _LINK.fullmatch(name) is not None


def is_own_name(name: str) -> bool:
    """Whether a name is one that the store may give to a file of its own, which nobody else is to
    choose."""
    return _OWN_NAME.fullmatch(name) is not None
