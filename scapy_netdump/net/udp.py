# SPDX-License-Identifier: GPL-2.0-or-later
"""UDP sockets as a bulk sender or receiver wants them.

Linux joins and splits datagrams on request (udp(7): UDP_GRO, UDP_SEGMENT; the module socket
does not name them); elsewhere each datagram is a call of its own, or many are one (many.py).
Imports its neighbour.
"""

from __future__ import annotations

import errno
import socket
import sys

from ..wire import Buffer
from .many import ManySender, can_send

# include/uapi/linux/udp.h and include/uapi/asm-generic/socket.h
_SOL_UDP = 17
_UDP_SEGMENT = 103
_UDP_GRO = 104
_SO_RCVBUFFORCE = 33

#: What one send takes: UDP_MAX_SEGMENTS datagrams, and no more than an IPv4 datagram's size.
_MAX_SEGMENTS = 64
_MAX_BYTES = 65_507

#: So few are sent faster by a call each than by one of many.py.
_FEW = 2

#: A system that cannot split says one of these: no checksum offload, no such path, too small
#: an MTU on the way.
_CANNOT_SPLIT = {errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.EOPNOTSUPP, errno.ENOPROTOOPT}

#: Reports that are no reason to stop: ICMP errors of earlier datagrams, and full buffers.
PASSING_ERRORS = frozenset(
    {errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN}
    | {errno.EPROTO, errno.ENOPROTOOPT, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN, errno.EINTR}
)

Address = tuple[str, int] | tuple[str, int, int, int]


def join_received(sock: socket.socket) -> bool:
    """Have one receive return many datagrams of the same sender and size; False if it cannot."""
    if sys.platform != "linux":
        return False
    try:
        sock.setsockopt(_SOL_UDP, _UDP_GRO, 1)
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


class Splitter:
    """Sends datagrams that stand end to end, many in one call where the system can do that."""

    def __init__(self, sock: socket.socket, able: bool = True) -> None:
        """`able` False sends each by itself, whatever the system can do."""
        self._socket = sock
        self._able = able and sys.platform == "linux"
        self._size = 0  # that the socket splits at now
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
        step = min(_MAX_SEGMENTS, _MAX_BYTES // size) * size if self._able else 0
        if total <= size or step <= size:
            self._send_each(view, size, address)
            return
        for start in range(0, total, step):
            part = view[start : start + step]
            try:
                self._split_at(size)
                self._put(part, address)
            except OSError as error:
                if error.errno not in _CANNOT_SPLIT:
                    raise
                self._give_up_splitting()
                self._send_each(view[start:], size, address)
                return

    def _split_at(self, size: int) -> None:
        if size != self._size:
            self._socket.setsockopt(_SOL_UDP, _UDP_SEGMENT, size)
            self._size = size

    def _give_up_splitting(self) -> None:
        self._able = False
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
