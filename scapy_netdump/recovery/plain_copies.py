# SPDX-License-Identifier: GPL-2.0-or-later
"""Plain copies of recovered dumps, beside them: decrypted, decompressed, or both. Wiring only.

What came over the network stays as it is: a second capture can fill its holes, and the copy
is made again then.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.account import MAX_KEY_SIZE
from ..dump.cipher import Cipher
from ..dump.content import FileContent
from ..dump.found import read_small
from ..dump.plain import plain_copy
from ..errors import NetdumpError
from ..kerneldump.key import DumpKey, DumpKeyError
from ..store.directory import Directory
from ..store.naming import SavecoreNames
from .result import RecoveredDump

#: What opens the key blob of a dump. EncryptionError if it is not the right key.
Unlock = Callable[[DumpKey], Cipher]

#: Told of what is being read: its name, how many bytes, and of how many.
Progress = Callable[[str, int, int | None], None]


class NoKeyError(NetdumpError):
    """An encrypted dump whose key blob is not there, or nobody can open."""


@dataclass(frozen=True, slots=True)
class PlainDumps:
    """How plain copies are made: with ``unlock`` of what is encrypted, and with ``unpack`` of
    what is compressed. ``savecore``: the link to the last dump is to lead to the copy."""

    unlock: Unlock | None
    unpack: bool
    savecore: bool
    progress: Progress

    def add(self, dump: RecoveredDump) -> RecoveredDump:
        """The dump with its plain copy, if it is not plain itself. NetdumpError, and no copy,
        if that cannot be."""
        vmcore, info = dump.files.vmcore, dump.files.info
        if vmcore is None or info is None:
            return dump
        header = dump.kdh if dump.kdh is not None and dump.kdh.valid else None
        encrypted = vmcore.name.startswith("vmcore_encrypted.")
        suffix = header.suffix if header is not None else ""
        if not (encrypted if not self.unpack else encrypted or suffix):
            return dump
        cipher = self._cipher(vmcore, dump.files.key) if encrypted else None
        kept = "" if self.unpack else suffix
        name = f"vmcore.{info.name.removeprefix('info.')}{kept}"
        with FileContent(vmcore, dump.missing) as content:
            copy = plain_copy(
                content,
                vmcore.with_name(name),
                header=header,
                cipher=cipher,
                unpack=self.unpack,
                force=dump.filled_bytes is not None,  # the copy of what was here before
                progress=lambda done, total: self.progress(name, done, total),
            )
        if self.savecore:
            _link(info, copy.path, kept)
        return replace(dump, plain=copy)

    def _cipher(self, vmcore: Path, key: Path | None) -> Cipher:
        if self.unlock is None:
            raise NoKeyError(f"{vmcore}: encrypted; --decrypt-with names the private key")
        if key is None:
            raise NoKeyError(f"{vmcore}: cannot be decrypted: its key was not captured")
        try:
            return self.unlock(DumpKey.unpack(read_small(key, MAX_KEY_SIZE)))
        except DumpKeyError as error:
            raise NoKeyError(f"{key}: {error}") from None


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
