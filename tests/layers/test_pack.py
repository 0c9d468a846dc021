# SPDX-License-Identifier: GPL-2.0-or-later
"""Encoding of dump headers and keys without Scapy: the same bytes as the layers make."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.errors import NetdumpError
from scapy_netdump.formats import KDH_LAYOUTS
from scapy_netdump.kerneldump.header import (
    HEADER_SIZE,
    DumpHeader,
    changed_header,
    pack_header,
    text_room,
)
from scapy_netdump.kerneldump.key import DumpKey
from scapy_netdump.layers import KernelDumpHeader, KernelDumpKey
from scapy_netdump.layers.kerneldump import header_layout

u8, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (8, 32, 64))
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=10)

fields = {
    "architecture": st.sampled_from(["amd64", "aarch64", ""]),
    "architectureversion": u32,
    "dumplength": u64,
    "dumptime": u64,
    "dumpkeysize": u32,
    "blocksize": u32,
    "hostname": texts,
    "versionstring": texts,
    "panicstring": texts,
    "compression": u8,
    "dumpextent": u64,
}


@st.composite
def headers(draw: st.DrawFn) -> dict[str, int | str]:
    """A version, and a value for each field that it has."""
    version = draw(st.sampled_from(sorted(KDH_LAYOUTS)))
    names = KDH_LAYOUTS[version][1]
    values = {name: draw(values) for name, values in fields.items() if name in names}
    return {"version": version, **values}


@given(headers())
def test_a_packed_header_is_what_the_layers_make(values: dict[str, int | str]) -> None:
    version = values["version"]
    data = pack_header(**values)
    assert data == bytes(header_layout(version)(**values))
    assert len(data) == HEADER_SIZE
    header = DumpHeader.unpack(data)
    assert header.valid
    assert {name: getattr(header, name) for name in values} == values


@given(headers(), st.binary(min_size=4, max_size=4))
def test_a_change_mends_the_parity(values: dict, parity: bytes) -> None:
    data = pack_header(**values)
    assert changed_header(data[:-4] + parity) == data


@given(headers(), st.sampled_from(["hostname", "versionstring", "panicstring", "architecture"]))
def test_a_text_that_just_fits_is_read_back_whole(values: dict, name: str) -> None:
    data = pack_header(**values)
    text = "x" * text_room(data, name)
    changed = DumpHeader.unpack(changed_header(data, **{name: text.encode()}))
    assert changed.valid
    before = DumpHeader.unpack(data).as_dict()
    assert {**changed.as_dict(), "parity": 0} == {**before, name: text, "parity": 0}


@given(headers(), u64)
def test_a_changed_number_changes_nothing_but_itself_and_the_parity(
    values: dict, length: int
) -> None:
    data = pack_header(**values)
    changed = DumpHeader.unpack(changed_header(data, dumplength=length))
    assert changed.valid
    before = DumpHeader.unpack(data).as_dict()
    assert {**changed.as_dict(), "parity": 0} == {**before, "dumplength": length, "parity": 0}


def test_bytes_that_are_no_text_survive_a_change_of_a_number() -> None:
    data = bytes(KernelDumpHeader(hostname=b"\xff\0junk", panicstring=b"p" * 175, unused=b"abcd"))
    assert changed_header(data, dumplength=0) == data


def test_strings_are_cut_like_the_kernels() -> None:
    header = DumpHeader.unpack(pack_header(hostname="h" * 99, panicstring="p" * 175))
    assert (header.hostname, header.panicstring) == ("h" * 63, "p" * 174)


def test_what_is_left_out_is_empty_and_the_magic_a_kernel_dumps() -> None:
    header = DumpHeader.unpack(pack_header())
    assert (header.version, header.magic, header.hostname) == (4, "FreeBSD Kernel Dump", "")
    assert header.valid


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"version": 2, "compression": 1}, "version 2 has no compression"),
        ({"dumplength": 1 << 64}, "does not fit"),
        ({"dumplength": -1}, "does not fit"),
        ({"nonsense": 1}, "has no nonsense"),
    ],
)
def test_values_that_fit_in_no_header_are_refused(values: dict, message: str) -> None:
    with pytest.raises(NetdumpError, match=message):
        pack_header(**values)


def test_a_change_of_a_field_that_is_not_there_is_refused() -> None:
    with pytest.raises(NetdumpError, match="version 1 has no compression"):
        changed_header(pack_header(version=1), compression=2)


@given(u8, st.binary(min_size=32, max_size=32), st.binary(max_size=300))
def test_a_packed_key_is_what_the_layers_make(encryption: int, iv: bytes, wrapped: bytes) -> None:
    key = DumpKey(encryption, iv, wrapped)
    blob = bytes(KernelDumpKey(encryption=encryption, iv=iv, encryptedkey=wrapped))
    assert key.pack() == blob


@given(st.binary(max_size=600), st.sampled_from([1, 16, 512, 4096]))
def test_a_key_is_padded_with_zeros_to_the_block_and_no_further(wrapped: bytes, block: int) -> None:
    key = DumpKey(2, bytes(32), wrapped)
    blob, padded = key.pack(), key.pack(block)
    assert padded[: len(blob)] == blob
    assert not any(padded[len(blob) :])
    assert len(padded) % block == 0
    assert len(padded) - len(blob) < block
    assert DumpKey.unpack(padded) == key
