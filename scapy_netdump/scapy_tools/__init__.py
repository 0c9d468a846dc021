# SPDX-License-Identifier: GPL-2.0-or-later
"""Helpers for interactive Scapy.

>>> sniff(offline="panic.pcapng", session=NetdumpSession).summary()
>>> sniff(offline="panic.pcapng", session=NetdumpSession(IPSession))    # fragments too
>>> NetdumpSocket("192.0.2.1").sr1(Netdump(seqno=1) / NetdumpHerald(path="lab"))
>>> netdumpd("/var/crash")
"""

from .answering import netdumpd
from .session import NetdumpSession
from .sockets import NetdumpSocket

__all__ = ["NetdumpSession", "NetdumpSocket", "netdumpd"]
