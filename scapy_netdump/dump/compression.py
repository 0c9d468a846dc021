# SPDX-License-Identifier: GPL-2.0-or-later
"""Compressing a vmcore as the kernel does. Imports zlib, and zstandard when it is needed.

sys/kern/subr_compressor.c writes one gzip member, or one Zstandard frame with a checksum
and without the size of its content.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import NetdumpError, StoreError
from .content import Content

#: kern.kerneldump_gzlevel, which both kinds go by.
DEFAULT_LEVEL = 6

LEVELS = {"gzip": range(1, 10), "zstd": range(1, 23)}

_PIECE = 1 << 20
_GZIP_WBITS = 31  # zlib.h, deflateInit2: the largest window, a gzip header and trailer


class CompressionError(NetdumpError):
    """A compression that is not to be had."""


def compress(
    content: Content,
    compression: str,
    level: int | None,
    path: Path,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write ``content``, compressed with gzip or zstd, to a new file at ``path``.

    ``progress`` is told how many bytes of the content are done. CompressionError for what
    is unknown, StoreError if there is no room.
    """
    compressor = _compressor(compression, DEFAULT_LEVEL if level is None else level)
    try:
        with path.open("xb") as file:
            for offset in range(0, content.size, _PIECE):
                file.write(compressor.compress(content.read(offset, _PIECE)))
                if progress is not None:
                    progress(min(offset + _PIECE, content.size))
            file.write(compressor.flush())
    except OSError as error:
        raise StoreError(
            f"{path.parent}: no place for the compressed dump: {error.strerror}; "
            "TMPDIR says where to put it"
        ) from None


def _compressor(compression: str, level: int) -> Any:
    levels = LEVELS.get(compression)
    if levels is None:
        raise CompressionError(f"{compression}: not a compression of kernel dumps")
    if level not in levels:
        raise CompressionError(f"{compression} has levels {levels[0]} to {levels[-1]}, not {level}")
    if compression == "gzip":
        return zlib.compressobj(level, zlib.DEFLATED, _GZIP_WBITS)
    return _zstd_compressor(level)


def _zstd_compressor(level: int) -> Any:
    try:
        import zstandard  # an extra, and 20 ms that other dumps need not spend
    except ImportError:
        raise CompressionError(
            "compressing with zstd needs the Python package zstandard: "
            "pip install 'scapy-netdump[zstd]'; gzip needs none"
        ) from None
    return zstandard.ZstdCompressor(level=level, write_checksum=True).compressobj()
