# SPDX-License-Identifier: GPL-2.0-or-later
"""Payloads that were stored lately and still stand in memory.

What comes again mostly comes soon. To compare it with the file would mean to wait until
the file has been written.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from .batch import Bytes
from .messages import Messages

#: Stretches looked through; a batch is usually one.
_MAX_STRETCHES = 8


class _Stretch(NamedTuple):
    turn: int
    buffer: Bytes
    messages: Messages


class RecentPayloads:
    """Finds payloads of the current batch and the one before: their buffers are still valid
    (batch.py). A ``turn`` is the number of a batch."""

    def __init__(self) -> None:
        self._stretches: deque[_Stretch] = deque(maxlen=_MAX_STRETCHES)

    def add(self, turn: int, buffer: Bytes, messages: Messages) -> None:
        """Messages were stored as they are; they are in the order of the file."""
        self._stretches.append(_Stretch(turn, buffer, messages))

    def find(self, turn: int, start: int, end: int) -> bytes | None:
        """The bytes ``[start, end)`` of the file, if one payload holds them all."""
        for stretch in self._stretches:
            if stretch.turn < turn - 1:
                continue
            messages = stretch.messages
            row = int(messages.start.searchsorted(start, "right")) - 1
            if row >= 0 and end <= messages.end[row]:
                position = int(messages.position[row] + start - messages.start[row])
                return stretch.buffer[position : position + end - start].tobytes()
        return None

    def forget(self) -> None:
        """What is stored is no longer what was added."""
        self._stretches.clear()
