# SPDX-License-Identifier: GPL-2.0-or-later
"""netdump over Ethernet frames of our own, as a panicking kernel sends them.

Loaded only for who names an interface, as Scapy takes a second to import. Linux only.
"""
