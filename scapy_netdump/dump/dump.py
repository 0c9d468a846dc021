# SPDX-License-Identifier: GPL-2.0-or-later
"""A dump that was opened, from whatever it is in."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.account import Account
from ..core.extents import Range
from ..core.verdict import Kind, Verdict
from ..errors import NetdumpError, StoreError
from ..kerneldump.contents import Contents, contents_of
from ..kerneldump.header import MAGIC_SIZE, DumpHeader, compression_number
from ..kerneldump.info import info_origin, info_values
from ..kerneldump.key import DumpKey
from ..kerneldump.length import own_length
from ..kerneldump.regions import Region
from ..kerneldump.textdump import MAX_SIZE
from ..store.hosts import file_host
from ..store.naming import SUFFIXES, FileName, Published
from .cipher import Cipher, Decrypted
from .content import Content, ContentFile, Holes, Part, read_around
from .transfer import Transfer

if TYPE_CHECKING:  # and loaded when a dump is looked into, or copied: most recoveries do neither
    from .console import Console, TextFile
    from .save import PlainCopy, Progress
    from .survey import Survey

#: Bytes of a dump that are unpacked, or kept, to find the message buffer and the bitmap, which
#: for a terabyte of memory takes 32 MiB.
HEAD = 64 << 20

#: What opens the key of a dump. EncryptionError if that cannot be.
Unlock = Callable[[DumpKey], Cipher]

#: What a host is called of which neither address nor name is known.
_UNKNOWN = "unknown"

_BADNESS = (Kind.COMPLETE, Kind.UNKNOWN, Kind.INCOMPLETE, Kind.CONTRADICTED)


class EncryptedError(NetdumpError):
    """A dump that cannot be looked into without its private key."""


class Dump:
    """A dump that was opened: its account, its info text, and its bytes with their holes.

    It is one type whatever the dump is in, because what one asks of it is the same: ``name`` says
    where it is, ``files`` in which files if it has any, and ``transfer`` how it came if a
    capture showed that. ``content`` is the vmcore as it came: encrypted, compressed, without the
    padding. ``copy`` is what was made of it in the same go, a plain file.

    To be used in ``with``; without that, what it has open is closed with the last reference.
    Reading raises StoreError if the dump is closed or a file cannot be read, and where plain
    bytes are asked for EncryptedError without the private key, EncryptionError with a wrong one.
    """

    def __init__(
        self,
        name: str,
        account: Account,
        content: Content,
        *,
        info: str = "",
        told: Verdict | None = None,
        files: Published | None = None,
        transfer: Transfer | None = None,
        unlock: Unlock | None = None,
    ) -> None:
        """``told`` is the verdict of whoever received the dump, ``unlock`` opens its key."""
        self.name = name
        self.account = account
        self.content = Part(content, account.bytes_expected, account.missing)
        self._source = content
        self.info = info
        self.files = files or Published()
        self.transfer = transfer
        self.copy: PlainCopy | None = None
        self._told = told
        self.unlock = unlock
        self._closed = False

    def __enter__(self) -> Dump:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Dump({self.name!r}, {str(self.verdict)!r})"

    def close(self) -> None:
        """Close what is open, for good; harmless when repeated."""
        self._closed = True
        for content in (self._source, self.__dict__.pop("_whole", None)):
            getattr(content, "close", lambda: None)()

    def let_go(self) -> None:
        """Close what is open until it is read again: a run may see more dumps than it may have
        files open."""
        self.__dict__.pop("_whole", None)
        getattr(self._source, "let_go", lambda: None)()

    # What is known of it

    @property
    def kdh(self) -> DumpHeader | None:
        """The dump header as it came, right or wrong; None if it did not come whole."""
        return self.account.header

    @property
    def header(self) -> DumpHeader | None:
        """The dump header, if it is here and sound."""
        return self.account.sound_header

    @property
    def panicstring(self) -> str | None:
        """Why the kernel panicked, by the header or the info file; None if neither tells."""
        if self.kdh is not None:
            return self.kdh.panicstring
        return info_values(self.info).get("Panic String")

    @property
    def key(self) -> bytes:
        """The key blob; empty if there is none."""
        return bytes(self.account.key)

    @property
    def verdict(self) -> Verdict:
        """Whether the dump is whole: what its bytes tell, unless whoever received it knew worse.
        Of a ``.part`` its receiver is believed, as nobody else knows which bytes are holes."""
        mine, told = self.account.verdict, self._told
        if told is None:
            return mine
        if told.kind is mine.kind and told.reason.endswith(mine.reason):
            return told  # with what led to it
        receiving = self.files.vmcore is not None and not self.account.holes_known
        first, second = (told, mine) if receiving else (mine, told)
        return max(first, second, key=lambda verdict: _BADNESS.index(verdict.kind))

    @property
    def complete(self) -> bool:
        """Whether every byte is here, and nothing contradicts that."""
        return self.verdict.complete

    @property
    def missing(self) -> list[Range]:
        """What is known to be missing: ``[start, end)`` ranges of the vmcore as it came."""
        return self.account.missing

    @property
    def bytes_expected(self) -> int:
        """How many bytes the vmcore ought to have, as far as that is known."""
        return self.account.bytes_expected

    @property
    def bytes_received(self) -> int:
        """How many of those are here."""
        return self.account.bytes_received

    def as_dict(self) -> dict[str, Any]:
        """The dump as ``netdump recover --json`` prints it; what only captures tell is there if
        one showed it."""
        copy, verdict = self.copy, self.verdict
        return {
            **(self.transfer.as_dict() if self.transfer is not None else {}),
            "verdict": verdict.kind.value,
            "complete": verdict.complete,
            "status": str(verdict),
            "kdh": self.kdh.as_dict() if self.kdh is not None else None,
            "bytes_expected": self.bytes_expected,
            "bytes_received": self.bytes_received,
            "missing": self.missing,
            "files": {
                **self.files.as_dict(),
                "plain": None if copy is None else str(copy.path),
                "plain_map": None if copy is None or copy.map is None else str(copy.map),
            },
            "plain": None if copy is None else copy.as_dict(),
        }

    # Its plain bytes

    def open(self, holes: Holes = "error") -> ContentFile:
        """The plain vmcore as a binary file that can be sought in. Reading a hole raises
        HoleError, an OSError, or gives zeros with ``holes="zeros"``; UsageError for other words."""
        return ContentFile(self.plain(), holes)

    def read(self, offset: int, size: int, holes: Holes = "error") -> bytes:
        """``size`` bytes of the plain vmcore from ``offset`` on, fewer only at its end; holes as
        for ``open``. UsageError if one of the two is negative."""
        return read_around(self.plain(), offset, size, holes)

    def plain(self) -> Content:
        """The vmcore decrypted and decompressed; of compressed ones in an unnamed temporary file.
        What a hole makes unreadable is ``missing``."""
        self._check_open()
        return self._whole

    @cached_property
    def _whole(self) -> Content:
        content = self.decrypted()
        if not self.compressed(content):
            return content
        from .compression import unpacked

        return unpacked(content, self.name, self.extent)

    def decrypted(self) -> Content:
        """The vmcore decrypted, if it was encrypted."""
        self._check_open()
        if not self.account.encrypted:
            return self.content
        if not self.key:
            raise EncryptedError(f"{self.name}: encrypted, and its key is missing")
        if self.unlock is None:
            raise EncryptedError(f"{self.name}: encrypted; -p names the private key")
        return Decrypted(self.content, self.unlock(DumpKey.unpack(self.key)))

    def compressed(self, decrypted: Content) -> int:
        """How the dump, which was decrypted, is compressed, by its header or its first bytes: 0
        if it is not, 1 gzip, 2 zstd."""
        if self.header is not None:
            return self.header.compression
        return compression_number(decrypted.read(0, MAGIC_SIZE))

    @property
    def packed_as(self) -> int:
        """How the dump is compressed, as far as can be told without its private key: by its
        header, the first bytes, or the name of its file."""
        if self.header is not None or not self.account.encrypted:
            return self.compressed(self.content)
        name = FileName.parse(self.files.vmcore.resolve().name) if self.files.vmcore else None
        return SUFFIXES.index(name.suffix) + 1 if name is not None and name.suffix else 0

    @property
    def extent(self) -> int | None:
        """How long the dump was before it was compressed, if its header tells."""
        return self.header.dumpextent or None if self.header is not None else None

    # What is in it

    @cached_property
    def head(self) -> Content:
        """The plain vmcore to be looked into: of a compressed one the first HEAD bytes. Where the
        dump itself says that it is longer, the rest is ``missing``."""
        content = self.decrypted()
        if self.compressed(content):
            from .compression import unpacked_head

            content = unpacked_head(content, self.name, self.extent, HEAD)
        own = own_length(lambda start, end: _known(content, start, end), content.size)
        least = max(own.length or 0, own.least or 0) if own is not None else 0
        return Part(content, least) if least > content.size else content

    @cached_property
    def contents(self) -> Contents:
        """What kind of dump it is, and of which regions it consists."""
        from .console import head_of

        textdump = self.header is not None and self.header.is_textdump
        return contents_of(head_of(self.head), self.head.size, textdump=textdump)

    @property
    def regions(self) -> list[Region]:
        """The parts of the plain vmcore, one behind the other."""
        return self.contents.regions

    @property
    def survey(self) -> Survey:
        """What it consists of, what is missing, and what that means."""
        from .survey import survey

        certain = self.verdict.kind in (Kind.COMPLETE, Kind.INCOMPLETE)
        return survey(self.head, self.contents, certain=certain)

    @property
    def console(self) -> Console:
        """What the console showed last: a text, which also tells how many bytes of it are
        missing. NoConsoleError if it is not there."""
        from .console import console_of

        return console_of(self.head, self.contents)

    @property
    def text_files(self) -> list[TextFile]:
        """The files in a textdump; other dumps have none."""
        from .console import text_files

        if self.contents.kind != "textdump" or self.head.size > MAX_SIZE:
            return []
        return list(text_files(self.head.read(0, self.head.size)))

    # Copies of it

    def save(self, directory: str | os.PathLike[str]) -> Published:
        """Store the dump as it came in a dump directory, which is made if need be: with the next
        free number of its host, and all files that a recovery writes. StoreError if that fails.
        """
        from .save import save

        account, verdict, other = self.account, self.verdict, self.files.other
        return save(account, verdict, self.content, other, self._origin, Path(directory))

    def save_plain(
        self,
        destination: Path,
        *,
        unpack: bool = False,
        force: bool = False,
        progress: Progress | None = None,
    ) -> PlainCopy:
        """Write the dump to a new file: decrypted if it is encrypted, decompressed if it is
        compressed and ``unpack`` is set.

        ``force`` replaces a file that is there; ``progress`` is told of the bytes read so far, and
        of how many. StoreError if it cannot be written, other NetdumpErrors if it cannot be
        decrypted or unpacked; then no file is left.
        """
        from .save import save_plain

        content = self.decrypted()
        return save_plain(
            content,
            destination,
            unpack=unpack and self.compressed(content) != 0,
            extent=self.extent,
            force=force,
            progress=progress,
        )

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError(f"{self.name}: closed, and cannot be read any more")

    @property
    def _origin(self) -> tuple[str, str]:
        """What the dump's host is called in file names, and where the dump came from."""
        if self.transfer is not None:
            return file_host(self.transfer.client), self.transfer.client
        address = info_origin(self.info) or _UNKNOWN
        path = self.files.vmcore or self.files.info
        name = FileName.parse(path.resolve().name) if path is not None else None
        if name is not None and name.host:
            return name.host, address
        label = self.header.hostname.partition(".")[0] if self.header is not None else ""
        try:
            return file_host(address, label), address
        except ValueError:
            return _UNKNOWN, address


def _known(content: Content, start: int, end: int) -> bytes | None:
    """Bytes of the head of some content, if none of them is missing."""
    if end > HEAD or any(first < end and start < last for first, last in content.missing):
        return None
    return content.read(start, end - start)
