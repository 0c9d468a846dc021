# SPDX-License-Identifier: GPL-2.0-or-later
"""What the recovery benchmark compares: captures, commands, and the ratios asked for.

Imports the standard library; measure.py tells why.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from measure import CommandFailed

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Recipe:
    """A capture to make: options for generate.py, vmcore size, compression.

    ``size`` in bytes, else ``share`` times what ``--size`` says.
    """

    name: str
    options: str = ""
    share: float = 1.0
    size: int | None = None
    compress: str | None = None


@dataclass(frozen=True, slots=True)
class Command:
    """A shell command on a {capture}, and the function that finds the vmcore it made, if any."""

    template: str
    vmcore: Callable[[Path], Path] | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison: a command on a capture, its reference, the ratios asked for.

    Without a reference, figures are seconds. ``other`` is the capture that the reference reads
    when it is not the same, and makes the ratio one per byte.
    """

    name: str
    command: Command
    capture: Recipe
    reference: Command | None = None
    must: float | None = None
    aim: float | None = None
    other: Recipe | None = None
    runs: int | None = None


def reported_vmcore(directory: Path) -> Path:
    """The vmcore of the one dump that ``netdump recover --json`` reports, and as complete."""
    dumps = json.loads((directory / "report.json").read_bytes())
    if len(dumps) != 1 or not dumps[0]["complete"]:
        raise CommandFailed("the report does not show one complete dump")
    return directory / str(dumps[0]["files"]["vmcore"])


def written_vmcore(directory: Path) -> Path:
    """The vmcore as others.py is told to name it."""
    return directory / "vmcore"


RECOVER = Command("{netdump} recover {capture} -o . --json > report.json", reported_vmcore)
RECOVER_PIPED = Command(
    "cat {capture} | {netdump} recover - -o . --json > report.json", reported_vmcore
)
HELP = Command("{netdump} --help > help")
COPY = Command("cp {capture} copy")
GUNZIP = Command("gzip -dc {capture} > copy")
UNZSTD = Command("zstd -q -dc {capture} > copy")
PIPE = Command("cat {capture} | cat > copy")
DPKT = Command("{python} {others} dpkt {capture} vmcore", written_vmcore)
TSHARK = Command("{python} {others} tshark {capture} vmcore", written_vmcore)
SCAPY = Command("{python} {others} scapy {capture} vmcore", written_vmcore)

CLEAN = Recipe("clean.pcap")
CLEAN_NG = Recipe("clean.pcapng", "--format pcapng")
BIG = Recipe("big.pcap", share=3.05)
JUMBO = Recipe("jumbo.pcap", "--payload 8948")
NOISE = Recipe("noise.pcap", "--noise")
GZIP = Recipe("clean.pcap", compress="gzip -1")
ZSTD = Recipe("clean.pcap", compress="zstd -q -3")
SMALL = Recipe("small.pcap", size=3_000_000)
FOR_DPKT = Recipe("dpkt.pcap", size=128 * MIB)
FOR_TSHARK = Recipe("tshark.pcap", size=32 * MIB)
FOR_SCAPY = Recipe("scapy.pcap", size=16 * MIB)

ROWS = (
    Row("pcap / cp", RECOVER, CLEAN, COPY, 2.0, 1.25),
    Row("pcapng / cp", RECOVER, CLEAN_NG, COPY, 2.0, 1.25),
    Row("big pcap / cp", RECOVER, BIG, COPY, 1.5, 0.95),
    Row("jumbo frames / cp", RECOVER, JUMBO, COPY, 1.5, 0.9),
    Row("noise / clean, per byte", RECOVER, NOISE, RECOVER, 1.2, 1.05, other=CLEAN),
    Row("gzip / gzip -dc > file", RECOVER, GZIP, GUNZIP, 1.0),
    Row("zstd / zstd -dc > file", RECOVER, ZSTD, UNZSTD, 2.5),
    Row("stdin / cat to cat > file", RECOVER_PIPED, CLEAN, PIPE, 1.5),
    Row("netdump --help, seconds", HELP, SMALL, must=0.15),
    Row("small pcap, seconds", RECOVER, SMALL, must=0.5),
    Row("dpkt / cp, per byte", DPKT, FOR_DPKT, COPY, other=CLEAN, runs=2),
    Row("tshark / cp, per byte", TSHARK, FOR_TSHARK, COPY, other=CLEAN, runs=2),
    Row("Scapy / cp, per byte", SCAPY, FOR_SCAPY, COPY, other=CLEAN, runs=2),
)
MEMORY_MUST, MEMORY_AIM = 150.0, 64.0  # MB, over all rows that run netdump
