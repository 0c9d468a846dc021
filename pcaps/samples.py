# SPDX-License-Identifier: GPL-2.0-or-later
"""The samples: the table at the end says what each shows, a function above makes it.

Imports Scapy, the layers, and its neighbours.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from capture_files import START, ethernet, linux_cooked, pcap, pcapng_section
from exchange import (
    Client,
    data_messages,
    dump_messages,
    interleaved,
    kernel_messages,
    numbered,
)
from scapy.layers.inet import IP
from scapy.layers.l2 import Dot1AD, Dot1Q
from scapy.packet import Packet, Raw
from synthetic_dump import Machine, zstd

from scapy_netdump import Netdump, NetdumpAck, NetdumpAcks, NetdumpHerald, NetdumpMessages

CLIENT = Client()
OTHER_CLIENT = Client(address="192.0.2.3", server_port=52110)
IPV6_CLIENT = Client(address="2001:db8::2", server="2001:db8::1")
TRANSLATED_CLIENT = Client(port=61024)

CRASH = Machine()
OTHER_CRASH = Machine(hostname="other.example.org", panicstring="vm_fault: fault on nofault entry")
NEXT_CRASH = replace(CRASH, panicstring="double fault")
LARGER_CRASH = Machine(hostname="larger.example.org", pages=6)
HOSTILE_CRASH = Machine(
    hostname="crash\nDump complete\n\x1b[2J",
    panicstring="\x1b]0;owned\x07page fault\r\nDump from 203.0.113.1\u202e",
)
MACHINES = (CRASH, NEXT_CRASH, OTHER_CRASH, LARGER_CRASH, HOSTILE_CRASH)
COMPRESSED_CRASH = zstd(CRASH.vmcore)

PATH = b"lab/rack-7"
HOSTILE_PATH = b"../../../\x1b[31mtmp\n"
JUMBO_PAYLOAD = 8948  # MTU 9000 less the headers
TEST_CLIENT_PAYLOAD = 1000
SNAP_LENGTH = 96
DAMAGED_MESSAGE = 8  # its place in the exchange; the console's text is in it
DAMAGED_BYTES = 16


def usual() -> list[Packet]:
    """An exchange without anything special."""
    return CLIENT.exchange(kernel_messages(CRASH))


def jumbo_messages() -> list[Netdump]:
    return kernel_messages(LARGER_CRASH, payload=JUMBO_PAYLOAD)


def two_interfaces() -> bytes:
    frames = ethernet(usual())
    half = len(frames) // 2
    halves = {"<": frames[:half], ">": frames[half:]}
    return b"".join(
        pcapng_section(order, {"em0": some[::2], "em1": some[1::2]})
        for order, some in halves.items()
    )


def two_dumps() -> bytes:
    again = replace(CLIENT, server_port=CLIENT.server_port + 1)
    after_the_reboot = START + 600 * 10**9
    return pcap(
        ethernet(usual())
        + ethernet(again.exchange(kernel_messages(NEXT_CRASH)), start=after_the_reboot)
    )


def two_clients() -> bytes:
    one, other = usual(), OTHER_CLIENT.exchange(kernel_messages(OTHER_CRASH))
    return pcap(ethernet(interleaved(one, other)))


def no_kdh() -> bytes:
    data = data_messages(CRASH.vmcore, TEST_CLIENT_PAYLOAD)
    messages = [Netdump(type="HERALD"), *numbered(data), Netdump(type="FINISHED")]
    for message in messages:
        message.aux2 = 0xDEADBEEF ^ message.seqno
    return pcap(ethernet(CLIENT.exchange(messages)))


def kdh_first() -> bytes:
    herald, *data, kdh, finished = kernel_messages(CRASH)
    return pcap(ethernet(CLIENT.exchange(numbered([herald, kdh, *data, finished]))))


def cut_short() -> bytes:
    capture = pcap(ethernet(usual()))
    return capture[: len(capture) * 2 // 3]


def middle() -> bytes:
    frames = ethernet(usual())
    return pcap(frames[len(frames) // 3 :])


def fragments() -> bytes:
    packets = CLIENT.exchange(jumbo_messages())
    pieces: list[Packet] = []
    for number, packet in enumerate(packets, 1):
        packet[IP].flags, packet[IP].id = 0, number
        pieces += reversed(packet.fragment(1480))
    return pcap(ethernet(pieces))


def coalesced() -> bytes:
    herald, *data, kdh, finished = kernel_messages(LARGER_CRASH)
    acks = [NetdumpAck(seqno=message.seqno) for message in data]
    packets = [
        *CLIENT.exchange([herald]),
        CLIENT.sends(NetdumpMessages(messages=data)),
        CLIENT.receives(NetdumpAcks(acks=acks)),
        *CLIENT.exchange([kdh, finished]),
    ]
    return pcap(ethernet(packets))


def conflict() -> bytes:
    """The UDP checksum is that of the message before it was damaged: the server drops it."""
    sound = usual()
    resent = sound[DAMAGED_MESSAGE : DAMAGED_MESSAGE + 2]
    damaged = IP(bytes(resent[0]))
    payload = damaged[Raw].load
    wrong = bytes(byte ^ 0xA5 for byte in payload[:DAMAGED_BYTES])
    damaged[Raw].load = wrong + payload[DAMAGED_BYTES:]
    later = DAMAGED_MESSAGE + 10
    in_between = sound[DAMAGED_MESSAGE + 2 : later]
    return pcap(ethernet([*sound[:DAMAGED_MESSAGE], damaged, *in_between, *resent, *sound[later:]]))


def compressed() -> bytes:
    kdh = CRASH.kdh(dumplength=len(COMPRESSED_CRASH), compression="zstd")
    padded = COMPRESSED_CRASH + bytes(-len(COMPRESSED_CRASH) % kdh.blocksize)
    return pcap(ethernet(CLIENT.exchange(dump_messages(padded, kdh))))


def hostile() -> bytes:
    """What no server would answer comes first, for bytes that sound messages bring later."""
    herald, *sound = kernel_messages(HOSTILE_CRASH, path=HOSTILE_PATH)
    junk = Raw(b"\xbd" * 100)
    unanswered = [
        *(Netdump(type="VMCORE", offset=offset) / junk for offset in (1 << 62, (1 << 64) - 100)),
        *(Netdump(type="VMCORE", len=length) / junk for length in (0, 99, 101, (1 << 32) - 1)),
        *(Netdump(type=kind) / junk for kind in (0, 6, (1 << 32) - 1)),
        Netdump(type="HERALD") / NetdumpHerald(path="elsewhere"),  # not to the data port
        Raw(bytes(Netdump(type="FINISHED"))[:-1]),
        Raw(b""),
    ]
    packets = CLIENT.exchange([herald]) + [CLIENT.sends(message) for message in unanswered]
    return pcap(ethernet(packets + CLIENT.exchange(sound)))


class Sample(NamedTuple):
    """A capture: its file name, what it shows, what makes it, and what recovery gets."""

    name: str
    shows: str
    make: Callable[[], bytes]
    recovered: str = "complete"


SAMPLES = (
    Sample(
        "jumbo.pcap",
        f"Jumbo frames: payloads of {JUMBO_PAYLOAD} bytes, more than netdumpd accepts.",
        lambda: pcap(ethernet(CLIENT.exchange(jumbo_messages()))),
    ),
    Sample(
        "vlan.pcap",
        "All frames in a VLAN (802.1Q).",
        lambda: pcap(ethernet(usual(), Dot1Q(vlan=42))),
    ),
    Sample(
        "qinq.pcap",
        "All frames in a VLAN within a provider's VLAN (802.1ad, QinQ).",
        lambda: pcap(ethernet(usual(), Dot1AD(vlan=100), Dot1Q(vlan=42))),
    ),
    Sample(
        "ipv6.pcap",
        "IPv6 with an extension header (destination options) before UDP.",
        lambda: pcap(ethernet(IPV6_CLIENT.exchange(kernel_messages(CRASH)))),
    ),
    Sample(
        "nanoseconds-big-endian.pcap",
        "Classic capture as a big-endian machine writes it, times in nanoseconds.",
        lambda: pcap(ethernet(usual()), order=">", nano=True),
    ),
    Sample(
        "two-interfaces.pcapng",
        "Messages on one interface, acks on another that counts nanoseconds; two sections, the "
        "second big-endian; options and a block that nobody knows.",
        two_interfaces,
    ),
    Sample(
        "linux-cooked.pcap",
        'Captured on the interface "any" of Linux: no Ethernet, a cooked header instead.',
        lambda: pcap(linux_cooked(usual())),
    ),
    Sample(
        "two-clients.pcap",
        "Two machines panic at once; their packets alternate.",
        two_clients,
        "two dumps, both complete",
    ),
    Sample(
        "two-dumps.pcap",
        "One machine panics, reboots and panics again.",
        two_dumps,
        "two dumps, both complete",
    ),
    Sample(
        "no-kdh.pcap",
        "As netdumpd's test client sends: HERALD and FINISHED both numbered 0, payloads of "
        f"{TEST_CLIENT_PAYLOAD} bytes, rubbish in aux2, no header at all.",
        no_kdh,
    ),
    Sample("kdh-first.pcap", "The header comes before the data.", kdh_first),
    Sample(
        "cut-short.pcap",
        "The capture ends within a record, and before the dump does: no header, no FINISHED.",
        cut_short,
        "bytes 0-15928; the length is not known",
    ),
    Sample(
        "middle.pcap",
        "The capture starts when the dump is under way: no HERALD, and the first third is missing.",
        middle,
        "0-8688 missing",
    ),
    Sample(
        "snapped.pcap",
        f"Taken with a snap length of {SNAP_LENGTH}: a few bytes of each message, and not even a "
        "whole header.",
        lambda: pcap(ethernet(usual()), snaplen=SNAP_LENGTH),
        "30 bytes of each message; the rest missing",
    ),
    Sample(
        "fragments.pcap",
        "Large payloads in IPv4 fragments, the last one of each first.",
        fragments,
    ),
    Sample(
        "coalesced.pcap",
        "From a host that coalesces UDP: the dump's messages all in one datagram, and the acks.",
        coalesced,
    ),
    Sample(
        "conflict.pcap",
        f"A payload arrives with {DAMAGED_BYTES} wrong bytes, gets no ack, and is sent again.",
        conflict,
    ),
    Sample(
        "path.pcap",
        f"The HERALD asks for the directory {PATH.decode()}.",
        lambda: pcap(ethernet(CLIENT.exchange(kernel_messages(CRASH, path=PATH)))),
    ),
    Sample(
        "zstd.pcap",
        "A compressed dump, which is longer on the wire than its header says: padded to the "
        "block size.",
        compressed,
    ),
    Sample(
        "client-port.pcap",
        "A client that is not on port 20024, as behind address translation.",
        lambda: pcap(ethernet(TRANSLATED_CLIENT.exchange(kernel_messages(CRASH)))),
    ),
    Sample(
        "hostile.pcap",
        "Line breaks and terminal escapes in host name, panic string and path; offsets out of all "
        "reason, wrong lengths, unknown types, runts, a HERALD out of place.",
        hostile,
    ),
)
