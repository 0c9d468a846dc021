# SPDX-License-Identifier: GPL-2.0-or-later
"""Opening a dump: a vmcore, one with its other files beside it, or one of those in a capture."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

from ..capture.compressed import DamagedError, unpacker
from ..capture.pcap import Pcap
from ..capture.pcapng import Pcapng
from ..core.small_files import MAX_KEY_SIZE
from ..core.verdict import Kind, Verdict
from ..errors import CaptureError, NetdumpError, StoreError, UsageError
from ..kerneldump.header import HEADER_SIZE
from ..kerneldump.key import DumpKey
from ..store.abandoned import true_status
from ..store.kept_dumps import account_of, holes_are_known, map_of
from ..store.mapfile import MAX_MAPFILE, MapfileError, Mapped
from ..store.naming import PART, FileName, Published, is_bounds, neighbours, told_apart
from .captures import Captures, Progress
from .cipher import Cipher
from .content import Content, FileContent, Held
from .dump import Dump, Unlock
from .scratch import Scratches, opened

#: Asked for the passphrase of a private key, by its file.
Passphrase = Callable[[Path], bytes]

_HEAD = 64
_MAX_INFO = 1 << 16


class NoDumpError(NetdumpError):
    """There is no dump where one was looked for."""


def no_passphrase(_: Path) -> bytes:
    """For private keys that have none."""
    return b""


def open_dump(
    path: str | bytes | os.PathLike[str],
    number: int | None = None,
    *,
    private_key: str | os.PathLike[str] | None = None,
    passphrase: Passphrase = no_passphrase,
    progress: Progress | None = None,
) -> Dump:
    """Open the dump in the file at ``path``: a vmcore, also one that is still a ``.part``, with
    what stands beside it in a dump directory, any of those files, or a capture.

    ``number`` chooses between several dumps in a capture, from 1 on. ``private_key`` is the RSA
    key of an encrypted dump, in PEM form, for whose ``passphrase`` is asked when it is needed.
    ``progress`` is told how far the capture is read. NoDumpError if there is no dump, UsageError
    if it is not clear which or the path is none, StoreError if a file cannot be read.
    """
    path = Path(os.fsdecode(path))
    if "\0" in str(path):
        raise UsageError(f"{str(path)!r}: no path, it has a null byte in it")
    try:
        os.fsencode(path)
        directory = path.is_dir()
    except (OSError, UnicodeEncodeError) as error:  # a name that is too long, or no name at all
        raise UsageError(f"{str(path)[:80]!r}: no path: {_why(error)}") from None
    if directory:
        raise UsageError(f"{path}: a directory; name a vmcore in it")
    unlock = unlocked_with(private_key, passphrase)
    if is_bounds(path.name):
        raise NoDumpError(f"{path}: tells the number of the next dump, and holds none")
    files = neighbours(path)
    if not (files.kdh or files.key or files.info) and is_capture(path):
        return _captured(path, number, unlock, progress)
    if number is not None:
        raise UsageError(f"{path}: not a capture, there is no dump {number} to choose in it")
    return open_files(files, str(path), unlock)


def _why(error: OSError | UnicodeEncodeError) -> str:
    return error.reason if isinstance(error, UnicodeEncodeError) else error.strerror or ""


def unlocked_with(
    private_key: str | os.PathLike[str] | None, passphrase: Passphrase = no_passphrase
) -> Unlock | None:
    """What opens the keys of dumps with a private key, which is loaded when it is first needed;
    None if there is no private key."""
    if private_key is None:
        return None
    file = Path(private_key)

    @cache
    def load() -> Unlock:
        from .keys import unlocker  # cryptography is an extra

        return unlocker(file, passphrase)

    def unlock(key: DumpKey) -> Cipher:
        return load()(key)

    return unlock


def open_files(files: Published, name: str, unlock: Unlock | None = None) -> Dump:
    """Open a dump that is in files of its own. NoDumpError if its mapfile is none, StoreError if
    a file cannot be read."""
    info = read_small(files.info, _MAX_INFO).decode(errors="backslashreplace")
    told = Verdict.from_line(true_status(files.info)) if files.info is not None else None
    content: Content = Held(b"", 0)
    part = False
    if files.vmcore is not None:
        content = FileContent(files.vmcore)
        part = files.vmcore.resolve().name.endswith(PART)
        if part and (told is None or told.complete):
            told = Verdict(Kind.INCOMPLETE, "it was not received to its end")
    mapped = _mapped(files.map, content.size, part)
    account = account_of(
        size=content.size,
        mapped=mapped,
        kdh=read_small(files.kdh, HEADER_SIZE),
        key=read_small(files.key, MAX_KEY_SIZE),
        finished=told is not None and told.complete,
    )
    account.holes_known = files.vmcore is None or holes_are_known(
        part=part,
        mapped=mapped is not None,
        kdh=_has_header(files),
        info=info,
        told=told,
    )
    account.examine(lambda start, stop: content.read(start, stop - start))
    if told is not None:
        account.recall(told)
    if told is None or told.kind is not Kind.CONTRADICTED:
        account.add_doubt(_told_apart(files))
    return Dump(name, account, content, info=info, told=told, files=files, unlock=unlock)


def open_content(content: Content, name: str = "the dump") -> Dump:
    """A dump of which there is nothing but the content of its vmcore. UsageError if that is a
    capture, which is opened by its path."""
    if _begins_a_capture(content.read(0, _HEAD)):
        raise UsageError(f"{name}: these bytes are a capture, which is given by its path")
    account = account_of(size=content.size, mapped=Mapped(list(content.missing), content.size))
    account.examine(lambda start, stop: content.read(start, stop - start))
    return Dump(name, account, content)


def _has_header(files: Published) -> bool:
    """Whether a dump header is beside a vmcore, also beside the plain copy of one."""
    if files.kdh is not None or files.vmcore is None:
        return files.kdh is not None
    path = files.vmcore.resolve()
    name = FileName.parse(path.name)
    return name is not None and path.with_name(str(FileName("kdh", *name.dump))).is_file()


def _told_apart(files: Published) -> str:
    """What the files beside a dump tell against it."""
    others = (path.name for path in (files.other, files.kdh_other) if path is not None)
    names = list(filter(None, map(FileName.parse, others)))
    return told_apart(names, names[0].dump) if names else ""


def _mapped(mapfile: Path | None, size: int, part: bool) -> Mapped | None:
    """What a mapfile tells of a vmcore of ``size`` bytes."""
    if mapfile is None:
        return None
    try:
        text = read_small(mapfile, MAX_MAPFILE).decode(errors="replace")
        return map_of(text, size=size, part=part)
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
    return _begins_a_capture(head)


def _begins_a_capture(head: bytes) -> bool:
    return Pcap.recognise(head) is not None or Pcapng.recognise(head) is not None


def _first(pieces: Iterator[bytes]) -> bytes:
    head = b""
    for piece in pieces:
        head += piece[:_HEAD]
        if len(head) >= _HEAD:
            break
    return head


def _captured(
    path: Path, number: int | None, unlock: Unlock | None, progress: Progress | None
) -> Dump:
    """One of the dumps in a capture."""
    captures = Captures(Scratches().storage_for)
    captures.read(str(path), progress)
    dumps = list(opened(captures.finish(), unlock=unlock))
    try:
        dump = dumps.pop(_place(path, number, dumps))
    finally:
        for other in dumps:
            other.close()
    dump.name = str(path)
    return dump


def _place(path: Path, number: int | None, dumps: Sequence[Dump]) -> int:
    """Which of the dumps in a capture is meant."""
    if not dumps:
        raise NoDumpError(f"{path}: a capture without a dump in it")
    if number is None and len(dumps) > 1:
        names = ", ".join(f"{n}: {_title(dump)}" for n, dump in enumerate(dumps, 1))
        raise UsageError(f"{path}: {len(dumps)} dumps; choose one by its number ({names})")
    if number is not None and not 0 < number <= len(dumps):
        raise UsageError(f"{path}: there is no dump {number}, it holds {len(dumps)}")
    return (number or 1) - 1


def _title(dump: Dump) -> str:
    return dump.name if dump.kdh is None else f"{dump.name} {dump.kdh.hostname}"
