# SPDX-License-Identifier: GPL-2.0-or-later
"""How long a dump is: who claims what of it, and which claim counts.

A dump header, the dump's own structure and FINISHED claim a length; none of them has to be right,
and what they say can be compared with each other and with what came.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..formats import COMPRESSIONS
from ..kerneldump.header import MAX_BLOCK, DumpHeader
from ..kerneldump.length import OwnLength
from ..text import counted
from .small_files import Headers


@dataclass(frozen=True, slots=True)
class Claims:
    """What is claimed of a dump that was sent up to ``end``: by a sound ``header``, by its ``own``
    structure, and by FINISHED, if its end is that of the dump (``finished``). ``packed_as`` is the
    compression that its first bytes tell, None if they are not known."""

    end: int
    header: DumpHeader | None
    own: OwnLength | None
    packed_as: int | None
    finished: bool

    @property
    def lengths(self) -> list[int]:
        """The lengths that are claimed: by the dump itself, by its header."""
        own = self.own.length if self.own is not None else None
        told = self.header.dumplength if self.header is not None else None
        return [claim for claim in (own, told) if claim is not None]

    @property
    def length(self) -> int | None:
        """How long the dump is, without padding; None if that is not known.

        Of two claims the one counts that ends where the bytes end; if neither does, that of the
        dump itself. FINISHED stands in for a length where there is no other claim.
        """
        for claim in self.lengths:
            if self.ends_at(claim):
                return claim
        if self.lengths:
            return self.lengths[0]
        if self.own is not None and self.own.least is None:
            return None
        return self.end if self.finished and self.end >= max(1, self.least) else None

    @property
    def least(self) -> int:
        """How long the dump is at any rate, by its own structure."""
        return (self.own.least or 0) if self.own is not None else 0

    @property
    def most(self) -> int:
        """The largest of all numbers: where nothing else is known, bytes are expected up to it."""
        return max([self.end, self.least, *self.lengths])

    @property
    def padding(self) -> int:
        """How many bytes may follow the end of the dump."""
        if self.header is not None:
            return self.header.padding
        stream = self.own is not None and self.own.kind.endswith("stream")
        return MAX_BLOCK - 1 if stream else 0

    @property
    def borne_out(self) -> bool:
        """Whether the dump itself says that it ends at its length."""
        return self.own is not None and self.own.length == self.length

    def ends_at(self, length: int) -> bool:
        """Whether what was sent ends at a length, or with padding behind it."""
        return length <= self.end <= length + self.padding

    def disagreements(self) -> Iterator[str]:
        """Which of the claims cannot all be true, in words."""
        header, own = self.header, self.own
        if header is not None and own is not None and own.length not in (None, header.dumplength):
            told = counted(header.dumplength, "byte")
            yield f"its header tells {told}, its {own.kind} {own.length}"
        if header is not None and own is not None and header.dumplength < self.least:
            told = counted(header.dumplength, "byte")
            yield f"its header tells {told}, its {own.kind} {self.least} at least"
        known = header is not None and header.compression in COMPRESSIONS
        if header is not None and known and self.packed_as not in (None, header.compression):
            told, found = header.compression_name, COMPRESSIONS[self.packed_as or 0]
            yield f"its header tells compression {told}, its first bytes {found}"
        if header is not None and not known:
            yield f"its header tells compression {header.compression_name}"
        length = self.length
        if length is not None and self.end > length + self.padding:
            yield f"{self.end - length} bytes came beyond its length of {length}"


def counting_header(
    headers: Headers, end: int, own: OwnLength | None, packed_as: int | None
) -> bytes | None:
    """Of several whole headers a sound one, if there is one; of several sound ones that which fits
    what came, and what that tells of itself."""
    sound = headers.sound
    for data in sound if len(sound) > 1 else ():
        header = DumpHeader.unpack(data)
        claims = Claims(end, header, own, packed_as, False)
        if own is not None and own.length is not None:
            fits = header.dumplength == own.length
        else:
            packed = packed_as in (None, header.compression)
            fits = (
                packed and header.dumplength >= claims.least and claims.ends_at(header.dumplength)
            )
        if fits:
            return data
    return next(iter(sound or headers.whole), None)
