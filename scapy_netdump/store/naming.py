# SPDX-License-Identifier: GPL-2.0-or-later
"""What the files of a dump are called: as netdumpd calls them, or as savecore(8) does.

The one grammar of these names. Here they are made and read, and the files that belong to one
dump are found.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..core.verdict import Verdict
from ..errors import StoreError
from ..kerneldump.header import DumpHeader
from ..kerneldump.info import info_text, savecore_info_text

#: What the name of a vmcore ends in while bytes are still to come.
PART = ".part"

#: What the name of a mapfile ends in, behind that of its vmcore.
MAP = ".map"

#: What the name of a file ends in that holds the dump headers which do not count.
OTHER = ".other"

#: What the name of a compressed vmcore ends in: gzip, zstd, in the order of their numbers.
SUFFIXES = (".gz", ".zst")

#: netdumpd takes any number up to INT_MAX from its bounds file (read_index in netdumpd.c).
MAX_DUMPS_OF_HOST = 1 << 31

#: savecore(8) reads five characters of its bounds file (getbounds in sbin/savecore/savecore.c).
_MAX_DUMPS_OF_SAVECORE = 100_000

_NAME = re.compile(
    r"(?:(?P<vmcore>vmcore|vmcore_encrypted)|(?P<kdh>kdh)|info|key|other)"
    r"\.(?P<host>.+?\.)?(?P<number>(?(host)(?:0|[1-9]\d{0,9})|(?:0|[1-9]\d{0,4})))"
    r"(?P<suffix>(?(vmcore)(?:\.gz|\.zst)?))"
    r"(?P<end>(?(vmcore)(?:\.part)?(?:\.map)?)(?(kdh)(?:\.other)?))",
    re.ASCII | re.DOTALL,
)

#: Which dump of a directory: the host in its files' names, empty in savecore(8)'s, and its number.
DumpId = tuple[str, int]


class FileName(NamedTuple):
    """The name of a file of a dump. ``kind`` is info, kdh, key, vmcore, vmcore_encrypted or
    other; ``host`` is empty in savecore(8)'s names; ``suffix`` tells a vmcore's compression;
    ``end`` is MAP, PART, PART + MAP or OTHER, or empty."""

    kind: str
    host: str
    number: int
    suffix: str = ""
    end: str = ""

    @classmethod
    def parse(cls, name: str) -> FileName | None:
        """What a name tells; None if it is that of no file of a dump."""
        match = _NAME.fullmatch(name)
        if match is None or int(match["number"]) >= MAX_DUMPS_OF_HOST:
            return None
        host = (match["host"] or "").removesuffix(".")
        kind = name.partition(".")[0]
        return cls(kind, host, int(match["number"]), match["suffix"], match["end"])

    def __str__(self) -> str:
        host = f".{self.host}" if self.host else ""
        return f"{self.kind}{host}.{self.number}{self.suffix}{self.end}"

    @property
    def dump(self) -> DumpId:
        """Whose file it is."""
        return self.host, self.number

    @property
    def is_vmcore(self) -> bool:
        """Whether it holds a vmcore, or what has come of one."""
        return self.kind.startswith("vmcore") and not self.end.endswith(MAP)

    @property
    def role(self) -> str:
        """What it is to its dump: the name of a field of Published."""
        if self.end == OTHER:
            return "kdh_other"
        return "map" if self.end.endswith(MAP) else self.kind.removesuffix("_encrypted")


def names_of_dump(host: str, number: int) -> Iterator[str]:
    """All names that a file of one dump can have, that of its info file first."""
    yield from (str(FileName(kind, host, number)) for kind in ("info", "kdh", "key", "other"))
    yield str(FileName("kdh", host, number, end=OTHER))
    for kind in ("vmcore", "vmcore_encrypted"):
        for suffix in ("", *SUFFIXES):
            for end in ("", PART, MAP, PART + MAP):
                yield str(FileName(kind, host, number, suffix, end))


@dataclass(frozen=True, slots=True)
class Published:
    """The files of a dump; None for those that it does not have."""

    info: Path | None = None
    kdh: Path | None = None
    key: Path | None = None
    vmcore: Path | None = None
    map: Path | None = None
    other: Path | None = None
    kdh_other: Path | None = None

    def as_dict(self) -> dict[str, str | None]:
        """The paths as text, as JSON takes them."""
        paths = ((name, getattr(self, name)) for name in self.__slots__)
        return {name: None if path is None else str(path) for name, path in paths}


def neighbours(path: Path) -> Published:
    """A vmcore, be it still a ``.part``, and the files of the same dump beside it, as far as they
    are there. Links are followed. Any other file of a dump stands for that dump.

    A copy that was made of an encrypted or compressed vmcore beside it has only the info file:
    the header and the key tell nothing of it.
    """
    real = path.resolve()
    map_ = _existing(real.with_name(real.name + MAP))
    name = FileName.parse(real.name)
    if name is not None and not name.is_vmcore and real.exists():
        return stored_dumps(real.parent)[name.dump]
    if name is None or not name.is_vmcore:
        return Published(vmcore=path, map=map_)
    beside = [FileName("info", *name.dump)]
    if _made_of(real, name) is None:
        beside += (FileName(kind, *name.dump) for kind in ("kdh", "key", "other"))
        beside.append(FileName("kdh", *name.dump, end=OTHER))
    found = {file.role: _existing(real.with_name(str(file))) for file in beside}
    return Published(**found, vmcore=path, map=map_)


def _made_of(path: Path, name: FileName) -> Path | None:
    """The vmcore beside one from which that was made, by decryption or decompression."""
    if name.kind != "vmcore" or name.end:
        return None
    sources = [name._replace(kind="vmcore_encrypted", suffix=suffix) for suffix in ("", *SUFFIXES)]
    if not name.suffix:
        sources += (name._replace(suffix=suffix) for suffix in SUFFIXES)
    paths = (_existing(path.with_name(str(source))) for source in sources)
    return next(filter(None, paths), None)


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None


def stored_dumps(directory: Path) -> dict[DumpId, Published]:
    """The files of each dump by host and number, sorted, whoever wrote them: this package,
    netdumpd or savecore(8). Of several vmcores it is the one that came over the network.

    StoreError if the directory cannot be read.
    """
    try:
        names = os.listdir(directory)
    except OSError as error:
        raise StoreError(f"{directory}: cannot be read: {error.strerror}") from None
    dumps: dict[DumpId, list[FileName]] = {}
    for name in filter(None, map(FileName.parse, names)):
        dumps.setdefault(name.dump, []).append(name)
    return {dump: _published(directory, dumps[dump]) for dump in sorted(dumps)}


def _published(directory: Path, names: list[FileName]) -> Published:
    files = {name.role: name for name in names if not name.kind.startswith("vmcore")}
    vmcore = as_it_came(names)
    if vmcore is not None:
        files["vmcore"] = vmcore
        map_ = vmcore._replace(end=vmcore.end + MAP)
        if map_ in names:
            files["map"] = map_
    return Published(**{role: directory / str(name) for role, name in files.items()})


def as_it_came(names: Iterable[FileName]) -> FileName | None:
    """Of the files of one dump the vmcore that came over the network, not what was made of it,
    nor what is still to become one."""
    vmcores = [name for name in names if name.is_vmcore]
    return min(vmcores, key=_distance, default=None)


def told_apart(names: Iterable[FileName], dump: DumpId) -> str:
    """What the files beside a dump tell against it, in words: bytes and headers of it that came
    in other versions, too. Nothing if there are none."""
    others = sorted(
        str(name) for name in names if name.dump == dump and name.role in ("other", "kdh_other")
    )
    return f"what came differently is in {', '.join(others)}" if others else ""


def is_bounds(name: str) -> bool:
    """Whether a file of this name tells the number of the next dump, of a host or of all."""
    return name.partition(".")[0] == "bounds"


def _distance(name: FileName) -> tuple[bool, bool, bool, FileName]:
    """How far the vmcore of a dump that is called so is from what came, compared with others:
    compression comes first and encryption second."""
    return bool(name.end), name.kind == "vmcore", not name.suffix, name


class Names:
    """netdumpd's names for the dumps of ``host``, which came from ``address``.

    ``most`` is where numbers end, ``whose`` tells in a message what they count.
    """

    most = MAX_DUMPS_OF_HOST

    def __init__(self, host: str, address: str) -> None:
        self.host = host
        self.address = address
        self.bounds = f"bounds.{host}"
        self.whose = f" of {host}"

    def of(self, kind: str, number: int, suffix: str = "", end: str = "") -> str:
        """The name of a file of one dump."""
        return str(FileName(kind, self.host, number, suffix, end))

    def vmcore(self, number: int, encrypted: bool, suffix: str) -> str:
        """What a vmcore is called when no more comes; ``suffix`` tells its compression."""
        return self.of("vmcore_encrypted" if encrypted else "vmcore", number, suffix)

    def number(self, name: str) -> int | None:
        """The number of the dump that a file is of; None if it is of none of these dumps."""
        found = FileName.parse(name)
        return found.number if found is not None and found.host == self.host else None

    def all(self, number: int) -> Iterator[str]:
        """All names that a file of one dump can have."""
        return names_of_dump(self.host, number)

    def info(self, number: int, header: DumpHeader | None, verdict: Verdict) -> str:
        """The text of an info file that ends with ``verdict``."""
        return info_text(self.host, self.address, header, str(verdict))

    def links(
        self, info: str, key: str | None, vmcore: str | None, suffix: str
    ) -> Iterator[tuple[str, str]]:
        """The links to the last dump that was finished, and their targets; ``suffix`` tells
        the vmcore's compression."""
        yield f"info.{self.host}.last", info
        if vmcore is not None:
            yield f"vmcore.{self.host}.last", vmcore

    def stale_links(self) -> Iterator[str]:
        """The links that are to go when another dump is the last one."""
        return iter(())


class SavecoreNames(Names):
    """savecore(8)'s names, by which crashinfo(8) and kgdb(1) find a dump: no host in them, one
    bounds file for all (sbin/savecore/savecore.c).

    A compressed dump that is encrypted as well has no suffix, but the link to it has.
    """

    most = _MAX_DUMPS_OF_SAVECORE

    def __init__(self, host: str, address: str) -> None:
        super().__init__("", address)
        self.bounds = "bounds"
        self.whose = ""

    def vmcore(self, number: int, encrypted: bool, suffix: str) -> str:
        """What a vmcore is called when no more comes; ``suffix`` tells its compression."""
        return super().vmcore(number, encrypted, "" if encrypted else suffix)

    def info(self, number: int, header: DumpHeader | None, verdict: Verdict) -> str:
        """The text of an info file that ends with ``verdict``."""
        return savecore_info_text(
            self.address, number, header, str(verdict), complete=verdict.complete
        )

    def links(
        self, info: str, key: str | None, vmcore: str | None, suffix: str
    ) -> Iterator[tuple[str, str]]:
        """The links to the last dump that was finished, and their targets; ``suffix`` tells
        the vmcore's compression."""
        yield "info.last", info
        if key is not None:
            yield "key.last", key
        if vmcore is not None:
            yield f"{vmcore.partition('.')[0]}.last{suffix}", vmcore

    def stale_links(self) -> Iterator[str]:
        """The links that are to go when another dump is the last one."""
        yield "key.last"
        for kind in ("vmcore", "vmcore_encrypted"):
            yield from (f"{kind}.last{suffix}" for suffix in ("", *SUFFIXES))


def names_for(host: str, address: str) -> Names:
    """The names of the dumps of a host, as they are in file names: it has none in savecore(8)'s."""
    return Names(host, address) if host else SavecoreNames(host, address)
