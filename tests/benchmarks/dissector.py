# SPDX-License-Identifier: GPL-2.0-or-later
"""Measures what the dissector costs: tshark with and without it, on 100,000 packets and more.

    python tests/benchmarks/dissector.py [--runs 5]

prints a table: the time with the script by the time without it, which must be 4 at most (a quarter
of the speed), and the memory that each packet takes more. Rows: summaries; a display filter; the
whole tree of each packet; two passes. Exits with 1 if a figure is missed.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from measure import Pair, Task, compare

HERE = Path(__file__).resolve().parent
SCRIPT = HERE.parent.parent / "scapy_netdump" / "wireshark" / "fbsd_netdump.lua"
SIZE = "71MiB"  # 52,000 messages, and their acks
MUST = 4.0

#: What is asked of tshark without the script, and with it.
ROWS = {
    "summaries": ("", ""),
    "display filter": ("-Y udp.length==1", "-Y fbsd_netdump.retransmission"),
    "whole trees": ("-V", "-V"),
    "two passes": ("-2", "-2"),
}


def task(capture: Path, options: str) -> Task:
    return Task(f"tshark -n {options} -r {capture} >/dev/null 2>&1", capture)


def memory(pairs: list[Pair], packets: int) -> float:
    """Bytes that a packet takes more with the script."""
    return median(
        (pair.run.peak_rss - pair.reference.peak_rss) / packets for pair in pairs if pair.reference
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="undisturbed pairs of runs a row")
    options = parser.parse_args()
    if shutil.which("tshark") is None:
        sys.exit("tshark is not installed")
    missed = False
    with TemporaryDirectory() as place:
        folder = Path(place)
        capture = folder / "capture.pcap"
        make = [sys.executable, HERE / "generate.py", capture, "--size", SIZE]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        counted = subprocess.check_output(["tshark", "-n", "-r", capture], stderr=-3)
        packets = counted.count(b"\n")
        print(f"{packets} packets\n\n| row | x tshark | range | | bytes a packet |")
        print("| --- | --- | --- | --- | --- |")
        for name, (without, with_script) in ROWS.items():
            mine = task(capture, f"-X lua_script:{SCRIPT} {with_script}")
            series = compare(mine, task(capture, without), 1.0, options.runs, folder)
            low, high = series.range
            verdict = "ok" if series.median <= MUST else "MISSED"
            missed |= verdict != "ok"
            grown = memory(series.counted, packets)
            print(
                f"| {name} | {series.median:.2f} | {low:.2f}-{high:.2f} | {verdict} | {grown:.0f} |"
            )
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
