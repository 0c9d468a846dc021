# SPDX-License-Identifier: GPL-2.0-or-later
"""The numbers of a client's messages: they wrap, and FINISHED is numbered behind all others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:  # a server needs no numpy
    from .observing.batch import Ints

    Number = TypeVar("Number", int, Ints)

#: The bits of a sequence number, which wraps.
SEQNOS = (1 << 32) - 1
_HALF = 1 << 31


def ahead(seqno: Number, of: Number | int) -> Number:
    """How many numbers one lies ahead of another; they wrap."""
    return ((seqno - of + _HALF) & SEQNOS) - _HALF


def finished_as(numbers: Iterable[int], latest: int) -> int | None:
    """Of the numbers that a FINISHED came with the lowest that is behind the ``latest`` one of all
    other messages; None if none is."""
    own = [seqno for seqno in numbers if ahead(seqno, latest) > 0]
    return min(own, key=lambda seqno: ahead(seqno, latest), default=None)


def unseen_before(numbers: Iterable[int], latest: int | None) -> int | None:
    """How many messages were sent between the ``latest`` one that was seen, if any was, and a
    FINISHED that came with these numbers; None if they do not tell."""
    own = finished_as(numbers, latest) if latest is not None else None
    return None if own is None or latest is None else ahead(own, latest) - 1


def cannot_be_finished(numbers: Iterable[int], latest: int, herald: int | None) -> bool:
    """Whether no FINISHED that came with these numbers can be that of a dump, of which there is a
    ``latest`` message: it is of one before, or forged.

    netdumpd's test client numbers its ``herald`` and its FINISHED 0 (PROTOCOL.md), which tells
    nothing; it may be one of which the HERALD was not seen (None).
    """
    seqnos = set(numbers)
    return finished_as(seqnos, latest) is None and (bool(herald) or 0 not in seqnos)
