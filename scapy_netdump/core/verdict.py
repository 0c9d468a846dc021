# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a dump is whole: the four answers, and the line of an info file that each is.

netdumpd ends its info files with "Dump complete" or "Dump incomplete: client timed out". Ours
end with a line of the same form, and what such a line says is read here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What can be said of a dump."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    CONTRADICTED = "contradicted"
    UNKNOWN = "unknown"


_BEGINNINGS = {
    Kind.COMPLETE: "Dump complete",
    Kind.INCOMPLETE: "Dump incomplete",
    Kind.CONTRADICTED: "Dump contradicted",
    Kind.UNKNOWN: "Dump not known to be complete",
}

_RECEIVING = "being received"
_REMOVING = "being removed"

#: What is said of a dump of which nobody noted the holes: of any, of one whose server was killed.
ZEROS = "nothing is known to be missing, but zeros may be holes"
HOLES_UNKNOWN = "holes are not known"

#: What is said of a dump with holes, after how many bytes of how many.
MISSING = "bytes missing in"

#: What is true only until a hole is noted or filled.
PASSING = (ZEROS, HOLES_UNKNOWN, MISSING)

#: What netdumpd says of a dump of which no more came; it notes no holes.
_TIMED_OUT = "client timed out"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a dump is whole, and why not.

    COMPLETE: every byte of it is here, and nothing contradicts that. INCOMPLETE: some are
    missing. CONTRADICTED: what is known of it cannot all be true; nothing of it was cut.
    UNKNOWN: nothing is known to be missing, but its length, or which bytes are holes, is not
    known. ``reason`` is empty for what is complete.
    """

    kind: Kind
    reason: str = ""

    @classmethod
    def receiving(cls, detail: str = "") -> Verdict:
        """What is true of a dump while it comes in."""
        return cls(Kind.INCOMPLETE, f"{_RECEIVING}; {detail}" if detail else _RECEIVING)

    @classmethod
    def removing(cls) -> Verdict:
        """What is true of a dump of which some files may be gone already."""
        return cls(Kind.INCOMPLETE, _REMOVING)

    @classmethod
    def from_line(cls, line: str) -> Verdict | None:
        """What the last line of an info file says, whoever wrote it; None if it says nothing.

        A complete dump has nothing behind that word: a line that has is not believed.
        """
        for kind, beginning in _BEGINNINGS.items():
            if line == beginning:
                return cls(kind)
            if line.startswith(f"{beginning}: ") and kind is not Kind.COMPLETE:
                return cls(kind, line.removeprefix(f"{beginning}: "))
        return None

    @property
    def complete(self) -> bool:
        """Whether the dump is whole."""
        return self.kind is Kind.COMPLETE

    @property
    def is_receiving(self) -> bool:
        """Whether somebody was receiving the dump when this was said."""
        return self.kind is Kind.INCOMPLETE and self.reason.startswith(_RECEIVING)

    @property
    def is_removing(self) -> bool:
        """Whether somebody was removing the dump when this was said."""
        return self.kind is Kind.INCOMPLETE and self.reason == _REMOVING

    @property
    def denies_holes(self) -> bool:
        """Whether this means that a vmcore has no holes, if no mapfile tells of any."""
        told = not any(words in self.reason for words in PASSING)
        passing = self.is_receiving or self.is_removing
        return told and not passing and self.reason != _TIMED_OUT

    def because(self, cause: str) -> Verdict:
        """The same, with what led to it in front; of a complete dump nothing did."""
        if self.complete or not cause:
            return self
        return Verdict(self.kind, f"{cause}; {self.reason}" if self.reason else cause)

    def __str__(self) -> str:
        """The last line of an info file."""
        beginning = _BEGINNINGS[self.kind]
        return f"{beginning}: {self.reason}" if self.reason else beginning
