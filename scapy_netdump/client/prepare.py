# SPDX-License-Identifier: GPL-2.0-or-later
"""A dump to send, from whatever file it is in. Wiring only: reads files, knows no sockets.

The file is a vmcore, an entry of a dump directory (its kdh, key and info are beside it) or
a capture. As the kernel does, it is compressed first and encrypted second.
"""

from __future__ import annotations

import calendar
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..dump.cipher import Encrypted
from ..dump.compression import compress
from ..dump.content import Content, FileContent, Padded, Part
from ..dump.found import FoundDump, find_dump
from ..errors import NetdumpError
from ..formats import COMPRESSIONS
from ..kerneldump.header import DumpHeader, architecture_version, changed_header, pack_header
from ..kerneldump.info import info_values
from ..kerneldump.key import (
    IV_SIZE,
    ONE_TIME_KEY_SIZE,
    DumpKey,
    check_combination,
    encryption_number,
)
from ..kerneldump.minidump import minidump_architecture

#: Told of work before the first byte can be sent: what, how many bytes, and of how many.
Progress = Callable[[str, int, int | None], None]

#: NETDUMP_DATASIZE in sys/netinet/netdump/netdump_client.c.
_BLOCKSIZE = 4096
_MAX_BLOCKSIZE = 1 << 16

_UNKNOWN = "unknown"


class UnfitError(NetdumpError):
    """A dump that cannot be sent as it is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """How a dump is to be sent.

    ``compression`` is none, gzip or zstd; ``cipher``, used when there is a ``public_key``,
    aes-256-cbc or chacha20, with ``random`` for its keys. The strings go into the header in
    place of what the dump tells of itself; ``dumptime``, in seconds since 1970, if it does
    not tell. ``number`` chooses between several dumps in a capture, from 1 on.
    """

    compression: str = "none"
    level: int | None = None
    public_key: Path | None = None
    cipher: str = "chacha20"
    random: Callable[[int], bytes] = os.urandom
    hostname: str | None = None
    versionstring: str | None = None
    panicstring: str | None = None
    architecture: str | None = None
    dumptime: int = 0
    number: int | None = None

    @property
    def strings(self) -> dict[str, Any]:
        """The strings that are given, by the names of the header's fields."""
        names = ("hostname", "versionstring", "panicstring", "architecture")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass(slots=True)
class OutgoingDump:
    """A dump, ready to be sent. To be used in ``with``: it may have temporary files.

    ``kdh`` are the 512 bytes of its header, ``key`` the padded key blob (empty: not
    encrypted). ``read`` gives any part of the ``size`` bytes that go into VMCORE messages,
    padding of compressed data included; forward is fast, any order is right.
    """

    kdh: bytes
    key: bytes
    content: Content = field(repr=False)
    files: ExitStack = field(repr=False)

    @property
    def size(self) -> int:
        """How many bytes of vmcore are to be sent."""
        return self.content.size

    def read(self, offset: int, size: int) -> bytes:
        """``size`` bytes of the vmcore as it is sent, from ``offset`` on; fewer at its end."""
        return self.content.read(offset, size)

    @property
    def header(self) -> DumpHeader:
        """The header, decoded."""
        return DumpHeader.unpack(self.kdh)

    @property
    def encrypted(self) -> bool:
        """Whether there is a key to be sent."""
        return bool(self.key)

    @property
    def compressed(self) -> bool:
        """Whether the bytes are compressed."""
        return self.header.compression != 0

    def describe(self) -> str:
        """In a line, what it is."""
        header = self.header
        words = [f"{header.dumplength} bytes", f"{header.architecture} dump of {header.hostname}"]
        if self.compressed:
            words.append(f"compressed with {header.compression_name}")
        if self.encrypted:
            words.append(f"encrypted with {DumpKey.unpack(self.key).encryption_name}")
        return ", ".join(words)

    def close(self) -> None:
        """Close and remove what was opened for it."""
        self.files.close()

    def __enter__(self) -> OutgoingDump:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_dump(
    path: str, preparation: Preparation | None = None, progress: Progress | None = None
) -> OutgoingDump:
    """The dump in the file at ``path``, made ready. NetdumpError if it cannot be sent."""
    preparation = preparation or Preparation()
    with ExitStack() as files:
        found = find_dump(Path(path), preparation.number, files, progress)
        if found.problem:
            raise UnfitError(f"{found.name}: {found.problem}; it cannot be sent")
        dump = _as_it_is(found, preparation, files)
        if preparation.compression != "none" or preparation.public_key is not None:
            _check(dump, preparation)
        if preparation.compression != "none":
            _compress(dump, preparation, progress)
        if preparation.public_key is not None:
            _encrypt(dump, preparation, preparation.public_key)
        block = dump.header.blocksize
        if dump.compressed and dump.content.size % block:
            dump.content = Padded(dump.content, block)
        dump.files = files.pop_all()
        return dump
    raise AssertionError  # mypy takes ExitStack for one that swallows exceptions


def _check(dump: OutgoingDump, preparation: Preparation) -> None:
    """UnfitError for what was done to the dump already, or does not go together."""
    wanted = "encrypted" if preparation.public_key is not None else "compressed"
    if dump.encrypted:
        raise UnfitError(f"the dump is encrypted already, it cannot be {wanted}")
    if dump.compressed and preparation.compression != "none":
        raise UnfitError("the dump is compressed already")
    if preparation.public_key is not None:
        compressed = dump.compressed or preparation.compression != "none"
        check_combination(preparation.cipher, compressed)


def _as_it_is(found: FoundDump, preparation: Preparation, files: ExitStack) -> OutgoingDump:
    """The dump as it was found, with a header."""
    kdh = found.kdh or _made_header(found, preparation)
    if found.kdh and preparation.strings:
        kdh = replace(DumpHeader.unpack(kdh), **preparation.strings).pack()
    header = DumpHeader.unpack(kdh)
    if not header.valid:
        raise UnfitError(f"{found.name}: its header is damaged; without kdh.* a new one is made")
    if not 0 < header.blocksize <= _MAX_BLOCKSIZE:
        raise UnfitError(f"{found.name}: its header has a block size of {header.blocksize}")
    if found.content.size < header.dumplength:
        raise UnfitError(
            f"{found.name}: {found.content.size} bytes, its header wants {header.dumplength}"
        )
    return OutgoingDump(kdh, found.key, Part(found.content, header.dumplength), files)


def _made_header(found: FoundDump, preparation: Preparation) -> bytes:
    """A header for a dump that has none: from its info file, else from its first bytes."""
    info = info_values(found.info)
    size = found.content.size
    architecture = info.get("Architecture") or minidump_architecture(found.content.read(0, 64))
    values = {
        "architecture": architecture or _UNKNOWN,
        "hostname": info.get("Hostname") or os.uname().nodename,
        "versionstring": info.get("Version String") or _UNKNOWN,
        "panicstring": info.get("Panic String", ""),
        **preparation.strings,
    }
    values["versionstring"] = values["versionstring"].removesuffix("\n") + "\n"
    return pack_header(
        **values,
        architectureversion=architecture_version(values["architecture"]),
        dumplength=size,
        dumptime=_dumptime(info.get("Dumptime", ""), preparation.dumptime),
        dumpkeysize=len(found.key),
        blocksize=_BLOCKSIZE,
        compression=found.compression,
        dumpextent=size,
    )


def _dumptime(text: str, default: int) -> int:
    """The seconds since 1970 that ctime(3) wrote; which zone it took for UTC is not known."""
    try:
        return max(0, calendar.timegm(time.strptime(text)))
    except (ValueError, OverflowError):
        return default


def _compress(dump: OutgoingDump, preparation: Preparation, progress: Progress | None) -> None:
    """Compress into a temporary file: only then the length is known that a header has."""
    directory = dump.files.enter_context(tempfile.TemporaryDirectory(prefix="netdump-"))
    path = Path(directory, "vmcore")
    extent = dump.size
    name = f"compressing with {preparation.compression}"

    def report(done: int) -> None:
        if progress is not None:
            progress(name, done, extent)

    compress(dump.content, preparation.compression, preparation.level, path, report)
    dump.content = dump.files.enter_context(FileContent(path))
    numbers = {name: number for number, name in COMPRESSIONS.items()}
    dump.kdh = changed_header(
        dump.kdh,
        compression=numbers[preparation.compression],
        dumplength=dump.size,
        dumpextent=extent,
    )


def _encrypt(dump: OutgoingDump, preparation: Preparation, public_key: Path) -> None:
    from ..dump.keys import DumpCipher, wrap_key  # an extra that other dumps do not need

    block = dump.header.blocksize
    one_time_key = preparation.random(ONE_TIME_KEY_SIZE)
    key = DumpKey(
        encryption_number(preparation.cipher),
        preparation.random(IV_SIZE),
        wrap_key(public_key, one_time_key),
    )
    if dump.compressed:  # the kernel encrypts the padding too
        dump.content = Padded(dump.content, block)
    dump.content = Encrypted(dump.content, DumpCipher(key, one_time_key))
    dump.key = key.pack(block)
    dump.kdh = changed_header(dump.kdh, dumpkeysize=len(dump.key))
