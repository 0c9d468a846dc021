# SPDX-License-Identifier: GPL-2.0-or-later
"""Decoding of key blobs without Scapy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.errors import NetdumpError
from scapy_netdump.kerneldump.key import DumpKey
from scapy_netdump.layers import KernelDumpKey

BLOB = bytes(KernelDumpKey(encryption="chacha20", iv=b"i" * 32, encryptedkey=b"k" * 256))


def test_zeros_up_to_the_block_are_not_part_of_the_key() -> None:
    key = DumpKey.unpack(BLOB + bytes(4096 - len(BLOB)))
    assert key == DumpKey(encryption=2, iv=b"i" * 32, encryptedkey=b"k" * 256)
    assert key.encryption_name == "chacha20"


@given(st.integers(0, len(BLOB) - 1))
def test_a_key_that_is_cut_is_refused(size: int) -> None:
    with pytest.raises(NetdumpError, match="dump key: "):
        DumpKey.unpack(BLOB[:size])


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_are_refused(data: bytes) -> None:
    try:
        key = DumpKey.unpack(data)
    except NetdumpError:
        return
    assert data[1:33] == key.iv
    assert key.encryptedkey in data


def test_the_secret_stays_out_of_the_repr() -> None:
    assert "kkkk" not in repr(DumpKey.unpack(BLOB))


def test_an_unknown_cipher_has_its_number() -> None:
    assert DumpKey.unpack(b"\x09" + BLOB[1:]).encryption_name == "unknown (9)"
