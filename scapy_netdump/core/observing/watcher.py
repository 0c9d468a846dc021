# SPDX-License-Identifier: GPL-2.0-or-later
"""What an observer tells whoever looks on while it works."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from .batch import Floats, Storage
from .messages import Acks, Messages
from .observed_dump import ObservedDump


class Watcher(Protocol):
    """Is told which messages and acks belong to which dump.

    ``sent`` and ``acked`` come in any order within a batch, as the columns tell theirs, and
    ``turn`` is called behind each batch. Of HERALDs nothing is told, but what they brought
    their dump.
    """

    def storage_for(self, dump: ObservedDump) -> Storage:
        """A dump has appeared in a capture: where to put its vmcore when it is not stored."""

    def sent(self, dump: ObservedDump, messages: Messages, times: Floats) -> None:
        """A dump's client sent some messages, in the order of the capture."""

    def acked(self, dump: ObservedDump, acks: Acks, times: Floats) -> None:
        """Its server sent some acks, in the order of the capture."""

    def found(self, dumps: Sequence[ObservedDump]) -> None:
        """All has been read: these are the dumps, each with its sightings, which are what all
        else was told of, in its ``parts``."""

    def turn(self) -> None:
        """All of a batch has been told."""
