# SPDX-License-Identifier: GPL-2.0-or-later
"""What the bytes of a vmcore tell of it, as far as they are here: how it is compressed, how long it
is, and whether what lies behind its end is padding."""

from __future__ import annotations

from ..kerneldump.header import GZIP_MAGIC, MAGIC_SIZE, DumpHeader, compression_number
from ..kerneldump.length import OwnLength, Read, gzip_stream_of, own_length
from .claims import Claims
from .extents import Extents


def own_claims(
    read: Read, vmcore: Extents, header: DumpHeader | None
) -> tuple[OwnLength | None, int | None]:
    """What the dump says of its own length, and how its first bytes are compressed, as a number of
    the header's: None for what is not known.

    ``header`` is the only one that is sound, if there is one. A gzip stream is unpacked to find
    its end, which takes long, only where that header and the trailer of the stream do not agree.
    """

    def known(start: int, end: int) -> bytes | None:
        return read(start, end) if vmcore.covers(start, end) else None

    magic = known(0, MAGIC_SIZE)
    packed_as = compression_number(magic) if magic else None
    own = None
    if header is not None and packed_as:
        if vmcore.end < header.dumplength:
            return None, packed_as  # not all of the stream is here
        if magic is not None and magic.startswith(GZIP_MAGIC):
            own = gzip_stream_of(known, header.dumplength, header.dumpextent)
    return own or own_length(known, vmcore.end), packed_as


def data_behind(read: Read, vmcore: Extents, claims: Claims) -> bool | None:
    """Whether anything but zeros came for where the padding of a dump is; None if there is no such
    place, or something there cannot be read. Each byte that is here counts, whatever is missing
    around it."""
    if claims.length is None:
        return None
    end = min(vmcore.end, claims.length + claims.padding)
    parts = [read(*part) for part in vmcore.present(claims.length, end)]
    if any(part.strip(b"\0") for part in parts if part):
        return True
    return None if None in parts else False
