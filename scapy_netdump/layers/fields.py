# SPDX-License-Identifier: GPL-2.0-or-later
"""Kinds of Scapy fields that netdump needs and Scapy lacks; imports Scapy."""

from collections.abc import Sequence
from typing import cast

from scapy.fields import LongField, StrFixedLenField, StrNullField, XIntField
from scapy.packet import Packet

from ..text import utc_date


class CStringField(StrFixedLenField):
    """A char array: NULs that fill it up are not part of the value."""

    def m2i(self, pkt: Packet | None, x: bytes) -> bytes:
        return x.rstrip(b"\0")


class MagicField(CStringField):
    """A char array that should hold one of a few values, the first by default."""

    __slots__ = ["known"]

    def __init__(self, name: str, known: Sequence[bytes], length: int) -> None:
        super().__init__(name, known[0], length)
        self.known = known

    def i2repr(self, pkt: Packet | None, v: bytes) -> str:
        shown = super().i2repr(pkt, v)
        return shown if v is None or self.is_known(v) else f"{shown} [unknown]"

    def is_known(self, value: bytes | None) -> bool:
        """Whether C would find a known string in the array."""
        return value is not None and value.partition(b"\0")[0] in self.known


class ParityField(XIntField):
    """The checksum of a layer that has `parity_ok`; shown with that verdict."""

    def i2repr(self, pkt: Packet | None, x: int | None) -> str:
        shown = super().i2repr(pkt, cast(int, x))
        if x is None or pkt is None:
            return shown
        return f"{shown} [{'pass' if pkt.parity_ok else 'fail'}]"


class DumpTimeField(LongField):
    """Seconds since 1970; shown as a date too."""

    def i2repr(self, pkt: Packet | None, x: int) -> str:
        return f"{x} ({utc_date(x)})" if isinstance(x, int) else super().i2repr(pkt, x)


class PathField(StrNullField):
    """A path with its NUL, or nothing at all.

    What lacks its NUL is no path to a server, and is left to the payload.
    """

    def addfield(self, pkt: Packet, s: bytes, val: bytes | None) -> bytes:
        return super().addfield(pkt, s, val) if val else s

    def getfield(self, pkt: Packet, s: bytes) -> tuple[bytes, bytes]:
        path, nul, rest = s.partition(b"\0")
        return (rest, path) if path and nul else (s, b"")
