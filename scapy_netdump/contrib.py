# SPDX-License-Identifier: GPL-2.0-or-later
# scapy.contrib.description = FreeBSD netdump(4)
# scapy.contrib.status = loads
"""FreeBSD netdump(4): kernel crash dumps over UDP"""

from scapy.config import conf

from scapy_netdump import *  # noqa: F403 - Scapy takes the names in __all__
from scapy_netdump import __all__ as __all__
from scapy_netdump.layers import REGISTERED

conf.layers.ldict[__name__] = REGISTERED  # for conf.layers.layers() and explore()
