# SPDX-License-Identifier: GPL-2.0-or-later
"""FreeBSD netdump(4): Scapy layers, and recovery of kernel dumps from captures."""
