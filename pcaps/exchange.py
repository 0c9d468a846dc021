# SPDX-License-Identifier: GPL-2.0-or-later
"""What a client and its server say to each other, as Scapy packets from IP up.

Imports Scapy, the layers, and the machine whose dump it is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt
from scapy.packet import Packet, Raw
from synthetic_dump import Machine

from scapy_netdump import KernelDumpHeader, Netdump, NetdumpAck, NetdumpHerald

KERNEL_PAYLOAD = 1448  # MTU 1500 less the headers of IPv4, UDP and netdump
_HERALD: Packet = UDP() / Netdump(type="HERALD")  # on the ports that the layers give it


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A client on its way to a server, which took ``server_port`` for the dump."""

    address: str = "192.0.2.2"
    port: int = _HERALD.sport
    server: str = "192.0.2.1"
    server_port: int = 41885

    def announces(self, herald: Netdump) -> Packet:
        """A packet to the port where a server waits for HERALDs."""
        return self._sends(_HERALD.dport, herald)

    def sends(self, message: Packet) -> Packet:
        """A packet to the dump's own port."""
        return self._sends(self.server_port, message)

    def receives(self, ack: Packet) -> Packet:
        """A packet from the dump's own port."""
        udp = UDP(sport=self.server_port, dport=self.port)
        return _ip(self.server, self.address) / udp / ack

    def exchange(self, messages: Iterable[Netdump]) -> list[Packet]:
        """The messages, each followed by its ack."""
        packets = []
        for message in messages:
            send = self.announces if message.type == _HERALD.type else self.sends
            packets += [send(message), self.receives(NetdumpAck(seqno=message.seqno))]
        return packets

    def _sends(self, port: int, payload: Packet) -> Packet:
        return _ip(self.address, self.server) / UDP(sport=self.port, dport=port) / payload


def _ip(source: str, destination: str) -> Packet:
    """A header as the kernel client makes it; its IPv6 is ours, and has an extension header."""
    if ":" in source:
        return IPv6(src=source, dst=destination) / IPv6ExtHdrDestOpt()
    return IP(src=source, dst=destination, ttl=255, flags="DF", id=0)


def data_messages(dump: bytes, payload: int = KERNEL_PAYLOAD) -> list[Netdump]:
    """The dump in VMCORE messages, not numbered yet."""
    return [
        Netdump(type="VMCORE", offset=offset) / Raw(dump[offset : offset + payload])
        for offset in range(0, len(dump), payload)
    ]


def dump_messages(
    dump: bytes, kdh: KernelDumpHeader, *, path: bytes = b"", payload: int = KERNEL_PAYLOAD
) -> list[Netdump]:
    """All messages of a dump in the order of the kernel client: the header follows the data."""
    herald = Netdump(type="HERALD") / NetdumpHerald(path=path)
    last = [Netdump(type="KDH") / kdh, Netdump(type="FINISHED")]
    return numbered([herald, *data_messages(dump, payload), *last])


def kernel_messages(
    machine: Machine, *, path: bytes = b"", payload: int = KERNEL_PAYLOAD
) -> list[Netdump]:
    """All messages of a machine's plain dump."""
    return dump_messages(machine.vmcore, machine.kdh(), path=path, payload=payload)


def numbered(messages: Sequence[Netdump], first: int = 1) -> list[Netdump]:
    """The messages with sequence numbers that rise by one."""
    for seqno, message in enumerate(messages, first):
        message.seqno = seqno
    return list(messages)


def interleaved(*streams: Sequence[Packet]) -> list[Packet]:
    """Streams of equal length at once, a packet of each in turn."""
    return list(chain.from_iterable(zip(*streams, strict=True)))
