# SPDX-License-Identifier: GPL-2.0-or-later
"""UDP sockets as a bulk sender or receiver wants them.

Linux joins and splits datagrams on request (udp(7): UDP_GRO, UDP_SEGMENT; the module socket
does not name them). Where it does not, many go through one call: recvmmsg(2) and sendmmsg(2),
which the module socket does not have. Elsewhere each datagram is a call of its own.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

from ..wire import Buffer

# include/uapi/linux/udp.h and include/uapi/asm-generic/socket.h
SOL_UDP = 17
_UDP_SEGMENT = 103
UDP_GRO = 104
_SO_RCVBUFFORCE = 33

#: What one send takes: UDP_MAX_SEGMENTS datagrams, and no more than an IPv4 datagram's size.
_MAX_SEGMENTS = 64
_MAX_BYTES = 65_507

#: The most datagrams that one call of recvmmsg or sendmmsg takes.
MOST = 64

#: What a UDP datagram holds at most.
MAX_DATAGRAM = 65_535

#: Sizes that datagrams are expected to have at a time; more than a few are rare.
_MOST_SIZES = 8

#: So few are sent faster by a call each than by one of sendmmsg.
_FEW = 2

#: A system that cannot split says one of these: no checksum offload, no such path, too small
#: an MTU on the way.
_CANNOT_SPLIT = {errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.EOPNOTSUPP, errno.ENOPROTOOPT}

#: It is tried again after so many sends at most: what is too large for the way now (an ICMP error
#: says so, perhaps a forged one), need not be for ever.
_MOST_PAUSE = 1 << 14

Address = tuple[str, int] | tuple[str, int, int, int]


def join_received(sock: socket.socket) -> bool:
    """Have one receive return many datagrams of the same sender and size; False if it cannot."""
    if sys.platform != "linux":
        return False
    try:
        sock.setsockopt(SOL_UDP, UDP_GRO, 1)
    except OSError:
        return False
    return True


def ask_for_buffer(sock: socket.socket, size: int) -> int:
    """Ask for a receive buffer of `size` bytes, beyond the system's limit where allowed; returns
    what was got. (Linux reports twice as many, for its own needs: socket(7).)"""
    if sys.platform == "linux":
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
        except OSError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
    while size > 1 << 14:  # the BSDs refuse what is too much instead of giving what they can
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
            break
        except OSError:
            size //= 2
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def split_sizes(size: int, each: int) -> list[int]:
    """The sizes of the datagrams in ``size`` bytes that were joined at ``each``, of which the last
    one may be shorter; 0 if none were."""
    if not 0 < each < size:
        return [size]
    whole, rest = divmod(size, each)
    return [each] * whole + ([rest] if rest else [])


class Splitter:
    """Sends datagrams that stand end to end, many in one call where the system can do that."""

    def __init__(self, sock: socket.socket, able: bool = True) -> None:
        """`able` False sends each by itself, whatever the system can do."""
        self._socket = sock
        self._able = able and sys.platform == "linux"
        self._size = 0  # that the socket splits at now
        self._pause = 1  # sends that are not split after the next one that could not be
        self._rest = 0  # of them
        self._many: ManySender | None = None

    def send(self, datagrams: Buffer, size: int, address: Address | None = None) -> None:
        """Send them, each of `size` bytes but the last, which may be shorter.

        None: to where the socket is connected. OSError as sendto(2); then the rest was not sent.
        """
        total = len(datagrams)
        if total <= size and (not self._size or size <= self._size):  # there is nothing to split
            self._put(datagrams, address)
            return
        view = memoryview(datagrams)
        step = min(_MAX_SEGMENTS, _MAX_BYTES // size) * size if self._may_split() else 0
        if total <= size or step <= size:
            self._send_each(view, size, address)
            return
        for start in range(0, total, step):
            part = view[start : start + step]
            try:
                self._split_at(size)
                self._put(part, address)
                self._pause = 1
            except OSError as error:
                if error.errno not in _CANNOT_SPLIT:
                    raise
                self._stop_splitting()
                self._send_each(view[start:], size, address)
                return

    def _split_at(self, size: int) -> None:
        if size != self._size:
            self._socket.setsockopt(SOL_UDP, _UDP_SEGMENT, size)
            self._size = size

    def _may_split(self) -> bool:
        self._rest = max(0, self._rest - 1)
        return self._able and not self._rest

    def _stop_splitting(self) -> None:
        """For a while, which is longer each time in a row."""
        self._rest, self._pause = self._pause, min(2 * self._pause, _MOST_PAUSE)
        self._split_at(0)

    def _send_each(self, view: memoryview, size: int, address: Address | None) -> None:
        if self._size and size > self._size:
            self._split_at(0)
        whole = 0
        if can_send and address is None and len(view) > _FEW * size:
            if self._many is None or self._many.size != size:
                self._many = ManySender(self._socket, size)
            whole = len(view) // size * size
            self._many.send(view[:whole])
        for start in range(whole, len(view), size):
            self._put(view[start : start + size], address)

    def _put(self, data: Buffer, address: Address | None) -> None:
        if address is None:
            self._socket.send(data)
        else:
            self._socket.sendto(data, address)


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


class _Control(ctypes.Structure):
    """struct cmsghdr and the int behind it, cmsg(3): what udp(7) says of datagrams it joined."""

    _fields_ = (
        ("length", ctypes.c_size_t),
        ("level", ctypes.c_int),
        ("type", ctypes.c_int),
        ("value", ctypes.c_int),
        ("rest", ctypes.c_int),
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
        self._controls: Any = ()
        self.address = ctypes.addressof(self._datagrams)
        step = ctypes.sizeof(_Datagram) // 4
        self.came = (
            memoryview(self._datagrams).cast("B").cast("I")[_Datagram.came.offset // 4 :: step]
        )

    def ask_for_sizes(self) -> None:
        """Have the system say what it joined; to be called before each time that it receives."""
        if not self._controls:
            self._controls = (_Control * len(self._datagrams))()
            for datagram, control in zip(self._datagrams, self._controls, strict=True):
                datagram.message.control = ctypes.addressof(control)
            words = memoryview(self._datagrams).cast("B").cast("P")
            size = ctypes.sizeof(ctypes.c_size_t)
            first = (_Datagram.message.offset + _Message.control_size.offset) // size
            self._control_sizes = words[first :: ctypes.sizeof(_Datagram) // size]
            room = [ctypes.sizeof(_Control)] * len(self._datagrams)
            self._room = memoryview((ctypes.c_size_t * len(room))(*room)).cast("B").cast("P")
        self._control_sizes[:] = self._room

    def joined_at(self, place: int) -> int:
        """The size of the datagrams that were joined to the one received; 0 for none."""
        control = self._controls[place]
        told = self._control_sizes[place] >= _Control.value.offset + _Control.value.size
        ours = (control.level, control.type) == (SOL_UDP, UDP_GRO)
        return int(control.value) if told and ours else 0


class ReceiveBuffer:
    """Room for what sockets receive, one after the other; ``view`` is all of it.

    Many datagrams that are expected to have one size come in one call, end to end, from a
    connected socket that does not block: 46 in one call take half the time of 46 calls.
    """

    #: For MOST datagrams, however long they are.
    ROOM = MOST * MAX_DATAGRAM

    def __init__(self, room: int = ROOM) -> None:
        self.view = memoryview(mmap.mmap(-1, room))
        #: Whether `receive` can be used.
        self.takes_many = can_receive and room >= self.ROOM
        self._longer = mmap.mmap(-1, room)  # where longer datagrams go on: rarely touched
        self._slots: dict[int, _Slots] = {}

    def receive(self, descriptor: int, size: int) -> list[int]:
        """The sizes of the datagrams that have come, ``size`` expected; OSError as recv(2)."""
        assert _recvmmsg is not None
        slots = self._slots.get(size) or self._expect(size)
        slots.ask_for_sizes()
        count = _checked(_recvmmsg(descriptor, slots.address, MOST, 0, None))
        sizes = slots.came[:count].tolist()
        if sizes.count(size) == count - (sizes[-1] < size):
            return sizes
        self._close_up(sizes, size)
        exact: list[int] = []
        for place, length in enumerate(sizes):
            exact += split_sizes(length, slots.joined_at(place))
        return exact

    def _expect(self, size: int) -> _Slots:
        here = ctypes.addressof(ctypes.c_char.from_buffer(self.view))
        there = ctypes.addressof(ctypes.c_char.from_buffer(self._longer))
        if len(self._slots) >= _MOST_SIZES:
            self._slots.clear()
        self._slots[size] = slots = _Slots(
            [
                [(here + place * size, size), (there + place * MAX_DATAGRAM, MAX_DATAGRAM - size)]
                for place in range(MOST)
            ]
        )
        return slots

    def _close_up(self, sizes: list[int], expected: int) -> None:
        """Move datagrams of other sizes together, so that they stand end to end."""
        parts: list[bytes] = []
        for place, size in enumerate(sizes):
            start, longer = place * expected, place * MAX_DATAGRAM
            parts.append(self.view[start : start + min(size, expected)].tobytes())
            parts.append(self._longer[longer : longer + max(0, size - expected)])
        data = b"".join(parts)
        self.view[: len(data)] = data


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
