# SPDX-License-Identifier: GPL-2.0-or-later
"""What recovery costs, as a multiple of what copying the capture costs.

    python tests/benchmarks/recovery.py           the whole table: 16 GB of disk, 15 minutes
    python tests/benchmarks/recovery.py --quick   small captures, on which start-up weighs more

Makes the captures (generate.py), then runs ``netdump recover`` and its reference in turns on the
same data (measure.py), from the start of the interpreter to its end, page cache warm, output on
the same file system. Every recovered vmcore is checked against the SHA-256 that the generator
computed. ``must`` and ``aim`` hold for the default size.

Where the two sides do not read the same file, the ratio is per byte of capture: the noisy capture
against the clean one, and the slow tools, measured on a smaller capture than ``cp``. The column
MB is the size of the capture that the measured command reads. "counted" tells how many of the
pairs were left after those that other load disturbed; if too few, all count, and the row says so.

Standard library only: measure.py tells why.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from measure import CommandFailed, Series, Task, blocks, compare

HERE = Path(__file__).resolve().parent
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
ZSTD = Recipe("clean.pcap", compress="zstd -3")
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


class Captures:
    """The captures in a directory, each made when first asked for and found there later."""

    def __init__(self, directory: Path, size: int) -> None:
        self._directory = directory
        self._size = size

    def _plain(self, recipe: Recipe) -> Path:
        size = recipe.size or int(recipe.share * self._size)
        return self._directory / f"{size}-{recipe.name}"

    def path(self, recipe: Recipe) -> Path:
        """The file of a recipe. Raises CalledProcessError."""
        path = plain = self._plain(recipe)
        if not Path(f"{plain}.sha256").exists():  # generate.py writes it last
            size, _, _ = plain.name.partition("-")
            generate = [sys.executable, str(HERE / "generate.py"), str(plain), "--size", size]
            make(plain, [*generate, *recipe.options.split()], subprocess.DEVNULL)
        if recipe.compress:
            path = Path(f"{plain}.{recipe.compress.split()[0]}")
            if not path.exists():
                partial = Path(f"{path}.partial")
                with partial.open("wb") as file:
                    make(path, [*recipe.compress.split(), "-c", str(plain)], file.fileno())
                partial.rename(path)
        return path

    def sha256(self, recipe: Recipe) -> str:
        """The checksum of the vmcore in a capture that exists."""
        return Path(f"{self._plain(recipe)}.sha256").read_text().split()[0]


def make(path: Path, command: list[str], output: int) -> None:
    """Runs a command that writes a capture, and waits until it is on disk."""
    print(f"making {path.name}", file=sys.stderr)
    subprocess.run(command, stdout=output, check=True)
    os.sync()  # else the first runs would share the disk with this file


def task(command: Command, capture: Path, sha256: str, netdump: str) -> Task:
    """The command on a capture, and the check that the vmcore it made has that checksum."""

    def check(directory: Path) -> None:
        if command.vmcore is None:
            return
        digest = hashlib.sha256()
        try:
            for block in blocks(command.vmcore(directory)):
                digest.update(block)
        except (OSError, ValueError, LookupError) as error:
            raise CommandFailed(f"no vmcore, {error!r}: {command.template}") from error
        if digest.hexdigest() != sha256:
            raise CommandFailed(f"wrong vmcore: {command.template}")

    words = {"capture": capture, "python": sys.executable, "others": HERE / "others.py"}
    quoted = {name: shlex.quote(str(word)) for name, word in words.items()}
    return Task(command.template.format(netdump=netdump, **quoted), capture, check)


def measure(row: Row, captures: Captures, netdump: str, runs: int, directory: Path) -> Series:
    """Runs one row. Raises CommandFailed, CalledProcessError."""
    capture = captures.path(row.capture)
    command = task(row.command, capture, captures.sha256(row.capture), netdump)
    reference, scale = None, 1.0
    if row.reference:
        other = captures.path(row.other or row.capture)
        sha256 = captures.sha256(row.other or row.capture)
        reference = task(row.reference, other, sha256, netdump)
        scale = other.stat().st_size / capture.stat().st_size
    return compare(command, reference, scale, min(runs, row.runs or runs), directory)


# ---------------------------------------------------------------- the report

HEADINGS = (
    "row", "MB", "median", "min-max", "must", "aim", "", "peak MB", "CPU s", "counted", "vmcore"
)  # fmt: skip


def verdict(value: float, must: float | None, aim: float | None) -> str:
    """How a figure stands to what was asked for."""
    if must is None:
        return ""
    if value > must:
        return "MISSED"
    return "aim" if aim is not None and value <= aim else "ok"


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def line(row: Row, size: int, series: Series) -> tuple[str, ...]:
    """A row of the table, for a capture of ``size`` bytes."""
    low, high = series.range
    disturbed = "" if series.trusted else " disturbed"
    return (
        row.name,
        number(size / 1e6),
        number(series.median),
        f"{number(low)}-{number(high)}",
        number(row.must),
        number(row.aim),
        verdict(series.median, row.must, row.aim),
        f"{series.peak_rss / 1e6:.0f}",
        f"{series.cpu:.2f}",
        f"{len(series.counted)} of {len(series.pairs)}{disturbed}",
        "verified" if row.command.vmcore else "",
    )


def memory_line(peak: float) -> tuple[str, ...]:
    """The row for the most memory that any run of netdump took, in MB."""
    figures = (number(MEMORY_MUST), number(MEMORY_AIM), verdict(peak, MEMORY_MUST, MEMORY_AIM))
    return ("memory, MB", "", number(peak), "", *figures, "", "", "", "")


def table(lines: list[tuple[str, ...]]) -> str:
    """The lines under their headings, as a Markdown table."""
    rows = [HEADINGS, *lines]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows
    )  # fmt: skip


def report(rows: list[Row], captures: Captures, netdump: str, runs: int, directory: Path) -> bool:
    """Measures the rows and prints the table; whether all could be measured and verified."""
    lines, peak = [], 0.0
    for row in rows:
        print(f"measuring {row.name}", file=sys.stderr)
        try:
            series = measure(row, captures, netdump, runs, directory)
        except (CommandFailed, subprocess.CalledProcessError) as error:
            print(f"{row.name}: {error}", file=sys.stderr)
            lines.append((row.name, "", "FAILED", *[""] * (len(HEADINGS) - 3)))
            continue
        lines.append(line(row, captures.path(row.capture).stat().st_size, series))
        if "{netdump}" in row.command.template:
            peak = max(peak, series.peak_rss / 1e6)
    print(table([*lines, memory_line(peak)]))
    return not any("FAILED" in cells for cells in lines)


def machine() -> str:
    """What the figures were measured on, and how busy it was."""
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    python = f"Python {platform.python_version()}"
    return f"{os.cpu_count()} cores, load {load}, {platform.machine()}, {python}"


@contextmanager
def workplace(directory: Path | None) -> Iterator[Path]:
    """The directory asked for, or one that vanishes at the end."""
    if directory:
        directory.mkdir(parents=True, exist_ok=True)
        yield directory.resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="netdump-benchmark-") as name:
            yield Path(name)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=1000, help="MiB of vmcore (default 1000)")
    parser.add_argument("--runs", type=int, default=5, help="pairs to measure for each row")
    parser.add_argument("--quick", action="store_true", help="the same as --size 64 --runs 3")
    parser.add_argument("--only", default="", help="rows whose name holds one of these, by comma")
    parser.add_argument("--directory", type=Path, help="where captures are made, kept and reused")
    parser.add_argument("--netdump", default=str(Path(sys.executable).with_name("netdump")),
                        help="the command to measure")  # fmt: skip
    arguments = parser.parse_args()
    size, runs = (64, 3) if arguments.quick else (arguments.size, arguments.runs)
    rows = [row for row in ROWS if any(word in row.name for word in arguments.only.split(","))]
    print(f"{machine()}, {size} MiB, {runs} runs\n")
    with workplace(arguments.directory) as directory:
        captures = Captures(directory, size * MIB)
        return 0 if report(rows, captures, arguments.netdump, runs, directory) else 1


if __name__ == "__main__":
    sys.exit(main())
