# SPDX-License-Identifier: GPL-2.0-or-later
"""netdump over Ethernet frames of our own, as a panicking kernel sends them.

Imports Scapy, so only who was asked for an interface imports this. Linux only.
"""
