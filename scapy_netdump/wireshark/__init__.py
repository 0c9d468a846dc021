# SPDX-License-Identifier: GPL-2.0-or-later
"""netdump in Wireshark: a dissector that is generated from the Scapy layers, and a profile."""
