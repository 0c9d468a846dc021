# SPDX-License-Identifier: GPL-2.0-or-later
"""The generated files are fresh, and the two decoders that come of one definition agree."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.all import IntField, Raw

from scapy_netdump import formats, generate, wire
from scapy_netdump.kerneldump.header import DumpHeader
from scapy_netdump.kerneldump.key import DumpKey
from scapy_netdump.layers import (
    KernelDumpHeader,
    KernelDumpKey,
    Netdump,
    NetdumpAck,
    NetdumpAcks,
    NetdumpMessages,
)
from scapy_netdump.layers import messages as message_layers

u8, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (8, 32, 64))
messages = st.builds(
    lambda kind, seqno, offset, aux2, payload: bytes(
        Netdump(type=kind, seqno=seqno, offset=offset, aux2=aux2) / Raw(payload)
    ),
    st.sampled_from(sorted(formats.MESSAGE_TYPES)),
    u32,
    u64,
    u32,
    st.binary(max_size=600),
)


def test_generated_files_are_fresh() -> None:
    assert generate.stale() == [], f"run python -m {generate.__name__}"


def test_a_change_of_a_field_makes_them_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = [*Netdump.fields_desc[:-1], IntField("renamed", 0)]
    monkeypatch.setattr(Netdump, "fields_desc", fields)
    monkeypatch.setitem(Netdump.meanings, "renamed", "Scratch.")
    assert set(generate.stale()) == {generate.FORMATS, generate.DISSECTOR, generate.README}


def test_a_change_of_a_meaning_makes_what_shows_it_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Netdump.meanings, "seqno", "Scratch.")
    assert set(generate.stale()) == {generate.DISSECTOR, generate.README}


def test_check_says_what_is_stale_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate.main(["--check"]) == 0
    before = generate.README.read_text()
    monkeypatch.setitem(Netdump.meanings, "seqno", "Scratch.")
    assert generate.main(["--check"]) == 1
    assert "README.md is stale" in capsys.readouterr().out
    assert generate.README.read_text() == before


def test_the_field_tables_are_replaced_where_they_stand() -> None:
    readme = f"# Title\n\n{generate.BEGIN}\nold\n{generate.END}\n\nMore.\n"
    replaced = generate.readme_with_section(readme)
    assert replaced == f"# Title\n\n{generate.readme_section()}\n\nMore.\n"
    assert generate.readme_with_section(replaced) == replaced


def test_sizes_of_the_formats_are_those_of_the_c_structs() -> None:
    assert struct.calcsize(formats.NETDUMP_FORMAT) == 24
    assert {struct.calcsize(layout) for layout, _ in formats.KDH_LAYOUTS.values()} == {512}


@given(messages)
def test_both_decoders_agree_on_a_message(data: bytes) -> None:
    packet = Netdump(data)
    (found,) = wire.messages(data)
    names = ("type", "seqno", "offset", "len")
    assert [getattr(found, name) for name in names] == [getattr(packet, name) for name in names]
    assert data[found.start : found.end] == bytes(packet.payload)


@given(messages)
def test_names_of_fields_stand_in_the_order_of_the_format(data: bytes) -> None:
    packet = Netdump(data)
    values = struct.unpack_from(formats.NETDUMP_FORMAT, data)
    assert {name: packet.getfieldval(name) for name in formats.NETDUMP_FIELDS} == dict(
        zip(formats.NETDUMP_FIELDS, values, strict=True)
    )


@given(st.lists(messages, min_size=2, max_size=5))
def test_both_decoders_agree_on_a_super_frame(parts: list[bytes]) -> None:
    data = b"".join(parts)
    packets = Netdump(data)[NetdumpMessages].messages
    assert [(m.type, m.seqno, m.offset, m.len) for m in wire.messages(data)] == [
        (p.type, p.seqno, p.offset, p.len) for p in packets
    ]


@given(st.lists(u32, min_size=1, max_size=20))
def test_both_codecs_agree_on_acks(seqnos: list[int]) -> None:
    data = b"".join(map(wire.ack, seqnos))
    assert data == bytes(NetdumpAcks(acks=[NetdumpAck(seqno=n) for n in seqnos]))
    assert wire.acks(data) == tuple(ack.seqno for ack in NetdumpAcks(data).acks)


@given(
    header=st.builds(
        KernelDumpHeader,
        version=st.integers(0, 9),
        dumplength=u64,
        dumptime=u64,
        blocksize=u32,
        hostname=st.text(max_size=15),
        panicstring=st.binary(max_size=40),
        parity=st.none() | u32,
    )
)
def test_both_decoders_agree_on_a_kernel_dump_header(header: KernelDumpHeader) -> None:
    data = bytes(header)
    packet, plain = KernelDumpHeader(data), DumpHeader.unpack(data)
    assert (plain.parity_ok, plain.magic_ok) == (packet.parity_ok, packet.magic_ok)
    for field in packet.fields_desc:
        value = packet.getfieldval(field.name)
        if field.name == "unused":
            continue
        if isinstance(value, bytes):
            value = value.partition(b"\0")[0].decode(errors="backslashreplace")
        assert getattr(plain, field.name) == value


@given(u8, st.binary(min_size=32, max_size=32), st.binary(max_size=300))
def test_both_decoders_agree_on_a_key(encryption: int, iv: bytes, encryptedkey: bytes) -> None:
    blob = bytes(KernelDumpKey(encryption=encryption, iv=iv, encryptedkey=encryptedkey))
    assert DumpKey.unpack(blob + bytes(100)) == DumpKey(encryption, iv, encryptedkey)


def test_enums_are_the_layers_enums() -> None:
    assert formats.MESSAGE_TYPES == message_layers.MESSAGE_TYPES
    assert {getattr(formats, word): word for word in message_layers.MESSAGE_TYPES.values()} == (
        message_layers.MESSAGE_TYPES
    )
