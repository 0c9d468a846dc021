# SPDX-License-Identifier: GPL-2.0-or-later
"""Ciphers of dumps: the bytes of the openssl command line, at any offset and around holes."""

import functools
import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from helpers.openssl import (
    AES,
    CHACHA20,
    PRIVATE_KEY,
    cipher,
    needs_openssl,
    openssl,
    public_key,
    unwrap,
    wrap,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from scapy_netdump.core.extents import Extents
from scapy_netdump.dump import cipher as encryption
from scapy_netdump.dump.cipher import Decrypted, Encrypted
from scapy_netdump.dump.keys import DumpCipher, load_private_key, unwrap_key, wrap_key
from scapy_netdump.errors import NetdumpError
from scapy_netdump.kerneldump.key import DumpKey, pkcs1_v15_message, undecryptable

ONE_TIME_KEY = hashlib.sha512(b"one-time key").digest()
IV = hashlib.sha256(b"iv").digest()
WINDOW = 256  # small, so that small data have many of them

ciphers = st.sampled_from([AES, CHACHA20])


class Bytes:
    """Bytes as Content."""

    def __init__(self, data: bytes, missing: list[tuple[int, int]] | None = None) -> None:
        self.data = data
        self.size = len(data)
        self.missing = missing or []

    def read(self, offset: int, size: int) -> bytes:
        return self.data[offset : offset + size]


def key_of(number: int) -> DumpKey:
    return DumpKey(number, IV, b"")


def dump_cipher(number: int) -> DumpCipher:
    return DumpCipher(key_of(number), ONE_TIME_KEY)


def plain_bytes(size: int) -> bytes:
    return hashlib.shake_128(b"plain").digest(size)


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encryption, "WINDOW", WINDOW)


@needs_openssl
@pytest.mark.parametrize("number", [AES, CHACHA20])
@pytest.mark.parametrize("size", [0, 16, WINDOW, 7 * WINDOW + 48])
def test_encrypted_and_decrypted_bytes_are_those_of_openssl(number: int, size: int) -> None:
    plain = plain_bytes(size)
    theirs = cipher(plain, key_of(number), ONE_TIME_KEY, "-e")
    assert Encrypted(Bytes(plain), dump_cipher(number)).read(0, size + 1) == theirs
    assert Decrypted(Bytes(theirs), dump_cipher(number)).read(0, size + 1) == plain


@given(ciphers, st.integers(0, 90), st.lists(st.tuples(*[st.integers(0, 1500)] * 2), max_size=6))
def test_any_part_in_any_order_is_that_of_the_whole(
    number: int, blocks: int, reads: list[tuple[int, int]]
) -> None:
    plain = plain_bytes(16 * blocks)
    whole = Encrypted(Bytes(plain), dump_cipher(number)).read(0, len(plain))
    encrypted = Encrypted(Bytes(plain), dump_cipher(number))
    decrypted = Decrypted(Bytes(whole), dump_cipher(number))
    for offset, size in reads:
        assert encrypted.read(offset, size) == whole[offset : offset + size]
        assert decrypted.read(offset, size) == plain[offset : offset + size]


@pytest.mark.parametrize("number", [AES, CHACHA20])
def test_reading_older_parts_again_does_not_disturb_newer_ones(number: int) -> None:
    plain = plain_bytes(8 * WINDOW)
    whole = Encrypted(Bytes(plain), dump_cipher(number)).read(0, len(plain))
    encrypted = Encrypted(Bytes(plain), dump_cipher(number))
    for index in (2, 0, 1, 3, 5, 0, 7, 4, 6):
        offset = index * WINDOW
        assert encrypted.read(offset, WINDOW) == whole[offset : offset + WINDOW]


holes = st.lists(st.tuples(st.integers(0, 1200), st.integers(1, 300)), max_size=5)


@given(ciphers, st.integers(0, 1000), holes, st.integers(0, 255))
@settings(max_examples=300)
def test_around_holes_all_that_is_reported_as_here_is_right_and_no_more_is_lost_than_must(
    number: int, size: int, holes: list[tuple[int, int]], rubbish: int
) -> None:
    plain = plain_bytes(size + -size % 16)
    encrypted = Encrypted(Bytes(plain), dump_cipher(number)).read(0, len(plain))[:size]
    lost = Extents()
    for start, length in holes:
        lost.add(start, min(start + length, size))
    damaged = bytearray(encrypted)
    for start, end in lost:
        damaged[start:end] = bytes([rubbish]) * (end - start)
    content = Decrypted(Bytes(bytes(damaged), list(lost)), dump_cipher(number))
    found = content.read(0, size)
    missing = Extents()
    for start, end in content.missing:
        assert start < end <= size
        missing.add(start, end)
    assert list(missing) == content.missing  # sorted, and apart
    for start, end in missing.missing(0, size):
        assert found[start:end] == plain[start:end]
    for position in range(size):
        assert missing.covers(position, position + 1) == cannot_be_had(number, lost, position, size)


def cannot_be_had(number: int, lost: Extents, position: int, size: int) -> bool:
    """Said byte by byte: what a byte of the plain text depends on."""
    if number == CHACHA20:
        return lost.overlaps(position, position + 1)
    block = position - position % 16
    return lost.overlaps(max(0, block - 16), block + 16) or block + 16 > size


@needs_openssl
def test_chacha20_goes_on_beyond_256_gib(monkeypatch: pytest.MonkeyPatch) -> None:
    """The counter's low half begins anew, and its high half counts."""
    carry = 64 << 32
    begin = carry - 100 - 64
    plain = plain_bytes(512)
    mine = dump_cipher(CHACHA20).encrypting(begin).update(plain)
    aligned = begin - begin % 64
    before = cipher(
        bytes(begin - aligned) + plain[: carry - begin],
        key_of(CHACHA20),
        ONE_TIME_KEY,
        "-e",
        aligned // 64,
    )
    after = cipher(plain[carry - begin :], key_of(CHACHA20), ONE_TIME_KEY, "-e", 1 << 32)
    assert mine == before[begin - aligned :] + after
    assert mine[164:] != dump_cipher(CHACHA20).encrypting(0).update(plain[164:])


@given(st.lists(st.integers(0, 300), max_size=5))
def test_chacha20_in_pieces_over_the_carry_is_that_of_one_piece(sizes: list[int]) -> None:
    begin = (64 << 32) - 250
    stream = dump_cipher(CHACHA20).encrypting(begin)
    pieces = b"".join(stream.update(bytes(size)) for size in sizes)
    assert pieces == dump_cipher(CHACHA20).encrypting(begin).update(bytes(sum(sizes)))


def test_an_unknown_cipher_is_named() -> None:
    with pytest.raises(NetdumpError, match=r"unknown \(9\)"):
        DumpCipher(key_of(9), ONE_TIME_KEY)


# ---------------------------------------------------------------- keys


#: Of these ciphertexts, one for which a library's random answer has 64 bytes.
UNLUCKY = 36


def no_passphrase(_: Path) -> bytes:
    raise AssertionError("not asked for")


@functools.cache
def private_key() -> RSAPrivateKey:
    return load_private_key(PRIVATE_KEY, no_passphrase)


@needs_openssl
def test_a_wrapped_key_is_unwrapped_by_openssl() -> None:
    assert unwrap(wrap_key(public_key(), ONE_TIME_KEY)) == ONE_TIME_KEY


@needs_openssl
@pytest.mark.parametrize("padding", ["oaep", "pkcs1"])
def test_a_key_that_openssl_wrapped_is_unwrapped(padding: str) -> None:
    key = DumpKey(CHACHA20, IV, wrap(ONE_TIME_KEY, padding=padding))
    assert unwrap_key(key, private_key(), "key") == ONE_TIME_KEY


@needs_openssl
@pytest.mark.parametrize("padding", ["oaep", "pkcs1"])
def test_a_one_time_key_of_another_length_is_refused(padding: str) -> None:
    key = DumpKey(CHACHA20, IV, wrap(ONE_TIME_KEY[:32], padding=padding))
    with pytest.raises(NetdumpError, match="not the private key"):
        unwrap_key(key, private_key(), "key")


@pytest.mark.parametrize("number", [*range(20), UNLUCKY])
def test_any_other_ciphertext_is_refused_and_never_taken_for_a_key(number: int) -> None:
    """Libraries answer wrong v1.5 padding with random bytes, now and then 64 of them."""
    wrapped = hashlib.shake_128(b"no key %d" % number).digest(256)
    with pytest.raises(NetdumpError, match="not the private key"):
        unwrap_key(DumpKey(CHACHA20, IV, wrapped), private_key(), "key")


@given(st.binary(max_size=40), st.integers(8, 30))
def test_v15_padding(message: bytes, length: int) -> None:
    padded = b"\0\2" + b"x" * length + b"\0" + message
    assert pkcs1_v15_message(padded) == message
    assert pkcs1_v15_message(b"\0\1" + padded[2:]) is None
    assert pkcs1_v15_message(b"\0\2" + b"x" * 7 + b"\0" + message) is None
    assert pkcs1_v15_message(b"\0\2" + b"x" * length) is None


@needs_openssl
@pytest.mark.parametrize("form", [("-aes256",), ("-aes256", "-traditional")])
def test_a_private_key_with_a_passphrase(tmp_path: Path, form: tuple[str, ...]) -> None:
    path = tmp_path / "locked.pem"
    openssl("rsa", "-in", str(PRIVATE_KEY), *form, "-passout", "pass:secret", "-out", str(path))
    private = load_private_key(path, lambda _: b"secret")
    assert private.key_size == 2048
    for wrong in (b"wrong", b""):
        with pytest.raises(NetdumpError, match="wrong passphrase"):
            load_private_key(path, lambda _, wrong=wrong: wrong)


@needs_openssl
def test_files_that_hold_no_such_key_are_refused_in_one_line(tmp_path: Path) -> None:
    curve = tmp_path / "curve.pem"
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(curve))
    curve_public = tmp_path / "curve-public.pem"
    openssl("pkey", "-in", str(curve), "-pubout", "-out", str(curve_public))
    cut = tmp_path / "cut.pem"
    cut.write_bytes(PRIVATE_KEY.read_bytes()[:500])
    empty = tmp_path / "empty.pem"
    empty.touch()
    for path in (curve, cut, empty, public_key(), tmp_path / "none", tmp_path):
        with pytest.raises(NetdumpError, match=path.name) as caught:
            load_private_key(path, no_passphrase)
        assert "\n" not in str(caught.value)
    for path in (curve_public, cut, empty, PRIVATE_KEY, tmp_path / "none", tmp_path):
        with pytest.raises(NetdumpError, match=path.name):
            wrap_key(path, ONE_TIME_KEY)


@needs_openssl
def test_a_modulus_of_another_size_is_named(tmp_path: Path) -> None:
    path = tmp_path / "larger.pem"
    openssl("genrsa", "-out", str(path), "3072")
    private = load_private_key(path, no_passphrase)
    with pytest.raises(NetdumpError, match="3072 bits; the dump key needs 2048"):
        unwrap_key(DumpKey(AES, IV, bytes(256)), private, "larger.pem")


def test_holes_that_nothing_is_lost_by() -> None:
    assert list(undecryptable("aes-256-cbc", [], 64)) == []
    assert list(undecryptable("aes-256-cbc", [(64, 80)], 64)) == []
    assert list(undecryptable("chacha20", [(64, 80)], 64)) == []
