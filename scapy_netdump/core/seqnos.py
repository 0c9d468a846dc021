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


def unseen_before(finished: Iterable[int], latest: int | None, herald: int | None) -> int | None:
    """How many messages were sent between the ``latest`` one that was seen and FINISHED; None if
    no number that a FINISHED came with can be that of this dump's.

    Of several numbers the lowest that can be counts. ``latest`` None: no other message was seen,
    so that some were not. netdumpd's test client numbers its ``herald`` and its FINISHED 0
    (PROTOCOL.md), which tells nothing; where the HERALD was not seen (None), that was not.
    """
    numbers = set(finished)
    if latest is None:
        return 1
    beyond = [ahead(seqno, latest) - 1 for seqno in numbers if ahead(seqno, latest) > 0]
    if beyond:
        return min(beyond)
    if 0 in numbers and not herald:
        return 1 if herald is None else 0
    return None
