# SPDX-License-Identifier: GPL-2.0-or-later
"""RSA keys and ciphers of encrypted dumps, computed by the package cryptography, an extra.

Load it only when there is something to encrypt or decrypt: the package is an extra.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..errors import NetdumpError
from ..formats import ENCRYPTIONS
from ..kerneldump.key import (
    AES,
    AES_BLOCK,
    CHACHA20,
    CHACHA20_BLOCK,
    CIPHER_KEY_SIZE,
    ONE_TIME_KEY_SIZE,
    DumpKey,
    EncryptionError,
    aes_iv,
    chacha20_carry,
    chacha20_nonce,
    pkcs1_v15_message,
)
from .cipher import Stream

try:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa
    from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
except ImportError:
    raise NetdumpError(
        "encrypted dumps need the Python package cryptography: pip install 'scapy-netdump[crypto]'"
    ) from None

#: As dumpon(8) wraps the one-time key; its hashes are those that RFC 8017 has by default.
_OAEP = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)
_OAEP_OVERHEAD = 2 * hashes.SHA1.digest_size + 2

Passphrase = Callable[[Path], bytes]


class DumpCipher:
    """The cipher of one dump: key blob and one-time key together."""

    def __init__(self, key: DumpKey, one_time_key: bytes) -> None:
        self.name = ENCRYPTIONS.get(key.encryption, "")
        if self.name not in (AES, CHACHA20):
            raise EncryptionError(f"dump key: unknown cipher, {key.encryption_name}")
        self._iv = key.iv
        self._key = one_time_key[:CIPHER_KEY_SIZE]

    def encrypting(self, offset: int, before: bytes = b"") -> Stream:
        """A stream that encrypts from ``offset`` on; for AES-256-CBC ``offset`` begins a block,
        and ``before`` are the 16 encrypted bytes in front of it, unless it is 0."""
        if self.name == CHACHA20:
            return _ChaCha20(self._key, self._iv, offset)
        return self._aes(before).encryptor()

    def decrypting(self, offset: int, before: bytes = b"") -> Stream:
        """A stream that decrypts from ``offset`` on; the rest as for ``encrypting``."""
        if self.name == CHACHA20:
            return _ChaCha20(self._key, self._iv, offset)
        return self._aes(before).decryptor()

    def _aes(self, before: bytes) -> Cipher[modes.CBC]:
        chained_to = before or aes_iv(self._iv)
        assert len(chained_to) == AES_BLOCK
        return Cipher(algorithms.AES(self._key), modes.CBC(chained_to))


class _ChaCha20:
    """The key stream from any offset on. The library counts up to 2^32 blocks, 256 GiB."""

    def __init__(self, key: bytes, iv: bytes, offset: int) -> None:
        self._key = key
        self._iv = iv
        self._offset = offset
        self._begin()

    def update(self, data: bytes) -> bytes:
        if self._offset + len(data) < self._carry:
            self._offset += len(data)
            return self._context.update(data)
        first = self._carry - self._offset
        done = self._context.update(data[:first])
        self._offset = self._carry
        self._begin()
        return done + self.update(data[first:])

    def _begin(self) -> None:
        self._carry = chacha20_carry(self._offset)
        nonce = chacha20_nonce(self._iv, self._offset)
        self._context: CipherContext = Cipher(
            algorithms.ChaCha20(self._key, nonce), None
        ).encryptor()
        self._context.update(bytes(self._offset % CHACHA20_BLOCK))


def wrap_key(path: Path, one_time_key: bytes) -> bytes:
    """The one-time key, encrypted with the RSA public key in a PEM file, as dumpon(8) does.

    The randomness of the padding is the library's. EncryptionError if the file has no such key.
    """
    try:
        public = serialization.load_pem_public_key(_read(path))
    except (ValueError, UnsupportedAlgorithm):
        raise EncryptionError(f"{path}: no RSA public key in PEM form") from None
    if not isinstance(public, rsa.RSAPublicKey):
        raise EncryptionError(f"{path}: a public key, but not of RSA")
    room = -(-public.key_size // 8) - _OAEP_OVERHEAD
    if room < len(one_time_key):
        raise EncryptionError(f"{path}: an RSA key of {public.key_size} bits is too small")
    return public.encrypt(one_time_key, _OAEP)


def load_private_key(path: Path, passphrase: Passphrase) -> rsa.RSAPrivateKey:
    """The RSA private key in a PEM file; ``passphrase`` is asked for the file's if it needs one.

    EncryptionError, which names the file, if there is none.
    """
    data = _read(path)
    key: object
    try:
        try:
            key = serialization.load_pem_private_key(data, None)
        except TypeError:  # it is encrypted
            key = _load_encrypted(path, data, passphrase(path))
    except (ValueError, UnsupportedAlgorithm):
        raise EncryptionError(f"{path}: no RSA private key in PEM form") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise EncryptionError(f"{path}: a private key, but not of RSA")
    return key


def unlocker(path: Path, passphrase: Passphrase) -> Callable[[DumpKey], DumpCipher]:
    """What opens the keys of dumps with the private key in a PEM file, which is loaded now.

    EncryptionError if there is no private key, and later if it is not the right one.
    """
    private = load_private_key(path, passphrase)
    return lambda key: DumpCipher(key, unwrap_key(key, private, str(path)))


def _load_encrypted(path: Path, data: bytes, passphrase: bytes) -> object:
    try:
        return serialization.load_pem_private_key(data, passphrase)
    except (ValueError, TypeError):  # TypeError: the passphrase is empty
        raise EncryptionError(f"{path}: wrong passphrase, or a damaged key") from None


def unwrap_key(key: DumpKey, private: rsa.RSAPrivateKey, name: str) -> bytes:
    """The one-time key in a key blob. ``name`` is the private key's, for messages.

    EncryptionError if the private key is not the one that belongs to it.
    """
    bits, needed = private.key_size, 8 * len(key.encryptedkey)
    if -(-bits // 8) * 8 != needed:
        raise EncryptionError(f"{name}: an RSA key of {bits} bits; the dump key needs {needed}")
    try:
        one_time_key: bytes | None = private.decrypt(key.encryptedkey, _OAEP)
    except ValueError:
        one_time_key = _unwrap_v15(key.encryptedkey, private)
    if one_time_key is None or len(one_time_key) != ONE_TIME_KEY_SIZE:
        raise EncryptionError(f"{name}: not the private key that this dump was encrypted for")
    return one_time_key


def _unwrap_v15(encrypted: bytes, private: rsa.RSAPrivateKey) -> bytes | None:
    """What old systems wrapped with PKCS#1 v1.5; None if it is not that.

    Computed here because the library answers wrong padding with random bytes, of which one
    answer in 250 has the right length. Nobody but the owner of the key can watch the time.
    """
    numbers = private.private_numbers()
    value = int.from_bytes(encrypted, "big")
    p, q = numbers.p, numbers.q
    at_p, at_q = pow(value, numbers.dmp1, p), pow(value, numbers.dmq1, q)
    plain = at_q + q * ((at_p - at_q) * numbers.iqmp % p)
    return pkcs1_v15_message(plain.to_bytes(len(encrypted), "big"))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise EncryptionError(f"{path}: cannot be read: {reason}") from None
