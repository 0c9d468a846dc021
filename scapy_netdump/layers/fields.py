# SPDX-License-Identifier: GPL-2.0-or-later
"""What the layers of netdump are made of: kinds of fields that Scapy lacks, and what all layers
have in common."""

from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias, cast

from scapy.fields import (
    AnyField,
    LongField,
    PacketListField,
    StrFixedLenField,
    StrLenField,
    StrNullField,
    XIntField,
)
from scapy.packet import Packet, Raw

from ..text import utc_date

Described: TypeAlias = tuple[AnyField, str]
# What mysummary() returns: text, and the layers below whose own text stands before it.
# Scapy's annotation knows the text only.
Summary: TypeAlias = Any


def described(*fields: Described) -> tuple[list[AnyField], dict[str, str]]:
    """Splits (field, meaning) pairs into Scapy's `fields_desc` and a map of name to meaning."""
    return [field for field, _ in fields], {field.name: meaning for field, meaning in fields}


def fixed_size(field: AnyField) -> int:
    """Bytes that a field always takes on the wire; 0 if that depends on the packet."""
    variable = isinstance(field, (StrLenField, StrNullField, PacketListField))
    return 0 if variable else cast(int, field.sz)


def offset_of(layer: type[Packet], name: str) -> int:
    """Where a field begins in its layer, in bytes; the fields before it have a fixed size."""
    names = [field.name for field in layer.fields_desc]
    return sum(map(fixed_size, layer.fields_desc[: names.index(name)]))


class _Layer(Packet):
    """A layer that may have been cut anywhere by a snap length, and still dissects."""

    meanings: ClassVar[dict[str, str]] = {}

    def do_dissect(self, s: bytes) -> bytes:
        """Takes the fields that are there whole; the others are None, the rest is payload."""
        rest = s
        for position, field in enumerate(self.fields_desc):
            if len(rest) < fixed_size(field):
                cut = self.fields_desc[position:]
                self.fields.update((missing.name, None) for missing in cut)
                break
            rest, self.fields[field.name] = field.getfield(self, rest)
        self.raw_packet_cache = s[: len(s) - len(rest)]
        self.raw_packet_cache_fields = {}
        self.explicit = 1
        return rest

    def guess_payload_class(self, payload: bytes) -> type[Packet]:
        """As bound; but what is left of a layer that was cut is no other layer."""
        cut = self.fields.get(self.fields_desc[-1].name, b"") is None
        return Raw if cut else super().guess_payload_class(payload)


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
