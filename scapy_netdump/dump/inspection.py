# SPDX-License-Identifier: GPL-2.0-or-later
"""A dump opened to be looked into: decrypted and decompressed as far as that takes. Wiring only."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..errors import NetdumpError
from ..kerneldump.contents import Contents, contents_of
from ..kerneldump.header import DumpHeader
from ..kerneldump.key import DumpKey
from ..kerneldump.textdump import MAX_SIZE
from .cipher import Cipher
from .console import Console, console_of, head_of
from .content import Content
from .found import FoundDump, Progress, find_dump
from .plain import plain_head
from .survey import Survey, survey
from .textdump import TextFile, text_files

#: Bytes of a dump that are unpacked, or kept in memory, to find the message buffer and the
#: bitmap, which for a terabyte of memory takes 32 MiB.
HEAD = 64 << 20

Passphrase = Callable[[Path], bytes]


class EncryptedError(NetdumpError):
    """A dump that cannot be looked into without its private key."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """A dump that can be looked into: its plain ``content``, what it is, and its header, if that
    is there and undamaged."""

    name: str
    content: Content
    contents: Contents
    header: DumpHeader | None

    @property
    def survey(self) -> Survey:
        """What it consists of, what is missing, and what that means."""
        return survey(self.content, self.contents)

    @property
    def text_files(self) -> list[TextFile]:
        """The files in a textdump; other dumps have none."""
        if self.contents.kind != "textdump" or self.content.size > MAX_SIZE:
            return []
        return list(text_files(self.content.read(0, self.content.size)))

    @property
    def console(self) -> Console:
        """What the console showed last. NoConsoleError if it is not there."""
        return console_of(self.content, self.contents)


def inspect(
    path: Path,
    files: ExitStack,
    *,
    number: int | None = None,
    private_key: Path | None = None,
    passphrase: Passphrase = lambda _: b"",
    progress: Progress | None = None,
) -> Inspection:
    """Open the dump in a vmcore or a capture; what that takes is closed with ``files``.

    ``number`` chooses between several dumps in a capture, from 1 on; ``passphrase`` is asked for
    that of the private key. NetdumpError if there is no dump, or it cannot be decrypted.
    """
    found = find_dump(path, number, files, progress)
    return look_into(found, private_key=private_key, passphrase=passphrase)


def look_into(
    found: FoundDump,
    *,
    private_key: Path | None = None,
    passphrase: Passphrase = lambda _: b"",
) -> Inspection:
    """The same of a dump that was found already."""
    cipher = _cipher(found, private_key, passphrase) if _is_encrypted(found) else None
    content = plain_head(found.content, found.name, HEAD, header=found.header, cipher=cipher)
    textdump = found.header is not None and found.header.is_textdump
    contents = contents_of(head_of(content), content.size, textdump=textdump)
    return Inspection(found.name, content, contents, found.header)


def _is_encrypted(found: FoundDump) -> bool:
    return bool(found.key) or (found.header is not None and found.header.dumpkeysize > 0)


def _cipher(found: FoundDump, private_key: Path | None, passphrase: Passphrase) -> Cipher:
    if not found.key:
        raise EncryptedError(f"{found.name}: encrypted, and its key is missing")
    if private_key is None:
        raise EncryptedError(f"{found.name}: encrypted; -p names the private key")
    from .decrypt import cipher_of  # cryptography is an extra

    return cipher_of(DumpKey.unpack(found.key), private_key, partial(passphrase, private_key))
