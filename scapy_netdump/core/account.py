# SPDX-License-Identifier: GPL-2.0-or-later
"""The account of a dump: what came of it, what is claimed of it, and what is true.

A server, a client, a recovery and whoever opens a file keep one Account a dump. Ports, dumplength,
file sizes and FINISHED are claims; here, and nowhere else, they are weighed against the bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..kerneldump.header import HEADER_SIZE, MAX_BLOCK, DumpHeader
from ..kerneldump.key import DumpKey, DumpKeyError
from ..kerneldump.length import OwnLength, Read
from ..text import counted
from .claims import Claims, counting_header
from .examination import data_behind, own_claims
from .extents import Extents, Marks, Range, total
from .small_files import MAX_KEY_SIZE, Headers, MemoryFile
from .verdict import MISSING, PASSING, ZEROS, Kind, Verdict

#: Bytes behind the end of a dump that are set aside at most; where more came, it is the end that
#: is doubted.
MAX_STRAY = 1 << 24

#: How far behind the end of a dump a stray byte is at least: what follows without a gap, or with
#: a small one, was sent as a part of the dump.
STRAY_GAP = MAX_BLOCK

_UNSEEN = re.compile(r"(\d{1,18}) messages? before FINISHED")


class Account:
    """One dump, from HERALD to FINISHED.

    ``path`` is the HERALD's, undecoded and without its NUL. ``vmcore`` says which bytes of the
    dump are here; whoever feeds the account stores them first and adds them then.
    ``conflicts`` and ``key_conflicts`` are the bytes of the vmcore and of the key that came with
    different values, ``stray`` those that were set aside because they lie far behind its end.
    ``unseen`` is how many messages did not come that were numbered between the last one that did
    and FINISHED, None if its number does not tell. ``holes_known`` is false for a file of which
    nobody noted the holes. ``doubt`` says why some of its bytes may be another dump's.
    """

    __slots__ = (
        "_announced",
        "_behind",
        "_doubt",
        "_packed_as",
        "conflicts",
        "finished",
        "headers",
        "heralded",
        "holes_known",
        "key",
        "key_conflicts",
        "own",
        "path",
        "stray",
        "unseen",
        "vmcore",
    )

    def __init__(self) -> None:
        self.heralded = False
        self.finished = False
        self.holes_known = True
        self.unseen: int | None = 0
        self.path = b""
        self.vmcore = Extents()
        self.headers = Headers()
        self.key = MemoryFile(MAX_KEY_SIZE)
        self.conflicts = Marks()
        self.key_conflicts = Marks()
        self.stray = Extents()
        self.own: OwnLength | None = None
        self._announced = 0
        self._doubt = ""
        self._packed_as: int | None = None
        self._behind: bool | None = None

    def herald(self, path: bytes) -> None:
        """The client announced itself, with the path that it wants, if any."""
        self.heralded = True
        self.path = self.path or path

    def announce(self, end: int) -> None:
        """The client sent bytes of the vmcore up to ``end``, be they here or not."""
        self._announced = max(self._announced, end)

    def finish(self, unseen: int | None = 0) -> None:
        """The client sent its FINISHED; ``unseen`` is how many messages its number tells of that
        were sent between the last one that was seen and it (``unseen_before`` in seqnos.py): with
        any, or where it does not tell, the highest byte that was seen need not be the last."""
        told = [number for number in (unseen, self.unseen) if number is not None]
        self.unseen = min(told, default=None) if self.finished else unseen
        self.finished = True

    def recall(self, told: Verdict) -> None:
        """An info file ends with this verdict: what it alone tells is known again.

        FINISHED tells the length only of a dump that was complete. What was contradicted stays
        so, with its reasons; what was missing is not among them, as that may come.
        """
        unseen = _UNSEEN.match(told.reason)
        if unseen is not None:
            self.finished, self.unseen = True, int(unseen[1])
        elif self.finished and not told.complete:
            self.unseen = None
        if told.kind is Kind.CONTRADICTED:
            passing = (*PASSING, *self.lacking)
            reasons = (
                reason
                for reason in told.reason.split("; ")
                if not any(words in reason for words in passing)
            )
            self.add_doubt("; ".join(filter(None, reasons)) or "it was contradicted before")

    def add_doubt(self, reason: str) -> None:
        """There is this reason, too, for which some of the bytes may be another dump's."""
        if reason not in self._doubt:
            self._doubt = f"{self._doubt}; {reason}" if self._doubt else reason

    def absorb(self, other: Account) -> None:
        """Take what another account knows of the same dump. Of bytes with different values those
        of this one count; the vmcore is left to whoever has its bytes."""
        if other.heralded:
            self.herald(other.path)
        if other.finished:
            self.finish(other.unseen)
        self.add_doubt(other.doubt)
        self.announce(other._announced)
        for version in other.headers.versions:
            for start, end in version.extents:
                self.headers.take(start, version.read(start, end))
        self.headers.conflicts.update(other.headers.conflicts)
        self.conflicts.update(other.conflicts)
        for start, end in other.stray:
            self.stray.add(start, end)
        for start, end in other.key.extents:
            self._absorb_key(start, other.key.read(start, end))
        self.key_conflicts.update(other.key_conflicts)

    def _absorb_key(self, start: int, data: bytes) -> None:
        key = self.key
        for first, last in key.extents.present(start, start + len(data)):
            held = key.read(first, last)
            self.key_conflicts.compare(first, held, data[first - start : last - start])
        for first, last in list(key.extents.missing(start, start + len(data))):
            key.add(first, data[first - start : last - start])

    def examine(self, read: Read) -> None:
        """Look into the dump for what it says of its own length: to be called when no more comes.
        Before that nothing of it is surplus. An encrypted one tells nothing.

        ``read`` gives the bytes ``[start, end)`` as they are stored, or None; it is asked only
        for bytes that are here.
        """
        self.own = self._packed_as = self._behind = None
        if not self.encrypted:
            header = self.sound_header if len(self.headers.sound) == 1 else None
            self.own, self._packed_as = own_claims(read, self.vmcore, header)
            self._behind = data_behind(read, self.vmcore, self._claims)

    # What is claimed

    @property
    def doubt(self) -> str:
        """Why some of the bytes may be another dump's: all reasons that were added, or nothing."""
        return self._doubt

    @property
    def kdh(self) -> bytes:
        """The header that counts, as it came; cut at its first hole if it did not come whole."""
        counts = self._counting_header
        return counts if counts is not None else bytes(self.headers.versions[0])

    @property
    def other_headers(self) -> list[bytes]:
        """Headers that came and do not count, 512 bytes each: zeros for what did not come."""
        kdh = self.kdh.ljust(HEADER_SIZE, b"\0")
        came = [version for version in self.headers.versions if version.extents.total]
        padded = [version.read(0, HEADER_SIZE).ljust(HEADER_SIZE, b"\0") for version in came]
        return [data for data in padded if data != kdh]

    @property
    def header(self) -> DumpHeader | None:
        """The dump header, decoded, when all of it is here: right or wrong."""
        counts = self._counting_header
        return DumpHeader.unpack(counts) if counts is not None else None

    @property
    def sound_header(self) -> DumpHeader | None:
        """The dump header if its magic and parity hold: only then its numbers count."""
        kdh = self.sound_kdh
        return DumpHeader.unpack(kdh) if kdh is not None else None

    @property
    def sound_kdh(self) -> bytes | None:
        """The 512 bytes of the dump header if its magic and parity hold."""
        counts = self._counting_header
        return counts if counts is not None and DumpHeader.unpack(counts).valid else None

    @property
    def header_problem(self) -> str:
        """What is wrong with the dump header, in a few words; empty if nothing is."""
        header, size = self.header, self.headers.size
        if header is None:
            return f"dump header of {size} bytes instead of {HEADER_SIZE}" if size else ""
        if not header.magic_ok:
            return "dump header with a wrong magic"
        return "" if header.parity_ok else "dump header with a wrong parity"

    @property
    def encrypted(self) -> bool:
        """Whether the dump came with a key, or has a sound header that tells of one."""
        header = self.sound_header
        return bool(self.key.extents.total or (header is not None and header.dumpkeysize))

    @property
    def compression(self) -> int:
        """How the dump is compressed, by a sound header: 0 none, 1 gzip, 2 zstd."""
        header = self.sound_header
        return header.compression if header is not None else 0

    @property
    def conflicting_bytes(self) -> int:
        """Bytes that came with different values: of the vmcore, the key and the header."""
        return self.conflicts.total + self.key_conflicts.total + self.headers.conflicts.total

    # What is true

    @property
    def end(self) -> int:
        """One past the highest byte of the vmcore that was sent, be it here or not."""
        return max(self._announced, self.vmcore.end)

    @property
    def length(self) -> int | None:
        """How long the dump is, without padding; None if that is not known."""
        return self._claims.length

    @property
    def bytes_expected(self) -> int:
        """How many bytes the vmcore ought to have, as far as that is known: its length, or up to
        the highest byte that came where that is no padding."""
        claims, length = self._claims, self.length
        if length is None:
            return claims.most
        if self.end <= length:
            return max(length, claims.least)
        padded = claims.ends_at(length) and not any(self._contradictions())
        return length if padded else claims.most

    @property
    def bytes_received(self) -> int:
        """How many of the expected bytes are here."""
        return total(self.vmcore.present(0, self.bytes_expected))

    @property
    def missing(self) -> list[Range]:
        """The holes, as ``[start, end)`` ranges of the vmcore file, in order."""
        return list(self.vmcore.missing(0, self.bytes_expected))

    @property
    def surplus(self) -> int:
        """How many bytes at the end of the vmcore are padding, and may be cut off: zeros that were
        looked at, fewer than a block, behind where the dump itself says that it ends. What cannot
        be told from data is kept: the padding of an encrypted dump, and of one with holes."""
        claims, length = self._claims, self.length
        if self._behind is not False or length is None or not claims.borne_out:
            return 0
        if not claims.ends_at(length) or any(self._contradictions()):
            return 0
        return max(0, self.vmcore.end - length)

    @property
    def file_size(self) -> int:
        """How long the file is to be that keeps the vmcore, its last hole included."""
        return max(self.bytes_expected, self.vmcore.end - self.surplus)

    @property
    def file_holes(self) -> list[Range]:
        """The holes of that file, as its mapfile tells them: those in the padding, too, if that
        is kept."""
        return list(self.vmcore.missing(0, self.file_size))

    @property
    def lacking(self) -> list[str]:
        """What is missing of the dump, in words; empty if nothing is known to be."""
        return list(self._lacking())

    @property
    def complete(self) -> bool:
        """Whether every byte arrived, and nothing contradicts that."""
        return self.verdict.complete

    @property
    def verdict(self) -> Verdict:
        """Whether the dump is whole, and what speaks against it.

        FINISHED proves nothing (PROTOCOL.md: the kernel client's ack bitmap).
        """
        lacking = self.lacking
        contradictions = list(self._contradictions())
        if contradictions:
            return Verdict(Kind.CONTRADICTED, "; ".join([*contradictions, *lacking]))
        if lacking:
            return Verdict(Kind.INCOMPLETE, "; ".join(lacking))
        if self.length is None:
            return Verdict(Kind.UNKNOWN, f"{self._why_endless}, its length is not known")
        if not self.holes_known:
            return Verdict(Kind.UNKNOWN, ZEROS)
        return Verdict(Kind.COMPLETE)

    def set_stray_aside(self) -> list[Range]:
        """Take bytes that lie far behind the end of the dump out of its vmcore, and return their
        ranges, which whoever stores the bytes is to keep elsewhere.

        One forged message at a high offset would make a file of that size. It is stray only if
        the dump's length is known, all that is missing between them is at least STRAY_GAP, and
        what lies behind is little: else it is the length that is doubted.
        """
        length = min(self._claims.lengths, default=None)
        if length is None:
            return []
        stray = list(self.vmcore.present(length, self.vmcore.end))
        if not stray or stray[0][0] - length < STRAY_GAP:
            return []
        if total(stray) > min(MAX_STRAY, total(self.vmcore.present(0, length))):
            return []
        for start, end in stray:
            self.vmcore.remove(start, end)
            self.stray.add(start, end)
        self._announced = min(self._announced, max(length, self.vmcore.end))
        return stray

    @property
    def _counting_header(self) -> bytes | None:
        return counting_header(self.headers, self.end, self.own, self._packed_as)

    @property
    def _claims(self) -> Claims:
        finished = self.finished and self.unseen == 0 and not self.encrypted
        return Claims(self.end, self.sound_header, self.own, self._packed_as, finished)

    def _lacking(self) -> Iterator[str]:
        missing = self.missing
        if not self.vmcore.total:
            yield "no data received"
        elif missing:
            ranges = counted(len(missing), "range")
            yield f"{total(missing)} of {self.bytes_expected} {MISSING} {ranges}"
        if self.header is None and self.header_problem:
            yield self.header_problem
        if self.own is not None and self.own.length is None and self.own.least is None:
            yield f"its {self.own.kind} does not end"
        if self.encrypted and not self._key_is_whole():
            yield "its key is cut short" if bytes(self.key) else "its key is missing"
        if self.encrypted and self._last_block_is_cut():
            yield "its last block is cut short"

    def _key_is_whole(self) -> bool:
        try:
            DumpKey.unpack(bytes(self.key))
        except DumpKeyError:
            return False
        return True

    def _last_block_is_cut(self) -> bool:
        """Whether a part is missing of the block that the end of an encrypted dump is in. The
        padding of such a one is encrypted, too, and nothing else tells it from data."""
        claims, length = self._claims, self.length
        if length is None or not claims.ends_at(length):
            return False
        whole = self.end % (claims.padding + 1) == 0 and self.vmcore.covers(length, self.end)
        return self.end > length and not whole

    @property
    def _why_endless(self) -> str:
        if self.finished and self.unseen is None:
            return "FINISHED has no number that tells its end, and no sound dump header came"
        if self.finished and self.unseen:
            return f"{counted(self.unseen, 'message')} before FINISHED and no dump header came"
        return "no sound dump header came"

    def _contradictions(self) -> Iterator[str]:
        """What cannot all be true, in words, each once."""
        if self.doubt:
            yield self.doubt
        known = self.doubt.split("; ")
        yield from (reason for reason in self._disagreements() if reason not in known)

    def _disagreements(self) -> Iterator[str]:
        """What disagrees among bytes and claims."""
        if self.header is not None and self.header_problem:
            yield self.header_problem
        sound = len(self.headers.sound)
        if sound > 1:
            yield f"{sound} dump headers that differ"
        yield from self._claims.disagreements()
        length = self.length
        if self._behind and length is not None and self._claims.ends_at(length):
            yield f"{self.end - length} bytes behind its length of {length} are no padding"
        if self.stray.total:
            first = next(iter(self.stray))[0]
            yield f"{counted(self.stray.total, 'stray byte')} set aside, the first at {first}"
        if self.conflicting_bytes:
            yield f"{counted(self.conflicting_bytes, 'byte')} came with different values"
