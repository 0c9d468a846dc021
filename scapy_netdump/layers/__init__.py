# SPDX-License-Identifier: GPL-2.0-or-later
"""Scapy layers of FreeBSD netdump(4): the one definition of every protocol field.

Everything else that knows a field (formats.py for the bulk codec, the README's field
tables) is generated from these modules by generate.py.

    >>> IP(dst="192.0.2.1")/UDP()/Netdump(seqno=1)/NetdumpHerald(path="lab")
    >>> IP(dst="192.0.2.1")/UDP(dport=41885)/Netdump(seqno=2, offset=0)/b"..."
"""

from scapy.config import conf
from scapy.packet import Raw, bind_layers, bind_top_down

from . import kerneldump, messages
from .kerneldump import (
    KernelDumpHeader,
    KernelDumpHeaderV1,
    KernelDumpHeaderV2,
    KernelDumpHeaderV3,
    KernelDumpKey,
)
from .messages import Netdump, NetdumpAck, NetdumpAcks, NetdumpHerald, NetdumpMessages, bind_ports

__all__ = [
    "KernelDumpHeader",
    "KernelDumpHeaderV1",
    "KernelDumpHeaderV2",
    "KernelDumpHeaderV3",
    "KernelDumpKey",
    "Netdump",
    "NetdumpAck",
    "NetdumpAcks",
    "NetdumpHerald",
    "NetdumpMessages",
]

bind_ports()
_NUMBER = {word: number for number, word in messages.MESSAGE_TYPES.items()}
bind_layers(Netdump, NetdumpHerald, type=_NUMBER["HERALD"])
bind_layers(Netdump, KernelDumpHeader, type=_NUMBER["KDH"], offset=0)
bind_layers(Netdump, KernelDumpKey, type=_NUMBER["EKCD_KEY"], offset=0)
bind_top_down(Netdump, Raw, type=_NUMBER["VMCORE"])

# Scapy keeps its classes by module, and conf.layers.layers() evaluates the modules' names
# where only Scapy's own exist. So these are taken out, and contrib.py lists them as its own.
REGISTERED = [
    layer
    for module in (messages, kerneldump)
    for layer in conf.layers.ldict.pop(module.__name__, ())
]
