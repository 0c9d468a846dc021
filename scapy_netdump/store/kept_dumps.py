# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumps that a directory holds already, as far as they can be continued: what is known of each.

Which bytes of a vmcore are here its mapfile tells; without one, the info file may. It does
not where netdumpd wrote it, or a server of ours that was killed: then zeros may be holes. What
else only the info file tells, that a dump is contradicted for one, is known again here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..core.account import Account
from ..core.extents import Range
from ..core.small_files import MAX_KEY_SIZE
from ..core.verdict import Kind, Verdict
from ..errors import StoreError
from ..kerneldump.header import HEADER_SIZE
from ..kerneldump.info import info_origin, info_values
from .directory import Directory
from .mapfile import MapfileError, parse_mapfile
from .naming import PART, FileName, Names, SavecoreNames, as_it_came, told_apart
from .retention import INFO_SIZE

_MAX_MAPFILE = 1 << 30


class UnreadableError(StoreError):
    """A dump of which something cannot be read."""


class KeptName(NamedTuple):
    """Which dump of a directory: its host's name, nothing where savecore(8) named it."""

    host: str
    number: int


@dataclass(slots=True)
class KeptFiles:
    """The files of a dump that has a vmcore, and its account. ``told`` is the verdict of its info
    file, ``values`` are that file's others, by their names."""

    directory: Directory
    names: Names
    number: int
    vmcore: str
    map: str | None
    told: Verdict | None
    values: dict[str, str]
    account: Account

    @property
    def info(self) -> str:
        """The name of its info file."""
        return self.names.of("info", self.number)

    @property
    def path(self) -> str:
        """Where it is, for people."""
        return str(self.directory.path / self.vmcore)

    @property
    def derived(self) -> bool:
        """Whether the vmcore is what decryption or decompression made of the dump."""
        header = self.account.sound_header
        if self.vmcore.endswith(PART) or self.vmcore.startswith("vmcore_encrypted"):
            return False
        if self.account.encrypted:
            return True
        return header is not None and not self.vmcore.endswith(header.suffix)

    @property
    def complete(self) -> bool:
        """Whether nothing is missing, and nothing contradicts that."""
        if not self.account.holes_known or self.account.doubt:
            return False
        told_complete = self.told is not None and self.told.complete
        return (self.map is None and told_complete) or self.account.complete

    @property
    def only_contradicted(self) -> bool:
        """Whether nothing is missing, and it is not complete for what contradicts that."""
        account = self.account
        whole = account.holes_known and account.length is not None and not account.lacking
        return whole and account.verdict.kind is Kind.CONTRADICTED


def account_of(
    *,
    size: int,
    missing: Sequence[Range] = (),
    end: int | None = None,
    kdh: bytes = b"",
    key: bytes = b"",
    finished: bool = False,
) -> Account:
    """The account of a dump in files: a vmcore of ``size`` bytes of which those in ``missing`` are
    not here. ``end`` is where its mapfile ends, if there is one: what lies behind that in the
    file nobody says to be here."""
    account = Account()
    account.heralded = True
    account.finished = finished
    account.headers.take(0, kdh)
    account.key.add(0, key)
    account.vmcore.add(0, size if end is None else min(size, end))
    for start, stop in missing:
        account.vmcore.remove(start, stop)
    account.announce(max(size, end or 0))
    return account


def holes_are_known(
    *, part: bool, mapped: bool, kdh: bool, info: str, told: Verdict | None
) -> bool:
    """Whether what no mapfile tells to be missing of a vmcore is here, zeros too.

    That is so if there is a mapfile (``mapped``), or an info file of ours that denies holes. A
    vmcore of which nobody says anything may have any, and so may netdumpd's: its info file has
    the header's values, but it keeps no header (``kdh``). Nobody notes the holes of a ``part``.
    """
    if mapped or part:
        return mapped
    netdumpds = not kdh and info.startswith("Dump from ") and "Architecture" in info_values(info)
    return told is not None and told.denies_holes and not netdumpds


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


def load(directory: Directory, name: KeptName) -> KeptFiles:
    """What is known of a dump. UnreadableError if its files cannot be read."""
    try:
        return _load(directory, name)
    except OSError as error:
        raise UnreadableError(f"{error.filename}: cannot be read: {error.strerror}") from None
    except MapfileError as error:
        called = f"vmcore.{name.host}.{name.number}" if name.host else f"vmcore.{name.number}"
        raise UnreadableError(f"{directory.path / called}: {error}") from None


def _load(directory: Directory, name: KeptName) -> KeptFiles:
    files = list(filter(None, map(FileName.parse, directory.names())))
    vmcore = str(as_it_came(file for file in files if file.dump == name))
    naming = Names if name.host else SavecoreNames
    number = name.number
    info = naming(name.host, "").of("info", number)
    lines = _read(directory, info, INFO_SIZE).decode(errors="backslashreplace").splitlines()
    address = (info_origin(lines[0]) if lines else "") or name.host
    names = naming(name.host or address, address)
    map_ = f"{vmcore}.map" if directory.stat(f"{vmcore}.map") is not None else None
    status = directory.stat(vmcore)
    size = status.st_size if status else 0
    missing, end = _mapped(directory, map_)
    kdh = _read(directory, names.of("kdh", number), HEADER_SIZE)
    links = (directory.target(link) for link, _ in names.links(info, None, None, ""))
    account = account_of(
        size=size,
        missing=missing,
        end=end,
        kdh=kdh,
        key=_read(directory, names.of("key", number), MAX_KEY_SIZE),
        finished=info in links,
    )
    told = Verdict.from_line(lines[-1]) if lines else None
    text = "\n".join(lines)
    account.holes_known = holes_are_known(
        part=vmcore.endswith(PART), mapped=map_ is not None, kdh=bool(kdh), info=text, told=told
    )
    if told is not None:
        account.recall(told)
    if told is None or told.kind is not Kind.CONTRADICTED:
        account.add_doubt(told_apart(files, (name.host, number)))
    return KeptFiles(directory, names, number, vmcore, map_, told, info_values(text), account)


def _mapped(directory: Directory, map_: str | None) -> tuple[list[Range], int | None]:
    """What a mapfile says is missing, and where it ends."""
    if map_ is None:
        return [], None
    return parse_mapfile(_read(directory, map_, _MAX_MAPFILE).decode(errors="replace"))


def _read(directory: Directory, name: str, limit: int) -> bytes:
    """A small file; nothing if there is none."""
    status = directory.stat(name)
    return b"" if status is None else directory.read(name, min(limit, status.st_size))
