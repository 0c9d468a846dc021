# SPDX-License-Identifier: GPL-2.0-or-later
"""``netdump decrypt``: decryptcore(8)'s options, and a few more."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..dump.plain import PlainCopy
from ..errors import UsageError
from ..text import counted, printable
from .common import EXITS, GOOD, INCOMPLETE, ask_passphrase
from .progress import ProgressLine

if TYPE_CHECKING:
    from ..dump.decrypt import DecryptionFiles


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
    from ..dump.decrypt import decrypt  # needs cryptography, which is an extra

    files = _files(options)
    private_key = Path(options.private_key)
    with ProgressLine() as progress:
        copy = decrypt(
            files,
            private_key,
            lambda: ask_passphrase(private_key),
            unpack=options.decompress,
            force=options.force,
            progress=lambda done, total: progress(files.encrypted.name, done, total),
            inform=_say if options.verbose else None,
        )
    if options.json:
        print(json.dumps(_values(copy), indent=2))
    else:
        _report(copy)
    return GOOD if copy.complete else INCOMPLETE


def _files(options: argparse.Namespace) -> DecryptionFiles:
    """What to decrypt: named file by file, or by a number in a directory."""
    from ..dump.decrypt import CRASH_DIRECTORY, DecryptionFiles, files_of_dump  # as above

    named = options.key, options.encrypted, options.core
    if options.number is not None and not any(named):
        directory = Path(options.directory or CRASH_DIRECTORY)
        return files_of_dump(directory, options.number, options.decompress)
    if options.number is None and options.directory is None and all(named):
        return DecryptionFiles(*map(Path, named))
    raise UsageError("name -k KEY, -e ENCRYPTEDCORE and -c CORE; or -n N, and -d DIR if need be")


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
