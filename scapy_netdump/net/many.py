# SPDX-License-Identifier: GPL-2.0-or-later
"""Many datagrams in one call: recvmmsg(2) and sendmmsg(2), which the module socket does not have.

Linux only. For connected sockets that do not block, where several datagrams are expected: 46 in
one call take half the time of 46 calls. Standard library only.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import socket
import sys
from collections.abc import Callable

#: The most that one call takes.
MOST = 64

#: What a UDP datagram holds at most.
MAX_DATAGRAM = 65_535


class _Piece(ctypes.Structure):
    """struct iovec, readv(2)."""

    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class _Message(ctypes.Structure):
    """struct msghdr, recvmsg(2)."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_uint32),
        ("pieces", ctypes.c_void_p),
        ("piece_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Datagram(ctypes.Structure):
    """struct mmsghdr, recvmmsg(2)."""

    _fields_ = (("message", _Message), ("came", ctypes.c_uint32))


def _function(name: str, *arguments: type) -> Callable[..., int] | None:
    """A function of the system's C library; None if it has no such."""
    if sys.platform != "linux":
        return None
    try:
        function = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (OSError, AttributeError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, *arguments)
    return function  # type: ignore[no-any-return]


_recvmmsg = _function("recvmmsg", ctypes.c_void_p)
_sendmmsg = _function("sendmmsg")
can_receive = _recvmmsg is not None
can_send = _sendmmsg is not None


def _checked(count: int) -> int:
    if count < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return count


class _Slots:
    """What the system is told: where each of MOST datagrams is or goes, in so many pieces."""

    def __init__(self, each: list[list[tuple[int, int]]]) -> None:
        pieces = [_Piece(*piece) for parts in each for piece in parts]
        self._pieces = (_Piece * len(pieces))(*pieces)  # kept: the system is told their address
        self._datagrams = (_Datagram * len(each))()
        place = ctypes.addressof(self._pieces)
        for datagram, parts in zip(self._datagrams, each, strict=True):
            datagram.message.pieces, datagram.message.piece_count = place, len(parts)
            place += len(parts) * ctypes.sizeof(_Piece)
        self.address = ctypes.addressof(self._datagrams)
        step = ctypes.sizeof(_Datagram) // 4
        self.came = (
            memoryview(self._datagrams).cast("B").cast("I")[_Datagram.came.offset // 4 :: step]
        )


class ManyReceiver:
    """Receives datagrams that are expected to have one size into one buffer, end to end."""

    def __init__(self, sock: socket.socket, buffer: memoryview) -> None:
        """The buffer has room for MOST datagrams, however long they are."""
        self._descriptor = sock.fileno()
        self.buffer = buffer
        self._longer = mmap.mmap(
            -1, MOST * MAX_DATAGRAM
        )  # what is longer goes on here: rarely touched
        self._size = 0
        self._slots = _Slots([])

    def receive(self, size: int) -> list[int]:
        """The sizes of the datagrams that have come, `size` expected; OSError as recv(2)."""
        if size != self._size:
            self._expect(size)
        assert _recvmmsg is not None
        slots = self._slots
        count = _checked(_recvmmsg(self._descriptor, slots.address, MOST, 0, None))
        sizes = slots.came[:count].tolist()
        if sizes.count(size) < count - (sizes[-1] < size):
            self._close_up(sizes)
        return sizes

    def _expect(self, size: int) -> None:
        here = ctypes.addressof(ctypes.c_char.from_buffer(self.buffer))
        there = ctypes.addressof(ctypes.c_char.from_buffer(self._longer))
        self._slots = _Slots(
            [
                [(here + place * size, size), (there + place * MAX_DATAGRAM, MAX_DATAGRAM - size)]
                for place in range(MOST)
            ]
        )
        self._size = size

    def _close_up(self, sizes: list[int]) -> None:
        """Move datagrams of other sizes together, so that they stand end to end."""
        expected = self._size
        parts: list[bytes] = []
        for place, size in enumerate(sizes):
            start, longer = place * expected, place * MAX_DATAGRAM
            parts.append(self.buffer[start : start + min(size, expected)].tobytes())
            parts.append(self._longer[longer : longer + max(0, size - expected)])
        data = b"".join(parts)
        self.buffer[: len(data)] = data


class ManySender:
    """Sends datagrams of one size that stand end to end, to where the socket is connected."""

    def __init__(self, sock: socket.socket, size: int) -> None:
        self._descriptor = sock.fileno()
        self.size = size
        self._data = (ctypes.c_char * (MOST * size))()
        start = ctypes.addressof(self._data)
        self._slots = _Slots([[(start + place * size, size)] for place in range(MOST)])

    def send(self, datagrams: memoryview) -> None:
        """Send them all; OSError as sendto(2), then the rest was not sent."""
        assert _sendmmsg is not None
        size, start = self.size, 0
        while start < len(datagrams):
            part = datagrams[start : start + MOST * size].tobytes()
            ctypes.memmove(self._data, part, len(part))
            count = len(part) // size
            start += size * _checked(_sendmmsg(self._descriptor, self._slots.address, count, 0))
