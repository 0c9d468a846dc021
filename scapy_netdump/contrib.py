# SPDX-License-Identifier: GPL-2.0-or-later
# scapy.contrib.description = FreeBSD netdump(4)
# scapy.contrib.status = loads
"""FreeBSD netdump(4): kernel crash dumps over UDP"""

from scapy_netdump import *  # noqa: F403 - Scapy takes the names in __all__
from scapy_netdump import __all__ as __all__
