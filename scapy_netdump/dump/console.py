# SPDX-License-Identifier: GPL-2.0-or-later
"""The console text in a dump's plain content, whatever is left of it, and the files of a textdump
(textdump(4))."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ..errors import NetdumpError
from ..kerneldump.contents import HEAD_SIZE, Contents
from ..kerneldump.msgbuf import STRUCT_SIZE, MessageBuffer, console_text, find_msgbufs
from ..kerneldump.regions import Range, without
from ..kerneldump.textdump import BLOCK, MAX_SIZE, forward
from .content import Content

#: Bytes searched at a time for a message buffer that nothing points to.
_PIECE = 1 << 20

#: The message buffer is among the first pages of a minidump, and the kernel's own memory,
#: where a full dump has it, is among the lowest.
_SEARCHED = 1 << 33

_TEXT_FILE = "msgbuf.txt"


class NoConsoleError(NetdumpError):
    """No message buffer was found."""


def head_of(content: Content) -> bytes:
    """The first bytes of a dump, up to the first hole."""
    size = min(HEAD_SIZE, content.size, *(start for start, _ in content.missing[:1]))
    return content.read(0, size)


class Console(str):
    """What the console showed last, the oldest text first; ``bytes_missing`` of it are marked."""

    bytes_missing: int

    def __new__(cls, text: str, bytes_missing: int) -> Console:
        """The text, of which so many bytes are missing."""
        console = super().__new__(cls, text)
        console.bytes_missing = bytes_missing
        return console


def console_of(content: Content, contents: Contents) -> Console:
    """The console text in a dump, of which ``contents`` tells what it is. NoConsoleError if
    there is none."""
    if contents.kind == "textdump":
        return _text_file(content)
    buffer = _where_it_belongs(content, contents) or _searched(content, contents)
    if buffer is None:
        reason = contents.note or "its message buffer is missing"
        raise NoConsoleError(f"{contents.kind}: no console text found: {reason}")
    pieces = list(_pieces(content, buffer.in_order()))
    missing = sum(piece for piece in pieces if isinstance(piece, int))
    return Console(console_text(pieces), missing)


def _where_it_belongs(content: Content, contents: Contents) -> MessageBuffer | None:
    """The ring of a minidump. Where it begins is not known if its struct is missing: then the
    text is given as it stands."""
    region, minidump = contents.region("message buffer"), contents.minidump
    if region is None or minidump is None:
        return None
    at = region.start + minidump.msgbufsize
    if _is_there(content, at, min(at + STRUCT_SIZE, region.end)):
        struct = content.read(at, min(STRUCT_SIZE, region.end - at))
        described = MessageBuffer.described_by(struct, 0, region.start, minidump.byte_order)
        if described is not None and described.size <= minidump.msgbufsize:
            return described
    if region.missing(content.missing) == [(region.start, region.end)]:
        return None
    return MessageBuffer(region.start, min(minidump.msgbufsize, region.size), None)


def _searched(content: Content, contents: Contents) -> MessageBuffer | None:
    """The first message buffer in a dump that does not tell where it is: the struct stands
    right behind its ring."""
    known = contents.minidump or contents.core
    orders = (known.byte_order,) if known is not None else ("<", ">")
    for start in range(0, min(content.size, _SEARCHED), _PIECE):
        if not _any_there(content, start, start + _PIECE):
            continue
        data = content.read(start, _PIECE + STRUCT_SIZE)
        for order in orders:
            for at in find_msgbufs(data, order):
                found = MessageBuffer.described_by(data, at, 0, order)
                if found is not None and found.size <= start + at:
                    return MessageBuffer(start + at - found.size, found.size, found.write_at)
    return None


def _text_file(content: Content) -> Console:
    if content.size > MAX_SIZE:
        raise NoConsoleError(f"textdump: {content.size} bytes are too many for one")
    for file in text_files(content.read(0, content.size)):
        if file.name == _TEXT_FILE:
            return Console(console_text([file.data]), 0)
    raise NoConsoleError(f"textdump: it has no {_TEXT_FILE}")


def _pieces(content: Content, ranges: Iterable[Range]) -> Iterator[bytes | int]:
    """The bytes of some ranges, and for each hole in them its size."""
    for start, end in ranges:
        position = start
        for present_start, present_end in without(start, end, content.missing):
            if position < present_start:
                yield present_start - position
            yield content.read(present_start, present_end - present_start)
            position = present_end
        if position < end:
            yield end - position


def _is_there(content: Content, start: int, end: int) -> bool:
    return start < end and list(without(start, end, content.missing)) == [(start, end)]


def _any_there(content: Content, start: int, end: int) -> bool:
    missing: Sequence[Range] = content.missing
    return any(True for _ in without(start, min(end, content.size), missing))


class TextFile(NamedTuple):
    """A file in a textdump: its name as it stands there, and its bytes."""

    name: str
    data: bytes


def text_files(data: bytes) -> Iterator[TextFile]:
    """The files in a textdump, whichever way round it is, up to the first that is damaged.

    The kernel ends the archive without the two empty blocks that tar wants.
    """
    archive = io.BytesIO(forward(data) + bytes(2 * BLOCK))
    try:
        with tarfile.open(fileobj=archive, mode="r:", errors="backslashreplace") as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isreg() else None
                if file is not None:
                    yield TextFile(member.name, file.read())
    except (tarfile.TarError, EOFError, ValueError):
        return
