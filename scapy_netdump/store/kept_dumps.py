# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumps that a directory holds already, as far as they can be continued: what is known of each.

Which bytes of a vmcore are here its mapfile tells; without one, the info file may. It does
not where netdumpd wrote it, or a server of ours that was killed: then zeros may be holes, unless
it noted them in a mapfile that may still be believed. What else only the info file tells, that a
dump is contradicted for one, is known again here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..core.account import Account
from ..core.small_files import MAX_KEY_SIZE
from ..core.verdict import Kind, Verdict
from ..errors import StoreError
from ..kerneldump.header import HEADER_SIZE
from ..kerneldump.info import info_origin, info_values
from .directory import Directory
from .mapfile import (
    MAX_MAPFILE,
    MapfileError,
    Mapped,
    notes_finished,
    parse_mapfile,
    read_part_map,
)
from .naming import MAP, PART, FileName, Names, as_it_came, names_for, told_apart
from .retention import INFO_SIZE


class UnreadableError(StoreError):
    """A dump of which something cannot be read."""


class KeptName(NamedTuple):
    """Which dump of a directory: its host's name, nothing where savecore(8) named it."""

    host: str
    number: int


@dataclass(slots=True)
class KeptFiles:
    """The files of a dump that has a vmcore, of ``size`` bytes, and its account. ``told`` is the
    verdict of its info file, ``values`` are that file's others, by their names. ``finished`` tells
    whether its server noted that FINISHED had come before it was killed."""

    directory: Directory
    names: Names
    number: int
    vmcore: str
    map: str | None
    told: Verdict | None
    values: dict[str, str]
    account: Account
    size: int
    finished: bool

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
        """Whether nothing is missing, nothing contradicts that, and it has its name."""
        if not self.account.holes_known or self.account.doubt or self.vmcore.endswith(PART):
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
    *, size: int, mapped: Mapped | None, kdh: bytes = b"", key: bytes = b"", finished: bool = False
) -> Account:
    """The account of a dump in files: a vmcore of ``size`` bytes, and what a mapfile tells of it:
    what is missing, and how long it is to be; None if nothing does. What lies behind the end of
    a mapfile nobody says to be here.

    Whether FINISHED came counts only for what a header tells the length of: which messages
    before it did not come is not known.
    """
    account = Account()
    account.heralded = True
    account.headers.take(0, kdh)
    account.key.add(0, key)
    account.vmcore.add(0, size if mapped is None else min(size, mapped.end))
    if mapped is not None:
        for start, stop in mapped.missing:
            account.vmcore.remove(start, stop)
        account.announce(max(size, mapped.end))
        finished |= mapped.finished and account.sound_header is not None
    account.finished = finished
    return account


def map_of(text: str | None, *, size: int, part: bool) -> Mapped | None:
    """What a mapfile tells of a vmcore of ``size`` bytes; None if there is none, or none that may
    be believed, as of a ``part`` that may have lost bytes. MapfileError if it is none."""
    if text is None:
        return None
    return read_part_map(text, size) if part else Mapped(*parse_mapfile(text))


def holes_are_known(
    *, part: bool, mapped: bool, kdh: bool, info: str, told: Verdict | None
) -> bool:
    """Whether what no mapfile tells to be missing of a vmcore is here, zeros too.

    That is so if there is a mapfile to believe (``mapped``), or an info file of ours that denies
    holes. A vmcore of which nobody says anything may have any, and so may netdumpd's: its info
    file has the header's values, but it keeps no header (``kdh``). Of a ``part`` no info file
    tells.
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
    number = name.number
    info = str(FileName("info", *name))
    text = _read(directory, info, INFO_SIZE).decode(errors="backslashreplace").rstrip("\n")
    lines = text.splitlines()
    address = (info_origin(lines[0]) if lines else "") or name.host
    names = names_for(name.host, address)
    size = _size(directory, vmcore) or 0
    # also if its server was killed right after it gave it its name
    part_map = names.of("vmcore", number, end=PART + MAP)
    there = [name for name in (f"{vmcore}{MAP}", part_map) if _size(directory, name) is not None]
    map_ = there[0] if there else None
    texts = [_read(directory, name, MAX_MAPFILE).decode(errors="replace") for name in there]
    mapped = map_of(texts[0] if texts else None, size=size, part=map_ == part_map)
    kdh = _read(directory, names.of("kdh", number), HEADER_SIZE)
    links = (directory.target(link) for link, _ in names.links(info, None, None, ""))
    account = account_of(
        size=size,
        mapped=mapped,
        kdh=kdh,
        key=_read(directory, names.of("key", number), MAX_KEY_SIZE),
        finished=info in links,
    )
    told = Verdict.from_line(lines[-1]) if lines else None
    account.holes_known = holes_are_known(
        part=vmcore.endswith(PART), mapped=mapped is not None, kdh=bool(kdh), info=text, told=told
    )
    if told is not None:
        account.recall(told)
    if told is None or told.kind is not Kind.CONTRADICTED:
        account.add_doubt(told_apart(files, (name.host, number)))
    finished = part_map in there and notes_finished(texts[-1])
    return KeptFiles(
        directory, names, number, vmcore, map_, told, info_values(text), account, size, finished
    )


def _size(directory: Directory, name: str) -> int | None:
    status = directory.stat(name)
    return None if status is None else status.st_size


def _read(directory: Directory, name: str, limit: int) -> bytes:
    """A small file; nothing if there is none."""
    size = _size(directory, name)
    return b"" if size is None else directory.read(name, min(limit, size))
