# SPDX-License-Identifier: GPL-2.0-or-later
"""What a capture tells of a dump, by way of pyshark.

python tests/wireshark/pyshark_example.py pcaps/path.pcap
"""

from __future__ import annotations

import sys

from scapy_netdump.wireshark.pyshark_captures import netdump_capture


def main(capture: str) -> None:
    """Print the panic string, where pieces of the dump belong, and how long acks took."""
    panics, offsets, times = [], [], []
    with netdump_capture(capture) as packets:
        for packet in packets:
            layer = packet.fbsd_netdump
            if layer.get("type") == "3":
                offsets.append(int(layer.offset))
            if "kdh_panicstring" in layer.field_names:
                panics.append(layer.kdh_panicstring)
            if "ack_time" in layer.field_names:
                times.append(float(layer.ack_time))
    print(f"panic: {', '.join(panics) or 'not in this capture'}")
    print(f"{len(offsets)} pieces, offsets {min(offsets)} to {max(offsets)}")
    print(f"{len(times)} acks, the slowest after {max(times):.6f} s")


if __name__ == "__main__":
    main(sys.argv[1])
