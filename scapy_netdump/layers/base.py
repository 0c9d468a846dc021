# SPDX-License-Identifier: GPL-2.0-or-later
"""What all layers of netdump have in common; imports Scapy."""

from typing import Any, ClassVar, TypeAlias, cast

from scapy.fields import AnyField, PacketListField, StrLenField, StrNullField
from scapy.packet import Packet, Raw

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
