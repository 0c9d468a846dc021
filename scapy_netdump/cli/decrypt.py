# SPDX-License-Identifier: GPL-2.0-or-later
"""``netdump decrypt``."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ..dump.decrypt import CRASH_DIRECTORY, DecryptionFiles, decrypt, files_of_dump
from ..dump.plain import PlainCopy
from ..errors import UsageError
from ..text import counted, printable
from .exits import GOOD, INCOMPLETE
from .passphrase import ask_passphrase
from .progress import ProgressLine


def run(options: argparse.Namespace) -> int:
    """Decrypt, report, and return the exit status."""
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
