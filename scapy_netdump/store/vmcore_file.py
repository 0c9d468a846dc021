# SPDX-License-Identifier: GPL-2.0-or-later
"""A vmcore on disk, sparse, each byte written where it belongs.

A dump of a gigabyte comes in 740,000 pieces that lie scattered in the capture. One
pwritev(2) takes a thousand of them straight from there; it is called through ctypes
because Python's own wants an object for each piece.
"""

from __future__ import annotations

import ctypes
import errno
import os

import numpy as np
import numpy.typing as npt

from ..core.extents import Extents
from ..core.observing.batch import Bytes, Ints
from .directory import Directory
from .preallocation import Preallocation
from .writer import Writer

_MAX_PIECES = os.sysconf("SC_IOV_MAX")

_pwritev = ctypes.CDLL(None, use_errno=True).pwritev
_pwritev.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_int64)
_pwritev.restype = ctypes.c_ssize_t

#: A struct iovec (sys/uio.h) a row: address and length.
Pieces = npt.NDArray[np.uintp]


def pieces_of(buffer: Bytes, positions: Ints, lengths: Ints) -> Pieces:
    """The pieces of ``buffer`` at some positions, which point into it: hold it as long."""
    pieces = np.empty((len(positions), 2), np.uintp)
    np.add(positions, buffer.ctypes.data, out=pieces[:, 0], casting="unsafe")
    pieces[:, 1] = lengths
    return pieces


def write_pieces(descriptor: int, pieces: Pieces, offset: int) -> None:
    """Write pieces one after the other from ``offset`` on. OSError if that fails."""
    while len(pieces):
        count = min(len(pieces), _MAX_PIECES)
        written = _pwritev(descriptor, pieces.ctypes.data, count, offset)
        if written <= 0:
            number = ctypes.get_errno() if written < 0 else errno.ENOSPC
            if number != errno.EINTR:
                raise OSError(number, os.strerror(number))
            continue
        offset += written
        pieces = _rest(pieces, count, written)


class VmcoreFile:
    """The storage of an observed vmcore (core/observing/batch.py): the file ``name``.

    The file comes into being with its first byte: a dump without data leaves none.
    """

    def __init__(self, directory: Directory, name: str, writer: Writer) -> None:
        self._directory = directory
        self._name = name
        self._writer = writer
        self._created = False
        self._preallocation = Preallocation()

    def write(self, buffer: Bytes, positions: Ints, lengths: Ints, offset: int) -> None:
        """Store pieces of ``buffer`` one after the other from ``offset`` on."""
        if not self._created:
            self._created = True
            self._writer.add(self._create)
        pieces = pieces_of(buffer, positions, lengths)
        self._writer.add(lambda: self._write(pieces, offset, buffer))

    def put(self, start: int, data: bytes) -> None:
        """Store ``data`` at ``start``."""
        buffer = np.frombuffer(data, np.uint8)
        self.write(buffer, np.zeros(1, np.int64), np.array([len(data)]), start)

    def read(self, start: int, end: int) -> bytes:
        """The bytes of ``[start, end)``; zeros where nothing was stored."""
        if not self._created:
            return bytes(end - start)
        self._writer.drain()
        descriptor = self._descriptor()
        return os.pread(descriptor, end - start, start).ljust(end - start, b"\0")

    def finish(self, extents: Extents) -> None:
        """Nothing more is coming; ``extents`` is all that was stored."""
        if self._created:
            self._writer.add(lambda: self._give_back(extents))

    def rename(self, name: str) -> None:
        """Call the file otherwise, if there is one; when all that was added is written."""
        self._writer.forget(self._directory, self._name)
        if self._created and name != self._name:
            self._directory.rename(self._name, name)
        self._name = name

    def remove(self) -> None:
        """Remove the file, if there is one; when all that was added is written."""
        self._writer.forget(self._directory, self._name)
        self._directory.unlink(self._name)
        self._created = False

    def _write(self, pieces: Pieces, offset: int, _owner: Bytes) -> None:
        """``_owner`` is held so that the memory which the pieces point into stays."""
        descriptor = self._descriptor()
        self._preallocation.before_write(descriptor, offset, int(pieces[:, 1].sum()))
        try:
            write_pieces(descriptor, pieces, offset)
        except OSError as error:
            path = str(self._directory.path / self._name)
            raise OSError(error.errno, error.strerror, path) from None

    def _create(self) -> None:
        os.close(self._directory.create(self._name))

    def _descriptor(self) -> int:
        return self._writer.descriptor(self._directory, self._name)

    def _give_back(self, extents: Extents) -> None:
        descriptor = self._descriptor()
        self._preallocation.give_back(descriptor, extents.missing(0, extents.end))
        os.ftruncate(descriptor, extents.end)  # frees the blocks beyond the end


def _rest(pieces: Pieces, count: int, written: int) -> Pieces:
    """What is left to write after ``written`` bytes of the first ``count`` pieces."""
    ends = np.cumsum(pieces[:count, 1])
    whole = int(np.searchsorted(ends, written, "right"))
    rest = pieces[whole:]
    if whole < count:
        part = np.uintp(written - (int(ends[whole - 1]) if whole else 0))
        rest[0, 0] += part
        rest[0, 1] -= part
    return rest
