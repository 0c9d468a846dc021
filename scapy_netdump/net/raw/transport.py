# SPDX-License-Identifier: GPL-2.0-or-later
"""A transport that needs no address of the host: it sends frames, as a panicking kernel does.

Scapy tells it of interfaces and routes.
"""

from __future__ import annotations

import errno
import fcntl
import select
import socket
import struct
import time
from contextlib import ExitStack

import scapy.route  # noqa: F401 - fills conf.route
from scapy.arch import get_if_addr
from scapy.config import conf

from ...formats import ACK_PORT
from ...wire import HEADER_SIZE, Buffer
from ..transport import OUR_FAULTS, TransportError
from ..udp import ask_for_buffer
from .frames import Ends, FrameBuilder, FrameReader, arp_answer, arp_reply, arp_request

# linux/if_ether.h, linux/if_arp.h, linux/sockios.h
_ETH_P_IP, _ETH_P_ARP = 0x0800, 0x0806
_ARPHRD_ETHER = 1
_SIOCGIFMTU = 0x8921
_MTU_REQUEST = struct.Struct("16si20x")  # struct ifreq (net/if.h), with ifr_mtu

_IP_AND_UDP_SIZE = 20 + 8
_RECEIVE_BUFFER = 4 << 20
_FRAME_SIZE = 1 << 16
_FRAMES_AT_ONCE = 1024  # that are taken before the caller has a look
_NOBODY = "0.0.0.0"


class RawTransport:
    """The way to a dump server over an Ethernet interface. A `Transport`.

    ``client`` is the address to send from, by default the interface's; the host need not
    own it, as ARP requests for it are answered here. ``gateway`` is asked for the way if the
    server itself does not answer ARP; by default that of the host's route. Each is asked
    ``arp_retries`` times and has ``arp_wait`` seconds to answer (netdump(4):
    net.netdump.arp_retries; polls of 0.5 ms, 2000 of them).
    """

    def __init__(
        self,
        interface: str,
        server: str,
        client: str = "",
        gateway: str = "",
        *,
        port: int = ACK_PORT,
        arp_retries: int = 3,
        arp_wait: float = 1.0,
    ) -> None:
        self.server = _address(server)
        self.trouble = ""
        self._interface, self._wait = interface, arp_wait
        with ExitStack() as opened:
            self._ip = opened.enter_context(_packet_socket(interface, _ETH_P_IP))
            self._arp = opened.enter_context(_packet_socket(interface, _ETH_P_ARP))
            self._hardware = self._ip.getsockname()[4].hex(":")
            self.mtu_payload = _mtu(self._ip, interface) - _IP_AND_UDP_SIZE - HEADER_SIZE
            self._ends = Ends(_own_address(interface, client), self.server, port)
            reserved = _reserve(self._ends)
            self._host_answers_arp = reserved is not None
            if reserved is not None:
                opened.enter_context(reserved)
            next_hop = self._find_way(gateway, max(1, arp_retries))
            self._opened = opened.pop_all()
        self._reader = FrameReader(self._ends)
        self._builder = FrameBuilder(self._ends, self._hardware, next_hop)

    def close(self) -> None:
        self._opened.close()

    def send(self, datagrams: Buffer, size: int, port: int) -> None:
        view = memoryview(datagrams)
        for start in range(0, len(view), size):
            self._send(self._ip, self._builder.frame(view[start : start + size], port))

    def _send(self, through: socket.socket, frame: bytes) -> None:
        try:
            through.send(frame)
        except OSError as error:
            self.trouble = f"{self._interface}: {error.strerror}"
            if error.errno in OUR_FAULTS:
                raise TransportError(self.trouble) from None

    def receive(self, timeout: float) -> list[tuple[bytes, int]]:
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._ip, self._arp], [], [], max(0.0, left))
            if self._arp in ready:
                self._answer_arp(self._take(self._arp))
            found = self._read(self._take(self._ip)) if self._ip in ready else []
            if found or left <= 0:
                return found

    def _take(self, opened: socket.socket) -> list[bytes]:
        """The frames that are here by now."""
        frames: list[bytes] = []
        try:
            while len(frames) < _FRAMES_AT_ONCE:
                frames.append(opened.recv(_FRAME_SIZE, socket.MSG_DONTWAIT))
        except BlockingIOError:
            pass
        except OSError as error:  # told once: the interface went down
            self.trouble = f"{self._interface}: {error.strerror}"
        return frames

    def _read(self, frames: list[bytes]) -> list[tuple[bytes, int]]:
        found = []
        for frame in frames:
            datagram = self._reader.datagram(frame)
            if datagram is not None:
                found.append(datagram)
            else:
                self.trouble = self._reader.trouble(frame) or self.trouble
        return found

    def _answer_arp(self, frames: list[bytes]) -> None:
        """Tell who asks where we are, as the kernel does while it waits for acks."""
        for frame in frames:
            reply = arp_reply(frame, self._hardware, self._ends.client)
            if reply and not self._host_answers_arp:
                self._send(self._arp, reply)

    def _find_way(self, gateway: str, tries: int) -> str:
        """The hardware address of the server, or of the gateway if the server does not answer."""
        if not gateway:
            _, _, gateway = conf.route.route(self.server, dev=self._interface, verbose=0)
        targets = [self.server, _address(gateway)]
        for target in targets:
            for _ in range(tries if target != _NOBODY else 0):
                if (found := self._ask(target)) is not None:
                    return found
        asked = " and the gateway ".join(t for t in targets if t != _NOBODY)
        raise TransportError(
            f"{self._interface}: no ARP answer from {asked}, asked {tries} times each as"
            f" {self._ends.client}; check the addresses and the cable, or name a gateway (-g)"
        )

    def _ask(self, target: str) -> str | None:
        self._send(self._arp, arp_request(self._hardware, self._ends.client, target))
        deadline = time.monotonic() + self._wait
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self._arp], [], [], left)[0]:
                break
            frames = self._take(self._arp)
            self._answer_arp(frames)
            for frame in frames:
                if (found := arp_answer(frame, target)) is not None:
                    return found
        return None


def _packet_socket(interface: str, protocol: int) -> socket.socket:
    """Receives the frames of one protocol that arrive at the interface, and sends any."""
    if not hasattr(socket, "AF_PACKET"):
        raise TransportError(f"{interface}: frames can be sent on Linux only; leave out -i")
    try:
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    except PermissionError:
        raise TransportError(
            f"{interface}: frames can be sent by root or with CAP_NET_RAW only; leave out -i to"
            " send from a UDP socket"
        ) from None
    try:
        ask_for_buffer(opened, _RECEIVE_BUFFER)
        opened.bind((interface, protocol))
        if opened.getsockname()[3] != _ARPHRD_ETHER:
            raise TransportError(f"{interface}: not an Ethernet interface; leave out -i")
    except OSError as error:
        opened.close()
        absent = error.errno == errno.ENODEV
        raise TransportError(
            f"{interface}: {'no such interface' if absent else error.strerror}"
        ) from None
    except TransportError:
        opened.close()
        raise
    return opened


def _address(host: str) -> str:
    """The IPv4 address of a host: netdump over frames of our own has no other."""
    try:
        return str(socket.gethostbyname(host))
    except (OSError, UnicodeError):
        raise TransportError(f"{host}: no IPv4 address by this name; check the name") from None


def _own_address(interface: str, client: str) -> str:
    address = _address(client) if client else str(get_if_addr(interface))
    if address == _NOBODY:
        raise TransportError(f"{interface}: has no IPv4 address; say which to use (-c CLIENT)")
    return address


def _mtu(opened: socket.socket, interface: str) -> int:
    request = _MTU_REQUEST.pack(interface.encode(), 0)
    _, mtu = _MTU_REQUEST.unpack(fcntl.ioctl(opened, _SIOCGIFMTU, request))
    return int(mtu)


def _reserve(ends: Ends) -> socket.socket | None:
    """Take the port of the host, if the address is one of the host's.

    Its system would tell the server that the port is unreachable, which ends a dump with the
    reference server (PROTOCOL.md, its fault 5). Nothing is read from this socket.
    """
    reserved = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        reserved.bind((ends.client, ends.port))
    except OSError as error:
        reserved.close()
        if error.errno == errno.EADDRNOTAVAIL:
            return None
        raise TransportError(
            f"{ends.client} port {ends.port}: {error.strerror}; end the program that has it"
        ) from None
    return reserved
