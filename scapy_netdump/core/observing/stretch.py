# SPDX-License-Identifier: GPL-2.0-or-later
"""Messages from one client to one port of a server, as they travel to their dump."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .batch import Bytes, Floats
from .messages import Acks, Messages, payload


@dataclass(frozen=True, slots=True)
class Stretch:
    """Messages of one type from one client to one port, and the acks to it: in the order of the
    capture, with their times in seconds since 1970. ``turn`` numbers the batch whose ``buffer``
    holds the payloads."""

    turn: int
    buffer: Bytes
    messages: Messages
    times: Floats
    acks: Acks
    ack_times: Floats

    def __len__(self) -> int:
        return len(self.messages)

    def split(self, row: int) -> tuple[Stretch, Stretch]:
        """What comes before a message, and what begins with it."""
        ack = len(self.acks)
        if row < len(self):
            ack = int(np.searchsorted(self.acks.order, self.messages.order[row]))
        return self._part(slice(row), slice(ack)), self._part(slice(row, None), slice(ack, None))

    def kept(self) -> Stretch:
        """The same with a buffer of its own, which stays valid."""
        lengths = self.messages.end - self.messages.start
        data = b"".join(map(self.payload, range(len(self))))
        positions = np.cumsum(lengths) - lengths
        messages = replace(self.messages, position=positions)
        return replace(self, buffer=np.frombuffer(data, np.uint8), messages=messages)

    def payload(self, row: int) -> bytes:
        """The captured payload of one message."""
        return payload(self.buffer, self.messages, row)

    def _part(self, rows: slice, acks: slice) -> Stretch:
        return replace(
            self,
            messages=self.messages[rows],
            times=self.times[rows],
            acks=self.acks[acks],
            ack_times=self.ack_times[acks],
        )
