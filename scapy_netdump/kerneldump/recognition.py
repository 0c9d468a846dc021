# SPDX-License-Identifier: GPL-2.0-or-later
"""What a vmcore is, by its first bytes. Imports nothing."""

from __future__ import annotations

#: What compressed data begins with: RFC 1952, section 2.3.1; RFC 8878, section 3.1.1.
GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
MAGIC_SIZE = len(ZSTD_MAGIC)

#: KERNELDUMP_COMP_* by that.
_COMPRESSIONS = {GZIP_MAGIC: 1, ZSTD_MAGIC: 2}

#: KERNELDUMP_*_VERSION in sys/sys/kerneldump.h, where it is not 1.
_ARCHITECTURE_VERSIONS = {"amd64": 2, "i386": 2}


def architecture_version(architecture: str) -> int:
    """The version of the dump format that the kernel claims on an architecture."""
    return _ARCHITECTURE_VERSIONS.get(architecture, 1)


def compression_number(head: bytes) -> int:
    """How a vmcore that begins with ``head`` is compressed, as the header has it; 0 if not."""
    return next((number for magic, number in _COMPRESSIONS.items() if head.startswith(magic)), 0)
