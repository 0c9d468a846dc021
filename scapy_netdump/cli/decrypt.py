# SPDX-License-Identifier: GPL-2.0-or-later
"""``netdump decrypt``: decryptcore(8)'s options, and a few more."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from ..dump.dump import Dump
from ..dump.open import open_files, unlocked_with
from ..dump.save import PlainCopy
from ..errors import NetdumpError, UsageError
from ..kerneldump.key import DumpKey, DumpKeyError
from ..store.naming import FileName, neighbours
from ..text import counted, printable
from .common import EXITS, GOOD, INCOMPLETE, ask_passphrase
from .progress import ProgressLine

#: Where savecore(8) and netdumpd leave dumps.
_CRASH_DIRECTORY = Path("/var/crash")


class _Files(NamedTuple):
    """What decryptcore(8) is told by ``-k``, ``-e`` and ``-c``."""

    key: Path
    encrypted: Path
    core: Path


class DumpKeyFileError(NetdumpError):
    """A key file that holds no key."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Decrypt a kernel dump, with the options of FreeBSD's decryptcore(8). If a "
        "mapfile beside it says that bytes are missing, what can be decrypted is, and a mapfile "
        "of the result says what is not."
    )
    parser.usage = (
        "netdump decrypt [-fv] [--decompress] -p PRIVATEKEY -k KEY -e ENCRYPTEDCORE -c CORE\n"
        "       netdump decrypt [-fv] [--decompress] [-d DIR] -p PRIVATEKEY -n N"
    )
    parser.epilog = EXITS
    parser.add_argument(
        "-p", dest="private_key", metavar="PRIVATEKEY", required=True,
        help="the RSA private key, in PEM form; a passphrase is asked for on the terminal",
    )  # fmt: skip
    parser.add_argument("-k", dest="key", metavar="KEY", help="the key file of the dump")
    parser.add_argument("-e", dest="encrypted", metavar="ENCRYPTEDCORE", help="what to decrypt")
    parser.add_argument("-c", dest="core", metavar="CORE", help="the file to write")
    parser.add_argument(
        "-d", dest="directory", metavar="DIR",
        help="the dump directory to find the files in (default: /var/crash)",
    )  # fmt: skip
    parser.add_argument(
        "-n", dest="number", metavar="N",
        help="the number of the dump in it; HOST.N where several hosts have it",
    )  # fmt: skip
    parser.add_argument("-f", dest="force", action="store_true", help="replace an old core")
    parser.add_argument("-v", dest="verbose", action="count", default=0, help="say more")
    parser.add_argument(
        "--decompress", action="store_true", help="decompress it too, if it is compressed"
    )
    parser.add_argument("--json", action="store_true", help="print an object about the result")


def run(options: argparse.Namespace) -> int:
    """Decrypt, report, and return the exit status."""
    files = _files(options)
    if files.core.resolve() == files.encrypted.resolve():
        raise UsageError(f"{files.core}: cannot be both the encrypted and the decrypted core")
    with ProgressLine() as progress, _opened(files, options.private_key) as dump:
        if options.verbose:
            _say_what(files, dump)
        copy = dump.save_plain(
            files.core,
            unpack=options.decompress,
            force=options.force,
            progress=lambda done, total: progress(files.encrypted.name, done, total),
        )
    if options.json:
        print(json.dumps(_values(copy), indent=2))
    else:
        _report(copy)
    return GOOD if copy.complete else INCOMPLETE


def _files(options: argparse.Namespace) -> _Files:
    """What to decrypt: named file by file, or by a number in a directory."""
    named = options.key, options.encrypted, options.core
    if options.number is not None and not any(named):
        directory = Path(options.directory or _CRASH_DIRECTORY)
        return _files_of_dump(directory, options.number, options.decompress)
    if options.number is None and options.directory is None and all(named):
        return _Files(*map(Path, named))
    raise UsageError("name -k KEY, -e ENCRYPTEDCORE and -c CORE; or -n N, and -d DIR if need be")


def _files_of_dump(directory: Path, number: str, unpack: bool) -> _Files:
    """The files of dump ``number`` in a directory: ``N`` as savecore(8) names it, or the one
    of a netdump server's that has this number, or ``HOST.N``. UsageError if it is not clear.

    With ``unpack`` the result has no suffix.
    """
    try:
        names = sorted(path.name for path in directory.iterdir())
    except OSError as error:
        raise UsageError(f"{directory}: cannot be read: {error.strerror}") from None
    found = [
        name
        for name in filter(None, map(FileName.parse, names))
        if name.kind == "vmcore_encrypted" and name.is_vmcore
    ]
    exact = [name for name in found if _dump_of(name) == number]
    matches = exact or [name for name in found if str(name.number) == number]
    if not matches:
        raise UsageError(f"{directory}: holds no vmcore_encrypted.{number}")
    if len(matches) > 1:
        choice = ", ".join(map(_dump_of, matches))
        raise UsageError(f"{directory}: several encrypted dumps have this number: {choice}")
    (name,) = matches
    core = name._replace(kind="vmcore", suffix="" if unpack else name.suffix)
    key = FileName("key", *name.dump)
    return _Files(*(directory / str(file) for file in (key, name, core)))


def _dump_of(name: FileName) -> str:
    return f"{name.host}.{name.number}" if name.host else str(name.number)


def _opened(files: _Files, private_key: str) -> Dump:
    """The dump, with the key that is named."""
    if not files.key.exists():
        raise DumpKeyFileError(f"{files.key}: no such key file")
    beside = replace(neighbours(files.encrypted), key=files.key)
    dump = open_files(beside, str(files.encrypted), unlocked_with(private_key, ask_passphrase))
    try:
        DumpKey.unpack(dump.key)
    except DumpKeyError as error:
        raise DumpKeyFileError(f"{files.key}: {error}") from None
    return dump


def _say_what(files: _Files, dump: Dump) -> None:
    key = DumpKey.unpack(dump.key)
    bits = 8 * len(key.encryptedkey)
    _say(f"{files.key}: {key.encryption_name}, RSA of {bits} bits")
    _say(f"{files.encrypted}: {dump.content.size} bytes, {len(dump.missing)} holes")


def _say(line: str) -> None:
    print(f"netdump: {printable(line)}", file=sys.stderr)


def _report(copy: PlainCopy) -> None:
    print(f"{printable(str(copy.path))}: {counted(copy.size, 'byte')}")
    if copy.missing:
        count = sum(end - start for start, end in copy.missing)
        ranges = counted(len(copy.missing), "range")
        print(f"  {count} of them missing in {ranges}, see {printable(str(copy.map))}")
    if copy.problem is not None:
        print(f"  {copy.problem}")


def _values(copy: PlainCopy) -> dict[str, object]:
    return {
        "core": str(copy.path),
        "size": copy.size,
        "complete": copy.complete,
        "missing": copy.missing,
        "map": None if copy.map is None else str(copy.map),
        "problem": copy.problem,
    }
