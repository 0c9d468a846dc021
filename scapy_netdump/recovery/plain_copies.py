# SPDX-License-Identifier: GPL-2.0-or-later
"""Plain copies of recovered dumps, beside them: decrypted, decompressed, or both.

What came over the network stays as it is: a second capture can fill its holes, and the copy
is made again then.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..dump.captures import Progress
from ..dump.dump import Dump, Unlock
from ..errors import NetdumpError
from ..kerneldump.key import DumpKey, DumpKeyError
from ..store.directory import Directory
from ..store.naming import FileName, SavecoreNames


class NoKeyError(NetdumpError):
    """An encrypted dump whose key blob is not there, or nobody can open."""


@dataclass(frozen=True, slots=True)
class PlainCopies:
    """How plain copies are made: with ``unlock`` of what is encrypted, and with ``unpack`` of
    what is compressed. ``savecore``: the link to the last dump is to lead to the copy."""

    unlock: Unlock | None
    unpack: bool
    savecore: bool
    progress: Progress

    def add_all(self, dumps: Iterable[Dump]) -> list[str]:
        """Give dumps their plain copies; returns what went wrong, a line each."""
        failures = []
        for dump in dumps:
            try:
                self.add(dump)
            except NetdumpError as error:
                failures.append(str(error))
        return failures

    def add(self, dump: Dump) -> None:
        """Give a dump its plain copy, if it is not plain itself. NetdumpError, and no copy, if
        that cannot be."""
        vmcore, info = dump.files.vmcore, dump.files.info
        name = FileName.parse(info.name) if info is not None else None
        if vmcore is None or info is None or name is None:
            return
        encrypted, suffix = dump.account.encrypted, dump.header.suffix if dump.header else ""
        if not encrypted and not (self.unpack and suffix):
            return
        if encrypted:
            self._check_key(dump, vmcore)
        kept = "" if self.unpack else suffix
        called = str(name._replace(kind="vmcore", suffix=kept))
        continued = dump.transfer is not None and dump.transfer.filled_bytes is not None
        dump.unlock = self.unlock
        dump.copy = dump.save_plain(
            vmcore.with_name(called),
            unpack=self.unpack,
            force=continued,  # the copy of what was here before
            progress=lambda done, total: self.progress(called, done, total),
        )
        dump.let_go()
        if self.savecore:
            _link(info, dump.copy.path, kept)

    def _check_key(self, dump: Dump, vmcore: Path) -> None:
        if self.unlock is None:
            raise NoKeyError(f"{vmcore}: encrypted; --decrypt-with names the private key")
        if not dump.key:
            raise NoKeyError(f"{vmcore}: cannot be decrypted: its key was not captured")
        try:
            DumpKey.unpack(dump.key)
        except DumpKeyError as error:
            raise NoKeyError(f"{dump.files.key}: {error}") from None


def _link(info: Path, copy: Path, suffix: str) -> None:
    """Let savecore(8)'s link lead to the copy, if it is one of the last dump."""
    directory = Directory.open(info.parent)
    try:
        names = SavecoreNames("", "")
        links = dict(names.links(info.name, None, copy.name, suffix))
        if directory.target("info.last") == info.name:
            for link, target in links.items():
                directory.point(link, target)
    finally:
        directory.close()
