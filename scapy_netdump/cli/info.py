# SPDX-License-Identifier: GPL-2.0-or-later
"""``netdump info``: what a file holds, told by its content and not by its name."""

from __future__ import annotations

import argparse
import json
import struct
import sys
from pathlib import Path
from typing import Any, NamedTuple

from ..core.observing.selection import Selection
from ..core.small_files import MAX_KEY_SIZE
from ..dump.captures import Captures
from ..dump.dump import HEAD, Dump, Unlock
from ..dump.open import NoDumpError, is_capture, open_files, unlocked_with
from ..dump.scratch import Scratches, opened
from ..errors import NetdumpError
from ..formats import ENCRYPTIONS, KEY_FORMAT, MAGICS
from ..kerneldump.header import HEADER_SIZE, DumpHeader
from ..kerneldump.key import DumpKey, DumpKeyError
from ..store.naming import DumpId, Published, neighbours, stored_dumps
from ..text import counted, printable
from .common import EXITS, FAILED, GOOD, INCOMPLETE, ask_passphrase
from .progress import ProgressLine
from .selection import add_selection, selection_of
from .words import describe_dump, describe_files, describe_header, indent, look


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
    unlock = unlocked_with(options.private_key, ask_passphrase)
    answers = []
    status = GOOD
    for name in options.files:
        try:
            answer = _describe(name, selection, unlock)
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


def _describe(name: str, selection: Selection, unlock: Unlock | None) -> Answer:
    path = Path(name)
    if path.is_dir():
        return _directory(path, unlock)
    if not path.is_file():  # a pipe, or nothing at all
        return _capture(name, selection, unlock)
    data = path.read_bytes() if path.stat().st_size <= MAX_KEY_SIZE else b""
    if len(data) >= HEADER_SIZE and data.startswith(MAGICS):
        return _header(name, DumpHeader.unpack(data))
    key = _key_in(data)
    if key is not None:
        return _key(name, key)
    return _capture(name, selection, unlock) if is_capture(path) else _vmcore(name, unlock)


def _directory(path: Path, unlock: Unlock | None) -> Answer:
    """What a dump directory holds. StoreError if it cannot be read."""
    dumps = [_stored(dump, files, unlock) for dump, files in stored_dumps(path).items()]
    values = {"kind": "dump directory", "dumps": [dump.values for dump in dumps]}
    title = indent(f"{path}: dump directory", [counted(len(dumps), "dump")])
    text = "\n".join([title, *(dump.text for dump in dumps)])
    return Answer(text, values, all(dump.complete for dump in dumps))


def _stored(dump_id: DumpId, files: Published, unlock: Unlock | None) -> Answer:
    host, number = dump_id
    title = f"dump {number} of {host}" if host else f"dump {number}"
    values: dict[str, Any] = {"host": host, "number": number}
    try:
        with open_files(files, title, unlock) as dump:
            about = _about(dump)
    except NetdumpError as error:
        nothing = dict.fromkeys(("verdict", "kdh", "missing", "contents"))
        values |= {**nothing, "status": str(error), "files": files.as_dict()}
        return Answer(indent(title, [str(error), *describe_files(files)]), values, False)
    lines = [*about.lines, *describe_files(files)]
    return Answer(indent(title, lines), {**values, **about.values}, about.complete)


class _About(NamedTuple):
    lines: list[str]
    values: dict[str, Any]
    complete: bool


def _about(dump: Dump) -> _About:
    """What there is to say of a dump in files: of a directory's as of a file's."""
    looked, verdict = look(dump), dump.verdict
    values = {
        "verdict": verdict.kind.value,
        "complete": verdict.complete,
        "status": str(verdict),
        "kdh": dump.kdh.as_dict() if dump.kdh is not None else None,
        "missing": dump.missing,
        "files": dump.files.as_dict(),
        "contents": looked.values,
    }
    lines = [str(verdict), *(describe_header(dump.kdh) if dump.kdh is not None else ())]
    return _About([*lines, *looked.lines], values, verdict.complete)


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


def _capture(name: str, selection: Selection, unlock: Unlock | None) -> Answer:
    captures = Captures(Scratches(HEAD).storage_for, selection)
    with ProgressLine() as progress:
        captures.read(name, progress)
    found = captures.finish()
    lines = [f"{counted(len(found), 'dump')} in {counted(captures.frames, 'frame')}"]
    lines += [f"note: {note}" for note in captures.notes]
    lines += [f"problem: {problem}" for problem in captures.problems]
    text, values = [indent(f"{name}: capture", lines)], []
    complete = not captures.problems
    for dump in opened(found, unlock=unlock):
        with dump:
            looked = look(dump)
            values.append({**dump.as_dict(), "contents": looked.values})
            text.append(describe_dump(dump, looked.lines))
            complete &= dump.complete
    about = {
        "kind": "capture",
        "frames": captures.frames,
        "dumps": values,
        "notes": captures.notes,
        "problems": captures.problems,
    }
    return Answer("\n".join(text), about, complete)


def _vmcore(name: str, unlock: Unlock | None) -> Answer:
    """A file that is a dump itself, with its header and mapfile beside it if they are there."""
    with open_files(neighbours(Path(name)), name, unlock) as dump:
        told = dump.header is not None or dump.account.encrypted or dump.files.info is not None
        if not told and dump.contents.kind == "unknown":
            raise NoDumpError(
                f"{name}: neither a capture, a dump, a dump header nor a key; {dump.contents.note}"
            )
        about = _about(dump)
    return Answer(
        indent(f"{name}: vmcore", about.lines), {"kind": "vmcore", **about.values}, about.complete
    )
