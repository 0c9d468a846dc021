# SPDX-License-Identifier: GPL-2.0-or-later
"""The dump that is in a file: a vmcore, one with its other files beside it, or a capture.

Wiring only. Which of these a file is, its neighbours and its first bytes tell.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..capture.compressed import DamagedError, unpacker
from ..capture.pcap import Pcap
from ..capture.pcapng import Pcapng
from ..core.account import MAX_KEY_SIZE
from ..core.extents import Range
from ..core.verdict import Verdict
from ..errors import CaptureError, NetdumpError, StoreError, UsageError
from ..kerneldump.header import HEADER_SIZE, DumpHeader, compression_number
from ..recovery.recoverer import RecoveredDump, Recoverer
from ..store.mapfile import MapfileError, parse_mapfile
from ..store.naming import Published
from ..text import counted
from .content import Content, FileContent

#: Told of what is being read: its name, how many bytes, and of how many.
Progress = Callable[[str, int, int | None], None]

#: As netdumpd and savecore(8) name a vmcore: what its other files have in common with it.
_VMCORE = re.compile(r"(?:vmcore|vmcore_encrypted)\.(?P<dump>.+?)(?P<suffix>\.gz|\.zst)?")
_COMPRESSIONS = {".gz": 1, ".zst": 2}
_HEAD = 64
_MAX_INFO = 1 << 16
_MAX_MAPFILE = 1 << 30


class NoDumpError(NetdumpError):
    """There is no dump where one was looked for."""


@dataclass(frozen=True, slots=True)
class FoundDump:
    """A dump in files. ``kdh``, ``key`` and ``info`` are empty when there is no such file;
    ``compression`` is the header's number, as far as it can be told without one. ``problem``
    says why the dump is not whole, in a line; empty if nothing is known to be missing."""

    name: str
    content: Content = field(repr=False)
    kdh: bytes = b""
    key: bytes = b""
    info: str = ""
    compression: int = 0
    problem: str = ""

    @property
    def header(self) -> DumpHeader | None:
        """The dump header, decoded, if it is there and undamaged."""
        header = DumpHeader.unpack(self.kdh) if self.kdh else None
        return header if header is not None and header.valid else None


def find_dump(
    path: Path, number: int | None, files: ExitStack, progress: Progress | None
) -> FoundDump:
    """The dump in the file at ``path``; what is opened for it goes to ``files``.

    ``number`` chooses between several dumps in a capture, from 1 on. NetdumpError if there is
    no dump.
    """
    if path.is_dir():
        raise UsageError(f"{path}: a directory; name a vmcore in it")
    beside = files_beside(path)
    if not (beside.kdh or beside.key or beside.info) and is_capture(path):
        beside = _from_capture(path, number, files, progress)
    elif number is not None:
        raise UsageError(f"{path}: not a capture, there is no dump {number} to choose in it")
    return _opened(beside, str(path), files)


def files_beside(path: Path) -> Published:
    """A vmcore and the files of the same dump beside it, as far as they exist."""
    name = path.resolve().name
    match = _VMCORE.fullmatch(name)
    if match is None:
        return Published(vmcore=path, map=existing(path.with_name(f"{name}.map")))
    kinds = ("info",) if _is_copy(path.resolve(), match["dump"]) else ("info", "kdh", "key")
    found = {kind: existing(path.resolve().with_name(f"{kind}.{match['dump']}")) for kind in kinds}
    return Published(**found, vmcore=path, map=existing(path.resolve().with_name(f"{name}.map")))


def _is_copy(path: Path, dump: str) -> bool:
    """Whether a vmcore was made of one beside it, which is encrypted or compressed: of the copy
    key and header do not tell."""
    suffixes = ("", *_COMPRESSIONS)
    made_of = [f"vmcore_encrypted.{dump}{suffix}" for suffix in suffixes]
    if path.name == f"vmcore.{dump}":
        made_of += [f"vmcore.{dump}{suffix}" for suffix in _COMPRESSIONS]
    raw = any(existing(path.with_name(name)) for name in made_of)
    return raw and not path.name.startswith("vmcore_encrypted.")


def existing(path: Path) -> Path | None:
    """The path if there is a file."""
    return path if path.is_file() else None


def missing_ranges(mapfile: Path | None) -> list[Range]:
    """What a mapfile says is missing; nothing if there is none. NetdumpError if it is none."""
    if mapfile is None:
        return []
    try:
        return parse_mapfile(read_small(mapfile, _MAX_MAPFILE).decode(errors="replace"))[0]
    except MapfileError as error:
        raise NoDumpError(f"{mapfile}: {error}") from None


def read_small(path: Path | None, limit: int) -> bytes:
    """All of a small file, up to ``limit`` bytes; nothing if there is none."""
    if path is None:
        return b""
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from None


def _opened(dump: Published, name: str, files: ExitStack) -> FoundDump:
    assert dump.vmcore is not None
    missing = missing_ranges(dump.map)
    content = files.enter_context(FileContent(dump.vmcore, missing))
    kdh = read_small(dump.kdh, HEADER_SIZE)
    if kdh and len(kdh) < HEADER_SIZE:
        raise NoDumpError(f"{dump.kdh}: {len(kdh)} bytes, a dump header has {HEADER_SIZE}")
    key = read_small(dump.key, MAX_KEY_SIZE)
    info = read_small(dump.info, _MAX_INFO).decode(errors="backslashreplace")
    match = _VMCORE.fullmatch(dump.vmcore.resolve().name)
    suffix = match["suffix"] if match is not None else None
    compression = _COMPRESSIONS.get(suffix or "", 0)
    if not key:
        compression = compression_number(content.read(0, _HEAD))
    return FoundDump(name, content, kdh, key, info, compression, _problem(missing, info))


def _problem(missing: Sequence[Range], info: str) -> str:
    """Why a dump with these holes and this info text is not whole."""
    if missing:
        count = sum(end - start for start, end in missing)
        return f"{count} bytes missing in {counted(len(missing), 'range')}"
    status = info.splitlines()[-1] if info else ""
    verdict = Verdict.from_line(status)
    return status if verdict is not None and not verdict.complete else ""


def is_capture(path: Path) -> bool:
    """Whether a file is a capture, perhaps a compressed one."""
    head = read_small(path, _HEAD)
    try:
        unpack = unpacker(head, str(path))
        if unpack is not None:
            with path.open("rb") as file:
                head = _first(unpack(file))
    except (CaptureError, DamagedError, OSError):
        return False
    return Pcap.recognise(head) is not None or Pcapng.recognise(head) is not None


def _first(pieces: Iterator[bytes]) -> bytes:
    head = b""
    for piece in pieces:
        head += piece[:_HEAD]
        if len(head) >= _HEAD:
            break
    return head


def _from_capture(
    path: Path, number: int | None, files: ExitStack, progress: Progress | None
) -> Published:
    """The files of a dump in a capture, recovered into a directory that goes with ``files``."""
    directory = files.enter_context(tempfile.TemporaryDirectory(prefix="netdump-"))
    with Recoverer(Path(directory)) as recoverer:
        recoverer.read(str(path), progress)
        dump = _chosen(path, number, recoverer.finish().dumps)
    if dump.files.vmcore is None:
        raise NoDumpError(f"{path}: {dump.status}")
    sound = dump.kdh is not None and dump.kdh.valid
    return replace(dump.files, kdh=dump.files.kdh if sound else None)


def _chosen(path: Path, number: int | None, dumps: Sequence[RecoveredDump]) -> RecoveredDump:
    if not dumps:
        raise NoDumpError(f"{path}: a capture without a dump in it")
    if number is None and len(dumps) > 1:
        names = ", ".join(f"{n}: {_title(dump)}" for n, dump in enumerate(dumps, 1))
        raise UsageError(f"{path}: {len(dumps)} dumps; choose one by its number ({names})")
    number = 1 if number is None else number
    if not 0 < number <= len(dumps):
        raise UsageError(f"{path}: there is no dump {number}, it holds {len(dumps)}")
    return dumps[number - 1]


def _title(dump: RecoveredDump) -> str:
    return dump.client if dump.kdh is None else f"{dump.client} {dump.kdh.hostname}"
