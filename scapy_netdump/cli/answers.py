# SPDX-License-Identifier: GPL-2.0-or-later
"""What ``netdump info`` has to say of dumps, in words and in values."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from ..core.extents import Range
from ..core.verdict import Verdict
from ..dump.inspection import Inspection, inspect
from ..errors import NetdumpError
from ..kerneldump.header import HEADER_SIZE, DumpHeader
from ..store.abandoned import true_status
from ..store.mapfile import MapfileError, parse_mapfile
from ..store.naming import Published, stored_dumps
from ..text import counted
from .describe import describe_files, describe_header, describe_survey, indent
from .passphrase import ask_passphrase


class Answer(NamedTuple):
    """What there is to say of a file, for people and for programs."""

    text: str
    values: dict[str, Any]
    complete: bool = True


class Look(NamedTuple):
    """What a look into a dump showed; no values if there could be none."""

    lines: list[str]
    values: dict[str, Any] | None


def look(inspection: Inspection | NetdumpError) -> Look:
    """What an inspection shows, or why there is none."""
    if isinstance(inspection, NetdumpError):
        return Look([f"not looked into: {inspection}"], None)
    lines, values = describe_survey(inspection.survey), inspection.survey.as_dict()
    if inspection.contents.kind == "textdump":
        files = [(file.name, len(file.data)) for file in inspection.text_files]
        lines += [f"  {name}: {counted(size, 'byte')}" for name, size in files]
        values["text_files"] = [{"name": name, "size": size} for name, size in files]
    return Look(lines, values)


def describe_directory(path: Path, private_key: Path | None) -> Answer:
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
    verdict = Verdict.from_line(status)
    complete = verdict is not None and verdict.complete and missing == []
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
