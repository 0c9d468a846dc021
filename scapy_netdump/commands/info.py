# SPDX-License-Identifier: GPL-2.0-or-later
"""``netdump info``: what a file holds, told by its content and not by its name."""

from __future__ import annotations

import argparse
import json
import struct
import sys
from pathlib import Path
from typing import Any, NamedTuple

from ..core.extents import Range
from ..core.selection import Selection
from ..core.transfer import MAX_KEY_SIZE
from ..errors import NetdumpError
from ..exits import FAILED, GOOD, INCOMPLETE
from ..formats import ENCRYPTIONS, KEY_FORMAT, MAGICS
from ..kerneldump.header import HEADER_SIZE, DumpHeader
from ..kerneldump.key import DumpKey, DumpKeyError
from ..recover import Recoverer
from ..store.abandoned import true_status
from ..store.dump_files import Published
from ..store.listing import stored_dumps
from ..store.mapfile import MapfileError, parse_mapfile
from ..text import counted, printable
from .describe import describe_dump, describe_files, describe_header, indent
from .progress import ProgressLine
from .selection import selection_of


class _Answer(NamedTuple):
    """What there is to say of a file, for people and for programs."""

    text: str
    values: dict[str, Any]
    complete: bool = True


def run(options: argparse.Namespace) -> int:
    """Describe each file, and return the exit status."""
    selection = selection_of(options)
    answers = []
    status = GOOD
    for name in options.files:
        try:
            answer = _describe(name, selection)
        except (NetdumpError, OSError) as error:
            print(f"netdump: {printable(str(error))}", file=sys.stderr)
            status = FAILED
            continue
        answers.append({"file": name, **answer.values})
        if not options.json:
            print(answer.text)
        if not answer.complete and status == GOOD:
            status = INCOMPLETE
    if options.json:
        print(json.dumps(answers, indent=2))
    return status


def _describe(name: str, selection: Selection) -> _Answer:
    path = Path(name)
    if path.is_dir():
        return _directory(path)
    small = path.is_file() and path.stat().st_size <= MAX_KEY_SIZE
    data = path.read_bytes() if small else b""
    if len(data) >= HEADER_SIZE and data.startswith(MAGICS):
        return _header(name, DumpHeader.unpack(data))
    key = _key_in(data)
    return _key(name, key) if key is not None else _capture(name, selection)


def _header(name: str, header: DumpHeader) -> _Answer:
    values = {"kind": "kernel dump header", "kdh": header.as_dict(), "valid": header.valid}
    return _Answer(indent(f"{name}: kernel dump header", describe_header(header)), values)


def _key_in(data: bytes) -> DumpKey | None:
    """The key that a file holds: a known cipher, a key of whole words, and zeros behind it."""
    try:
        key = DumpKey.unpack(data)
    except DumpKeyError:
        return None
    size = len(key.encryptedkey)
    known = ENCRYPTIONS.get(key.encryption, "none") != "none"
    padding = data[struct.calcsize(KEY_FORMAT) + size :]
    return key if known and size and size % 8 == 0 and not any(padding) else None


def _key(name: str, key: DumpKey) -> _Answer:
    bits = len(key.encryptedkey) * 8
    lines = [
        f"cipher: {key.encryption_name}",
        f"initialisation vector: {key.iv.hex()}",
        f"one-time key: encrypted with an RSA key of {bits} bits",
    ]
    values = {
        "kind": "dump key",
        "encryption": key.encryption_name,
        "iv": key.iv.hex(),
        "encryptedkeysize": len(key.encryptedkey),
    }
    return _Answer(indent(f"{name}: dump key", lines), values)


def _capture(name: str, selection: Selection) -> _Answer:
    with Recoverer(None, selection) as recoverer:
        with ProgressLine() as progress:
            recoverer.read(name, progress)
        recovery = recoverer.finish()
    lines = [f"{counted(len(recovery.dumps), 'dump')} in {counted(recovery.frames, 'frame')}"]
    lines += [f"note: {note}" for note in recovery.notes]
    lines += [f"problem: {problem}" for problem in recovery.problems]
    values = {
        "kind": "capture",
        "frames": recovery.frames,
        "dumps": [dump.as_dict() for dump in recovery.dumps],
        "notes": recovery.notes,
        "problems": recovery.problems,
    }
    text = [indent(f"{name}: capture", lines), *map(describe_dump, recovery.dumps)]
    complete = not recovery.problems and all(dump.complete for dump in recovery.dumps)
    return _Answer("\n".join(text), values, complete)


def _directory(path: Path) -> _Answer:
    dumps = [_stored(host, number, files) for (host, number), files in stored_dumps(path).items()]
    values = {"kind": "dump directory", "dumps": [dump.values for dump in dumps]}
    title = indent(f"{path}: dump directory", [counted(len(dumps), "dump")])
    text = "\n".join([title, *(dump.text for dump in dumps)])
    return _Answer(text, values, all(dump.complete for dump in dumps))


def _stored(host: str, number: int, files: Published) -> _Answer:
    header = _stored_header(files.kdh)
    missing, problem = _stored_missing(files.map)
    status = (true_status(files.info) if files.info else "") or "no info file"
    values = {
        "host": host,
        "number": number,
        "status": status,
        "kdh": header.as_dict() if header is not None else None,
        "missing": missing,
        "files": files.as_dict(),
    }
    lines = [status, *problem, *(describe_header(header) if header is not None else ())]
    lines += describe_files(files)
    complete = status == "Dump complete" and missing == []
    return _Answer(indent(f"dump {number} of {host}", lines), values, complete)


def _stored_missing(path: Path | None) -> tuple[list[Range] | None, list[str]]:
    """What a mapfile says is missing; None, and why, if it cannot be told."""
    try:
        return (parse_mapfile(_text(path))[0] if path is not None else []), []
    except MapfileError as error:
        return None, [str(error)]


def _stored_header(path: Path | None) -> DumpHeader | None:
    if path is None:
        return None
    with path.open("rb") as file:
        data = file.read(HEADER_SIZE)
    return DumpHeader.unpack(data) if len(data) == HEADER_SIZE else None


def _text(path: Path) -> str:
    with path.open(encoding="utf-8", errors="backslashreplace") as file:
        return file.read()
