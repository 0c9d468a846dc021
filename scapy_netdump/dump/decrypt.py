# SPDX-License-Identifier: GPL-2.0-or-later
"""Decrypting a stored dump, as decryptcore(8) does. Wiring only.

Imports the cryptography package by way of content/crypto.py: load it only to decrypt.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..core.account import MAX_KEY_SIZE
from ..errors import NetdumpError, UsageError
from ..kerneldump.header import HEADER_SIZE, DumpHeader
from ..kerneldump.key import DumpKey
from .content import FileContent
from .found import files_beside, missing_ranges, read_small
from .keys import DumpCipher, Passphrase, load_private_key, unwrap_key
from .plain import PlainCopy, Progress, plain_copy

#: Where savecore(8) and netdumpd leave dumps.
CRASH_DIRECTORY = Path("/var/crash")

_ENCRYPTED = re.compile(
    r"vmcore_encrypted\.(?P<dump>(?:.+\.)?(?P<number>\d+))(?P<suffix>\.gz|\.zst)?"
)


class DumpKeyFileError(NetdumpError):
    """A key file that holds no key."""


@dataclass(frozen=True, slots=True)
class DecryptionFiles:
    """What decryptcore(8) is told by ``-k``, ``-e`` and ``-c``."""

    key: Path
    encrypted: Path
    core: Path


def files_of_dump(directory: Path, number: str, unpack: bool) -> DecryptionFiles:
    """The files of dump ``number`` in a directory: ``N`` as savecore(8) names it, or the one
    of a netdump server's that has this number, or ``HOST.N``. UsageError if it is not clear.

    With ``unpack`` the result has no suffix.
    """
    try:
        names = sorted(path.name for path in directory.iterdir())
    except OSError as error:
        raise UsageError(f"{directory}: cannot be read: {error.strerror}") from None
    matches = [match for match in map(_ENCRYPTED.fullmatch, names) if match]
    exact = [match for match in matches if match["dump"] == number]
    found = exact or [match for match in matches if match["number"] == number]
    if not found:
        raise UsageError(f"{directory}: holds no vmcore_encrypted.{number}")
    if len(found) > 1:
        choice = ", ".join(match["dump"] for match in found)
        raise UsageError(f"{directory}: several encrypted dumps have this number: {choice}")
    (match,) = found
    suffix = "" if unpack else match["suffix"] or ""
    return DecryptionFiles(
        directory / f"key.{match['dump']}",
        directory / match[0],
        directory / f"vmcore.{match['dump']}{suffix}",
    )


def read_key(path: Path) -> DumpKey:
    """The key in a key file. DumpKeyFileError if it is cut short."""
    if not path.exists():
        raise DumpKeyFileError(f"{path}: no such key file")
    try:
        return DumpKey.unpack(read_small(path, MAX_KEY_SIZE))
    except NetdumpError as error:
        raise DumpKeyFileError(f"{path}: {error}") from None


def cipher_of(key: DumpKey, private_key: Path, passphrase: Passphrase) -> DumpCipher:
    """The cipher of a dump. EncryptionError if the private key is not the right one."""
    private = load_private_key(private_key, passphrase)
    return DumpCipher(key, unwrap_key(key, private, str(private_key)))


def decrypt(
    files: DecryptionFiles,
    private_key: Path,
    passphrase: Passphrase,
    *,
    unpack: bool = False,
    force: bool = False,
    progress: Progress | None = None,
    inform: Callable[[str], None] | None = None,
) -> PlainCopy:
    """Decrypt a stored dump, around the holes that its mapfile names. NetdumpError, and no
    file, if that cannot be. ``inform`` is told what is done, a line each."""
    inform = inform or (lambda _: None)
    if files.core.resolve() == files.encrypted.resolve():
        raise UsageError(f"{files.core}: cannot be both the encrypted and the decrypted core")
    key = read_key(files.key)
    cipher = cipher_of(key, private_key, passphrase)
    inform(f"{files.key}: {key.encryption_name}, RSA of {8 * len(key.encryptedkey)} bits")
    beside = files_beside(files.encrypted)
    kdh = read_small(beside.kdh, HEADER_SIZE)
    header = DumpHeader.unpack(kdh) if len(kdh) == HEADER_SIZE else None
    with FileContent(files.encrypted, missing_ranges(beside.map)) as encrypted:
        inform(f"{files.encrypted}: {encrypted.size} bytes, {len(encrypted.missing)} holes")
        return plain_copy(
            encrypted,
            files.core,
            header=header,
            cipher=cipher,
            unpack=unpack,
            force=force,
            progress=progress,
        )
