# SPDX-License-Identifier: GPL-2.0-or-later
"""``netdump info``: what a file holds, told by its content and not by its name."""

from __future__ import annotations

import argparse
import json
import struct
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from ..core.account import MAX_KEY_SIZE
from ..core.extents import Range
from ..core.observing.selection import Selection
from ..dump.found import NoDumpError, is_capture
from ..dump.heads import Heads
from ..dump.inspection import inspect
from ..errors import NetdumpError
from ..formats import ENCRYPTIONS, KEY_FORMAT, MAGICS
from ..kerneldump.header import HEADER_SIZE, DumpHeader
from ..kerneldump.key import DumpKey, DumpKeyError
from ..recovery.recoverer import Recoverer
from ..store.abandoned import true_status
from ..store.mapfile import MapfileError, parse_mapfile
from ..store.naming import Published, stored_dumps
from ..text import counted, printable
from .common import EXITS, FAILED, GOOD, INCOMPLETE, ask_passphrase
from .progress import ProgressLine
from .selection import add_selection, selection_of
from .words import Look, describe_dump, describe_files, describe_header, indent, look


class Answer(NamedTuple):
    """What there is to say of a file, for people and for programs."""

    text: str
    values: dict[str, Any]
    complete: bool = True


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Say what files hold: captures, vmcores, dump directories, dump headers "
        "(kdh.*) and keys (key.*); and of a dump, whether what is here is enough to debug it. "
        "Nothing is written."
    )
    parser.epilog = EXITS
    parser.add_argument("files", metavar="FILE", nargs="+")
    parser.add_argument(
        "-p", dest="private_key", metavar="PRIVATEKEY",
        help="the RSA private key of encrypted dumps, in PEM form",
    )  # fmt: skip
    add_selection(parser)
    parser.add_argument("--json", action="store_true", help="print a list with an object a file")


def run(options: argparse.Namespace) -> int:
    """Describe each file, and return the exit status."""
    selection = selection_of(options)
    private_key = Path(options.private_key) if options.private_key is not None else None
    answers = []
    status = GOOD
    for name in options.files:
        try:
            answer = _describe(name, selection, private_key)
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


def _describe(name: str, selection: Selection, private_key: Path | None) -> Answer:
    path = Path(name)
    if path.is_dir():
        return _directory(path, private_key)
    if not path.is_file():  # a pipe, or nothing at all
        return _capture(name, selection, private_key)
    data = path.read_bytes() if path.stat().st_size <= MAX_KEY_SIZE else b""
    if len(data) >= HEADER_SIZE and data.startswith(MAGICS):
        return _header(name, DumpHeader.unpack(data))
    key = _key_in(data)
    if key is not None:
        return _key(name, key)
    return (
        _capture(name, selection, private_key) if is_capture(path) else _vmcore(name, private_key)
    )


def _directory(path: Path, private_key: Path | None) -> Answer:
    """What a dump directory holds. StoreError if it cannot be read."""
    dumps = [
        _stored(host, number, files, private_key)
        for (host, number), files in stored_dumps(path).items()
    ]
    values = {"kind": "dump directory", "dumps": [dump.values for dump in dumps]}
    title = indent(f"{path}: dump directory", [counted(len(dumps), "dump")])
    text = "\n".join([title, *(dump.text for dump in dumps)])
    return Answer(text, values, all(dump.complete for dump in dumps))


def _stored(host: str, number: int, files: Published, private_key: Path | None) -> Answer:
    header = _stored_header(files.kdh)
    missing, problem = _stored_missing(files.map)
    status = (true_status(files.info) if files.info else "") or "no info file"
    contents = _contents(files, private_key)
    values = {
        "host": host,
        "number": number,
        "status": status,
        "kdh": header.as_dict() if header is not None else None,
        "missing": missing,
        "files": files.as_dict(),
        "contents": contents.values,
    }
    lines = [status, *problem, *(describe_header(header) if header is not None else ())]
    lines += [*contents.lines, *describe_files(files)]
    complete = status == "Dump complete" and missing == []
    return Answer(
        indent(f"dump {number} of {host}" if host else f"dump {number}", lines), values, complete
    )


def _contents(files: Published, private_key: Path | None) -> Look:
    """A look into the vmcore of a stored dump."""
    if files.vmcore is None:
        return Look([], None)
    with ExitStack() as opened:
        try:
            return look(
                inspect(files.vmcore, opened, private_key=private_key, passphrase=ask_passphrase)
            )
        except NetdumpError as error:
            return look(error)


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


def _header(name: str, header: DumpHeader) -> Answer:
    values = {"kind": "kernel dump header", "kdh": header.as_dict(), "valid": header.valid}
    return Answer(indent(f"{name}: kernel dump header", describe_header(header)), values)


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


def _key(name: str, key: DumpKey) -> Answer:
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
    return Answer(indent(f"{name}: dump key", lines), values)


def _capture(name: str, selection: Selection, private_key: Path | None) -> Answer:
    heads = Heads()
    with Recoverer(None, selection, watcher=heads) as recoverer:
        with ProgressLine() as progress:
            recoverer.read(name, progress)
        recovery = recoverer.finish()
    lines = [f"{counted(len(recovery.dumps), 'dump')} in {counted(recovery.frames, 'frame')}"]
    lines += [f"note: {note}" for note in recovery.notes]
    lines += [f"problem: {problem}" for problem in recovery.problems]
    looks = [look(inspection) for inspection in heads.inspections(private_key, ask_passphrase)]
    dumps = list(zip(recovery.dumps, looks, strict=True))
    values = {
        "kind": "capture",
        "frames": recovery.frames,
        "dumps": [{**dump.as_dict(), "contents": look.values} for dump, look in dumps],
        "notes": recovery.notes,
        "problems": recovery.problems,
    }
    text = [indent(f"{name}: capture", lines)]
    text += [describe_dump(dump, look.lines) for dump, look in dumps]
    complete = not recovery.problems and all(dump.complete for dump in recovery.dumps)
    return Answer("\n".join(text), values, complete)


def _vmcore(name: str, private_key: Path | None) -> Answer:
    """A file that is a dump itself, with its header and mapfile beside it if they are there."""
    with ExitStack() as files:
        dump = inspect(Path(name), files, private_key=private_key, passphrase=ask_passphrase)
        looked = look(dump)
    header, contents = dump.header, dump.contents
    if contents.kind == "unknown" and header is None:
        raise NoDumpError(
            f"{name}: neither a capture, a dump, a dump header nor a key; {contents.note}"
        )
    missing = list(dump.content.missing)
    values = {
        "kind": "vmcore",
        "kdh": header.as_dict() if header is not None else None,
        "missing": missing,
        "contents": looked.values,
    }
    lines = [*(describe_header(header) if header is not None else ()), *looked.lines]
    return Answer(indent(f"{name}: vmcore", lines), values, not missing)
