# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames from a network interface, on Linux, and the batches of datagrams in them.

The kernel writes frames into a ring of memory that is shared with this process (packet(7),
PACKET_RX_RING; the layouts are those of TPACKET_V3 in linux/if_packet.h). That takes one
system call for hundreds of frames, and never more memory than the ring.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import select
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..core.observing.batch import Batch, Bytes
from ..errors import CaptureError
from .datagrams import DatagramFinder
from .frames import Frames
from .link import ETHERNET, RAW_IP

_BLOCK_SIZE = 1 << 20
_BLOCKS = 32
_RETIRE_MILLISECONDS = 50  # a block that is not full is handed over after this time
_POLL_MILLISECONDS = 250
_LAST_POLL_MILLISECONDS = 4 * _RETIRE_MILLISECONDS

# linux/if_packet.h, linux/if_ether.h, linux/if_arp.h, asm-generic/socket.h
_SOL_PACKET = 263
_ADD_MEMBERSHIP, _RX_RING, _STATISTICS, _VERSION = 1, 5, 6, 10
_TPACKET_V3 = 2
_MR_PROMISC = 1
_ETH_P_ALL = 3
_ARPHRD_ETHER, _ARPHRD_LOOPBACK = 1, 772
_OUTGOING = 4
_OF_KERNEL, _OF_USER = 0, 1
_SO_ATTACH_FILTER = 26

_RING_REQUEST = struct.Struct("=7I")  # struct tpacket_req3
_MEMBERSHIP = struct.Struct("=iHH8x")  # struct packet_mreq
_STATISTICS_V3 = struct.Struct("=4xI4x")  # struct tpacket_stats_v3: the frames dropped
_BLOCK = struct.Struct("=8xIII")  # tpacket_block_desc: status, number and place of the frames
_STATUS, _STATUS_AT = struct.Struct("=I"), 8
_FRAME = struct.Struct("=5I4xH30xHB")  # struct tpacket3_hdr and, behind it, sockaddr_ll
_FRAME_SLOT = 2048  # must divide the block; frames of any size are packed all the same

# Instructions of the classic packet filter (linux/filter.h): code, jumps if true and false, k.
_LOAD_BYTE, _LOAD_HALF, _JUMP_IF_EQUAL, _RETURN = 0x30, 0x28, 0x15, 0x06
_DROP = (_RETURN, 0, 0, 0)
_KEEP = (_RETURN, 0, 0, 1 << 18)  # tcpdump's MAXIMUM_SNAPLEN
_NOTHING = (_DROP,)
# IPv4 only if UDP, all fragments included; IPv6 unless TCP, as UDP may stand behind extension
# headers; and whatever else the link layer may hide. Ports are left alone: fragments have none.
_MAYBE_UDP = (
    (_LOAD_HALF, 0, 0, 12),
    (_JUMP_IF_EQUAL, 0, 2, 0x0800),
    (_LOAD_BYTE, 0, 0, 14 + 9),
    (_JUMP_IF_EQUAL, 3, 4, socket.IPPROTO_UDP),
    (_JUMP_IF_EQUAL, 0, 2, 0x86DD),
    (_LOAD_BYTE, 0, 0, 14 + 6),
    (_JUMP_IF_EQUAL, 1, 0, socket.IPPROTO_TCP),
    _KEEP,
    _DROP,
)


class LiveFrame(NamedTuple):
    """A frame: seconds since 1970, its LINKTYPE_ number, its bytes, and its length on the wire."""

    time: float
    link: int
    frame: bytes
    original: int


class LiveCapture:
    """Iterates over the frames that an interface sends and receives, until ``stop``.

    ``problem`` says after the end, in one line, what ended the capture from outside.
    """

    problem: str | None = None

    def __init__(self, interface: str) -> None:
        """Begin to capture on ``interface``, promiscuously.

        Raises ``CaptureError`` without the privilege, without such an interface, when it is
        down, or on a system other than Linux.
        """
        self._stopping = False
        self._dropped = 0
        self._block = 0
        if not hasattr(socket, "AF_PACKET"):
            raise CaptureError(
                f"{interface}: live capture works on Linux only; here, pipe a capture in:"
                f" tcpdump -i {interface} -U -w - | netdump recover -"
            )
        try:
            self._socket, self.link = _open(interface)
            self._ring = mmap.mmap(self._socket.fileno(), _BLOCK_SIZE * _BLOCKS)
        except PermissionError:
            raise CaptureError(f"{interface}: live capture needs root or CAP_NET_RAW") from None
        except OSError as error:
            raise CaptureError(f"{interface}: {_explain(error.errno)}") from None

    def __enter__(self) -> LiveCapture:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[LiveFrame]:
        while (frames := self.read()) is not None:
            yield from frames

    @property
    def dropped(self) -> int:
        """Frames that the kernel had to drop as nobody took them in time."""
        if self._socket.fileno() >= 0:
            self._count_dropped()
        return self._dropped

    def _count_dropped(self) -> None:
        """Asking sets the kernel's count to 0."""
        statistics = self._socket.getsockopt(_SOL_PACKET, _STATISTICS, _STATISTICS_V3.size)
        self._dropped += _STATISTICS_V3.unpack(statistics)[0]

    def stop(self) -> None:
        """End the iteration when it has delivered what came up to now.

        Does nothing but to set a flag, so that a signal handler may call it.
        """
        self._stopping = True

    def close(self) -> None:
        """Give ring and socket back; harmless when repeated."""
        if self._socket.fileno() >= 0:
            self._count_dropped()
            self._ring.close()
            self._socket.close()

    def read(self) -> Sequence[LiveFrame] | None:
        """The next frames: none if there were none for a quarter of a second, None at the end."""
        ending = self._stopping or self.problem is not None
        if self._stopping:
            _attach_filter(self._socket, _NOTHING)
        if self._wait(_LAST_POLL_MILLISECONDS if ending else _POLL_MILLISECONDS):
            return self._take_block()
        return None if ending else ()

    def _wait(self, milliseconds: int) -> bool:
        """Whether the kernel has handed over the next block, within some time."""
        if self._block_is_ours():
            return True
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.poll(milliseconds)
        if error := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.problem = _explain(error)
        return self._block_is_ours()

    def _block_is_ours(self) -> bool:
        status, _, _ = _BLOCK.unpack_from(self._ring, self._block * _BLOCK_SIZE)
        return bool(status & _OF_USER)

    def _take_block(self) -> list[LiveFrame]:
        """The frames of the next block, copied; the block goes back to the kernel."""
        start = self._block * _BLOCK_SIZE
        _, count, first = _BLOCK.unpack_from(self._ring, start)
        frames = []
        position = start + first
        for _ in range(count):
            size, seconds, nanoseconds, captured, original, data, hardware, direction = (
                _FRAME.unpack_from(self._ring, position)
            )
            # A loopback interface shows each frame twice: on its way out, and in again.
            if not (hardware == _ARPHRD_LOOPBACK and direction == _OUTGOING):
                frame = self._ring[position + data : position + data + captured]
                frames.append(LiveFrame(seconds + nanoseconds * 1e-9, self.link, frame, original))
            position += size
        _STATUS.pack_into(self._ring, start + _STATUS_AT, _OF_KERNEL)
        self._block = (self._block + 1) % _BLOCKS
        return frames


def live_batches(capture: LiveCapture, finder: DatagramFinder) -> Iterator[Batch]:
    """The batches, until the capture ends; an empty one now and then while nothing comes."""
    while (frames := capture.read()) is not None:
        yield finder.find(*_joined(frames))


def _joined(frames: Sequence[LiveFrame]) -> tuple[Bytes, Frames]:
    rows = []
    start = 0
    for frame in frames:
        captured = len(frame.frame)
        rows.append((start, captured, frame.original, frame.time, frame.link))
        start += captured
    return np.frombuffer(b"".join(frame.frame for frame in frames), np.uint8), Frames.of(rows)


def _open(interface: str) -> tuple[socket.socket, int]:
    """A socket with a ring on ``interface``, and the link type of its frames.

    Link layers other than Ethernet are left out by the kernel (SOCK_DGRAM).
    """
    opened = _open_ring(interface, socket.SOCK_RAW)
    hardware = opened.getsockname()[3]
    if hardware in (_ARPHRD_ETHER, _ARPHRD_LOOPBACK):
        _attach_filter(opened, _MAYBE_UDP)
        return opened, ETHERNET
    opened.close()
    return _open_ring(interface, socket.SOCK_DGRAM), RAW_IP


def _open_ring(interface: str, kind: int) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, kind)
    try:
        opened.setsockopt(_SOL_PACKET, _VERSION, _TPACKET_V3)
        slots = _BLOCK_SIZE * _BLOCKS // _FRAME_SLOT
        request = (_BLOCK_SIZE, _BLOCKS, _FRAME_SLOT, slots, _RETIRE_MILLISECONDS, 0, 0)
        opened.setsockopt(_SOL_PACKET, _RX_RING, _RING_REQUEST.pack(*request))
        opened.bind((interface, _ETH_P_ALL))
        index = socket.if_nametoindex(interface)
        opened.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, _MEMBERSHIP.pack(index, _MR_PROMISC, 0))
        if error := opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(error, os.strerror(error))
    except BaseException:
        opened.close()
        raise
    return opened


def _attach_filter(to: socket.socket, program: Sequence[tuple[int, int, int, int]]) -> None:
    """Let only the frames pass that ``program`` keeps (struct sock_fprog, linux/filter.h)."""
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    to.setsockopt(
        socket.SOL_SOCKET,
        _SO_ATTACH_FILTER,
        struct.pack("@HP", len(program), ctypes.addressof(buffer)),
    )


def _explain(error: int | None) -> str:
    if error == errno.ENODEV:
        return "no such interface"
    if error == errno.ENETDOWN:
        return "the interface is down"
    return os.strerror(error or 0)
