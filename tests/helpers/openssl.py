# SPDX-License-Identifier: GPL-2.0-or-later
"""Encryption with the openssl command line, to compare with: another implementation's bytes."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from helpers.places import PCAPS

from scapy_netdump.formats import ENCRYPTIONS
from scapy_netdump.kerneldump.key import DumpKey

AES, CHACHA20 = 1, 2
PRIVATE_KEY = PCAPS / "test-rsa2048.pem"

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


def openssl(*arguments: str, data: bytes = b"") -> bytes:
    return subprocess.run(
        ["openssl", *arguments], input=data, capture_output=True, check=True
    ).stdout


def cipher(data: bytes, key: DumpKey, one_time_key: bytes, direction: str, block: int = 0) -> bytes:
    """`data` encrypted (-e) or decrypted (-d) as the manual page of enc has it; `block` is the
    ChaCha20 block to begin at."""
    if key.encryption == AES:
        name, iv = "-aes-256-cbc", key.iv[:16]
    else:
        name, iv = "-chacha20", block.to_bytes(8, "little") + key.iv[:8]
    assert ENCRYPTIONS[key.encryption].startswith(name[1:4])
    secret = one_time_key[:32].hex()
    return openssl(
        "enc", name, direction, "-K", secret, "-iv", iv.hex(), "-nopad", "-nosalt", data=data
    )


def wrap(one_time_key: bytes, private_key: Path = PRIVATE_KEY, padding: str = "oaep") -> bytes:
    """The one-time key as dumpon(8) wraps it (oaep), or did once (pkcs1)."""
    return openssl(
        *("pkeyutl", "-encrypt", "-inkey", str(private_key), "-pkeyopt"),
        f"rsa_padding_mode:{padding}",
        data=one_time_key,
    )


def unwrap(wrapped: bytes, private_key: Path = PRIVATE_KEY) -> bytes:
    arguments = ("-inkey", str(private_key), "-pkeyopt", "rsa_padding_mode:oaep")
    return openssl("pkeyutl", "-decrypt", *arguments, data=wrapped)


@functools.cache
def public_key(private_key: Path = PRIVATE_KEY) -> Path:
    path = Path(tempfile.mkdtemp(prefix="netdump-test-")) / "public.pem"
    openssl("pkey", "-in", str(private_key), "-pubout", "-out", str(path))
    return path
