# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumps that a directory holds already, as far as they can be continued: what is known of each.

Which bytes of a vmcore are here its mapfile tells; without one, the info file may. It does
not where netdumpd wrote it, or a server of ours that was killed: then zeros may be holes.
Imports the package's core and its neighbours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from ..core.account import MAX_KEY_SIZE, Account
from ..core.extents import Extents
from ..core.verdict import Kind, Verdict
from ..errors import StoreError
from ..kerneldump.header import HEADER_SIZE, DumpHeader
from ..kerneldump.info import info_values
from .directory import Directory
from .mapfile import MapfileError, parse_mapfile
from .naming import PART, FileName, Names, SavecoreNames, as_it_came
from .retention import INFO_SIZE

#: The first line of an info file: netdumpd's, and savecore(8)'s.
_FROM = re.compile(r"Dump from .* \[(.+)\]|Dump header from device: (.+)")

_MAX_MAPFILE = 1 << 30


class UnreadableError(StoreError):
    """A dump of which something cannot be read."""


class KeptName(NamedTuple):
    """Which dump of a directory: its host's name, nothing where savecore(8) named it."""

    host: str
    number: int


@dataclass(slots=True)
class KeptDump:
    """A dump with a vmcore. ``present``: which of its bytes are here, None if that is not
    known; ``size``: how long it is to be, as far as that is known."""

    directory: Directory
    names: Names
    number: int
    vmcore: str
    present: Extents | None
    size: int
    map: str | None = None
    kdh: bytes = b""
    key: bytes = b""
    verdict: Verdict | None = None
    values: dict[str, str] = field(default_factory=dict)

    @property
    def info(self) -> str:
        """The name of its info file."""
        return self.names.of("info", self.number)

    @property
    def path(self) -> str:
        """Where it is, for people."""
        return str(self.directory.path / self.vmcore)

    @property
    def header(self) -> DumpHeader | None:
        """Its header, if that is here and sound."""
        header = DumpHeader.unpack(self.kdh) if len(self.kdh) == HEADER_SIZE else None
        return header if header is not None and header.valid else None

    @property
    def derived(self) -> bool:
        """Whether the vmcore is what decryption or decompression made of the dump."""
        header = self.header
        if self.vmcore.endswith(PART) or self.vmcore.startswith("vmcore_encrypted"):
            return False
        if self.key or (header is not None and header.dumpkeysize):
            return True
        return header is not None and not self.vmcore.endswith(header.suffix)

    @property
    def complete(self) -> bool:
        """Whether nothing is missing."""
        if self.map is None and self.verdict is not None and self.verdict.complete:
            return self.present is not None
        return self.present is not None and self.account(self.present).complete

    def account(self, present: Extents) -> Account:
        """The dump as a transfer, with these bytes of the vmcore here."""
        account = Account()
        account.heralded = True
        account.finished = self.info in (
            self.directory.target(link) for link, _ in self.names.links(self.info, None, None, "")
        )
        for start, end in present:
            account.vmcore.add(start, end)
        account.headers.take(0, self.kdh)
        account.key.add(0, self.key)
        account.announce(self.size)
        return account


def kept_names(directory: Directory) -> list[KeptName]:
    """The dumps in a directory that have a vmcore, in the order in which they are to be tried:
    the newest first, and those that are but a ``.part``, which somebody may have left who
    wanted to continue another one, last."""
    over: dict[KeptName, bool] = {}
    try:
        for file in filter(None, map(FileName.parse, directory.names())):
            if file.is_vmcore:
                name = KeptName(*file.dump)
                over[name] = over.get(name, False) or file.end != PART
    except OSError as error:
        raise StoreError(f"{error.filename}: cannot be read: {error.strerror}") from None
    return sorted(over, key=lambda name: (over[name], name.number, name.host), reverse=True)


def load(directory: Directory, name: KeptName) -> KeptDump:
    """What is known of a dump. UnreadableError if its files cannot be read."""
    try:
        return _load(directory, name)
    except OSError as error:
        raise UnreadableError(f"{error.filename}: cannot be read: {error.strerror}") from None
    except MapfileError as error:
        called = f"vmcore.{name.host}.{name.number}" if name.host else f"vmcore.{name.number}"
        raise UnreadableError(f"{directory.path / called}: {error}") from None


def _load(directory: Directory, name: KeptName) -> KeptDump:
    files = filter(None, map(FileName.parse, directory.names()))
    vmcore = str(as_it_came(file for file in files if file.dump == name))
    naming = Names if name.host else SavecoreNames
    number = name.number
    info = naming(name.host, "").of("info", number)
    lines = _read(directory, info, INFO_SIZE).decode(errors="backslashreplace").splitlines()
    match = _FROM.fullmatch(lines[0]) if lines else None
    address = (match[1] or match[2]) if match else name.host
    names = naming(name.host or address, address)
    map_ = f"{vmcore}.map" if directory.stat(f"{vmcore}.map") is not None else None
    status = directory.stat(vmcore)
    kept = KeptDump(
        directory, names, number, vmcore, None, status.st_size if status else 0, map_,
        _read(directory, names.of("kdh", number), HEADER_SIZE),
        _read(directory, names.of("key", number), MAX_KEY_SIZE),
        Verdict.from_line(lines[-1]) if lines else None,
        info_values("\n".join(lines)),
    )  # fmt: skip
    kept.present = _present(kept)
    return kept


def _present(kept: KeptDump) -> Extents | None:
    """Which bytes of a vmcore are here; None if nothing tells. Brings ``size`` up to date."""
    here = Extents()
    if kept.map is not None:
        text = _read(kept.directory, kept.map, _MAX_MAPFILE).decode(errors="replace")
        missing, end = parse_mapfile(text)
        position = 0
        for start, stop in [*missing, (end, end)]:
            here.add(position, min(start, kept.size))  # a file that was cut has no more
            position = stop
        kept.size = end
        return here
    netdumpds = not kept.kdh and "Architecture" in kept.values
    verdict = kept.verdict
    noted = verdict is not None and verdict.kind in (Kind.COMPLETE, Kind.UNKNOWN)
    if kept.vmcore.endswith(PART) or netdumpds or not noted:
        return None
    here.add(0, kept.size)
    return here


def _read(directory: Directory, name: str, limit: int) -> bytes:
    """A small file; nothing if there is none."""
    status = directory.stat(name)
    return b"" if status is None else directory.read(name, min(limit, status.st_size))
