# SPDX-License-Identifier: GPL-2.0-or-later
"""A dump made ready to be sent: with a header, and if that is wanted compressed and encrypted.

As the kernel does, it is compressed first and encrypted second.
"""

from __future__ import annotations

import calendar
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..core.verdict import Kind
from ..dump.captures import Progress
from ..dump.cipher import Encrypted
from ..dump.compression import compress
from ..dump.content import Content, Padded
from ..dump.dump import Dump
from ..dump.open import open_content, open_dump
from ..errors import NetdumpError, UsageError
from ..formats import COMPRESSIONS
from ..kerneldump.header import (
    MAX_BLOCK,
    DumpHeader,
    architecture_version,
    changed_header,
    pack_header,
    text_room,
)
from ..kerneldump.info import info_values
from ..kerneldump.key import (
    CHACHA20,
    IV_SIZE,
    ONE_TIME_KEY_SIZE,
    DumpKey,
    check_combination,
    encryption_number,
)
from ..kerneldump.minidump import minidump_architecture
from .strings import sent_bytes

#: NETDUMP_DATASIZE in sys/netinet/netdump/netdump_client.c.
_BLOCKSIZE = 4096

_UNKNOWN = "unknown"


class UnfitError(NetdumpError):
    """A dump that cannot be sent as it is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """How a dump is to be sent.

    ``compression`` is none, gzip or zstd; ``cipher``, which needs a ``public_key``, aes-256-cbc
    or chacha20 (the default), with ``random`` for its keys. The strings go into the header in
    place of what the dump tells of itself; ``dumptime``, in seconds since 1970, if it does
    not tell. ``number`` chooses between several dumps in a capture, from 1 on. UsageError for
    what would be without effect: a user who chose a cipher must not send in the clear, as
    dumpon(8) sees it too.
    """

    compression: str = "none"
    level: int | None = None
    public_key: str | os.PathLike[str] | None = None
    cipher: str | None = None
    random: Callable[[int], bytes] = os.urandom
    hostname: str | None = None
    versionstring: str | None = None
    panicstring: str | None = None
    architecture: str | None = None
    dumptime: int = 0
    number: int | None = None

    def __post_init__(self) -> None:
        if self.cipher is not None and self.public_key is None:
            raise UsageError("-C: a cipher needs a public key (-k); nothing would be encrypted")
        if self.level is not None and self.compression == "none":
            raise UsageError("a compression level, and no compression")

    @property
    def used_cipher(self) -> str:
        """The cipher, if there is a public key."""
        return self.cipher or CHACHA20

    def strings(self, kdh: bytes) -> dict[str, bytes]:
        """The strings that are given, by the names of the header's fields; UsageError if one does
        not fit this header. The version ends in a line break, as the kernel's."""
        found: dict[str, bytes] = {}
        for name in ("hostname", "versionstring", "panicstring", "architecture"):
            text = getattr(self, name)
            if text is not None:
                end = b"\n" if name == "versionstring" else b""
                room = text_room(kdh, name) - len(end)
                text = text.removesuffix("\n") if end else text
                found[name] = sent_bytes(f"--{name}", text, room) + end
        return found


@dataclass(slots=True)
class Outgoing:
    """What of a dump goes into messages (core/sending/cut.py), and how it differs from the dump
    that it is made of: compressed, encrypted, with another header.

    ``kdh`` are the 512 bytes of the header, ``key`` the padded key blob (empty: not encrypted).
    ``read`` gives any part of the ``size`` bytes that go into VMCORE messages, padding of
    compressed data included; forward is fast, any order is right. To be used in ``with``, as
    that closes the dump.
    """

    dump: Dump
    kdh: bytes
    key: bytes
    content: Content = field(repr=False)

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
        """Close the dump."""
        self.dump.close()

    def __enter__(self) -> Outgoing:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def prepare(
    dump: Dump, preparation: Preparation | None = None, progress: Progress | None = None
) -> Outgoing:
    """Make a dump ready to be sent. UnfitError if it is not whole, other NetdumpErrors if it
    cannot be made what ``preparation`` asks for."""
    preparation = preparation or Preparation()
    if not _can_be_whole(dump):
        raise UnfitError(f"{dump.name}: {dump.verdict}; it cannot be sent")
    outgoing = _as_it_is(dump, preparation)
    if preparation.compression != "none" or preparation.public_key is not None:
        _check(outgoing, preparation)
    if preparation.compression != "none":
        _compress(outgoing, preparation, progress)
    if preparation.public_key is not None:
        _encrypt(outgoing, preparation, Path(preparation.public_key))
    block = outgoing.header.blocksize
    if outgoing.compressed and outgoing.content.size % block:
        outgoing.content = Padded(outgoing.content, block)
    return outgoing


def _can_be_whole(dump: Dump) -> bool:
    """Whether nothing speaks against it: of a file of which nobody noted the holes, nor where it
    was to end, that is all that can be said."""
    if dump.verdict.kind is Kind.UNKNOWN:
        received = dump.transfer is not None or bool(dump.info)
        return dump.account.length is not None or not received
    return dump.complete


def prepared(
    source: str | os.PathLike[str] | Content,
    preparation: Preparation | None = None,
    progress: Progress | None = None,
) -> Outgoing:
    """The dump in the file at a path, or the vmcore that has this content, made ready: as for
    ``open_dump`` and ``prepare``."""
    number = preparation.number if preparation is not None else None
    if isinstance(source, str | os.PathLike):
        dump = open_dump(source, number, progress=progress)
    elif number is not None:
        raise UsageError("a number chooses a dump in a capture, which is given by its path")
    else:
        dump = open_content(source)
    try:
        return prepare(dump, preparation, progress)
    except BaseException:
        dump.close()
        raise


def _check(outgoing: Outgoing, preparation: Preparation) -> None:
    """UnfitError for what was done to the dump already, or does not go together."""
    wanted = "encrypted" if preparation.public_key is not None else "compressed"
    if outgoing.encrypted:
        raise UnfitError(f"the dump is encrypted already, it cannot be {wanted}")
    if outgoing.compressed and preparation.compression != "none":
        raise UnfitError("the dump is compressed already")
    if preparation.public_key is not None:
        compressed = outgoing.compressed or preparation.compression != "none"
        check_combination(preparation.used_cipher, compressed)


def _as_it_is(dump: Dump, preparation: Preparation) -> Outgoing:
    """The dump as it was opened, with a header."""
    kdh = dump.account.kdh if dump.header is not None else _made_header(dump, preparation)
    if strings := preparation.strings(kdh):
        kdh = changed_header(kdh, **strings)
    header = DumpHeader.unpack(kdh)
    if not 0 < header.blocksize <= MAX_BLOCK:
        raise UnfitError(f"{dump.name}: its header has a block size of {header.blocksize}")
    return Outgoing(dump, kdh, dump.key, dump.content)


def _made_header(dump: Dump, preparation: Preparation) -> bytes:
    """A header for a dump that has none: from its info file, else from its first bytes."""
    info = info_values(dump.info)
    size = dump.content.size
    head = dump.content.read(0, 64)
    architecture = info.get("Architecture") or minidump_architecture(head) or _UNKNOWN
    return pack_header(
        architecture=architecture,
        hostname=info.get("Hostname") or os.uname().nodename,
        versionstring=(info.get("Version String") or _UNKNOWN).removesuffix("\n") + "\n",
        panicstring=info.get("Panic String", ""),
        architectureversion=architecture_version(preparation.architecture or architecture),
        dumplength=size,
        dumptime=_dumptime(info.get("Dumptime", ""), preparation.dumptime),
        dumpkeysize=len(dump.key),
        blocksize=_BLOCKSIZE,
        compression=dump.packed_as,
        dumpextent=size,
    )


def _dumptime(text: str, default: int) -> int:
    """The seconds since 1970 that ctime(3) wrote; which zone it took for UTC is not known, unless
    it says so behind that."""
    try:
        return max(0, calendar.timegm(time.strptime(text.removesuffix(" +0000"))))
    except (ValueError, OverflowError):
        return default


def _compress(outgoing: Outgoing, preparation: Preparation, progress: Progress | None) -> None:
    """Compress into a temporary file: only then the length is known that a header has."""
    extent = outgoing.size
    name = f"compressing with {preparation.compression}"

    def report(done: int) -> None:
        if progress is not None:
            progress(name, done, extent)

    outgoing.content = compress(
        outgoing.content, preparation.compression, preparation.level, report
    )
    numbers = {name: number for number, name in COMPRESSIONS.items()}
    outgoing.kdh = changed_header(
        outgoing.kdh,
        compression=numbers[preparation.compression],
        dumplength=outgoing.size,
        dumpextent=extent,
    )


def _encrypt(outgoing: Outgoing, preparation: Preparation, public_key: Path) -> None:
    from ..dump.keys import DumpCipher, wrap_key  # an extra that other dumps do not need

    block = outgoing.header.blocksize
    one_time_key = preparation.random(ONE_TIME_KEY_SIZE)
    key = DumpKey(
        encryption_number(preparation.used_cipher),
        preparation.random(IV_SIZE),
        wrap_key(public_key, one_time_key),
    )
    if outgoing.compressed:  # the kernel encrypts the padding too
        outgoing.content = Padded(outgoing.content, block)
    outgoing.content = Encrypted(outgoing.content, DumpCipher(key, one_time_key))
    outgoing.key = key.pack(block)
    outgoing.kdh = changed_header(outgoing.kdh, dumpkeysize=len(outgoing.key))
