# SPDX-License-Identifier: GPL-2.0-or-later
"""What recovery costs, as a multiple of what copying the capture costs.

    python tests/benchmarks/recovery.py           the whole table: 16 GB of disk, 15 minutes
    python tests/benchmarks/recovery.py --quick   small captures, on which start-up weighs more

Makes the captures (generate.py), then runs ``netdump recover`` and its reference in turns on the
same data (measure.py), from the start of the interpreter to its end, page cache warm, output on
the same file system. Every recovered vmcore is checked against the SHA-256 that the generator
computed. ``must`` and ``aim`` are asked of captures of the default size, and not shown for smaller.

Where the two sides do not read the same file, the ratio is per byte of capture: the noisy capture
against the clean one, and the slow tools, measured on a smaller capture than ``cp``. The column
MB is the size of the capture that the measured command reads. "counted" tells how many of the
pairs were left after those that other load disturbed; if too few, all count, and the row says so.

Standard library only: measure.py tells why.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from measure import CommandFailed, Series, Task, blocks, compare
from rows import MIB, ROWS, Command, Recipe, Row
from table import HEADINGS, line, memory_line, table

HERE = Path(__file__).resolve().parent
DEFAULT_SIZE = 1000  # MiB


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
        plain = self._plain(recipe)
        if not Path(f"{plain}.sha256").exists():  # generate.py writes it last
            size, _, _ = plain.name.partition("-")
            generate = shlex.join([sys.executable, str(HERE / "generate.py"), str(plain)])
            make(plain, f"{generate} --size {size} {recipe.options}")
        if not recipe.compress:
            return plain
        path = Path(f"{plain}.{recipe.compress.split()[0]}")
        if not path.exists():
            source, target = shlex.quote(str(plain)), shlex.quote(str(path))
            partial = f"{target}.partial"
            make(path, f"{recipe.compress} < {source} > {partial} && mv {partial} {target}")
        return path

    def sha256(self, recipe: Recipe) -> str:
        """The checksum of the vmcore in a capture that exists."""
        return Path(f"{self._plain(recipe)}.sha256").read_text().split()[0]


def make(path: Path, command: str) -> None:
    """Runs a shell command that writes a capture, and waits until it is on disk."""
    print(f"making {path.name}", file=sys.stderr)
    subprocess.run(command, shell=True, stdout=subprocess.DEVNULL, check=True)
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
        print(f"{row.name}: {series.median:.3g}", file=sys.stderr)
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


def asked(row: Row, size: int) -> Row:
    """The row without its ``must`` and ``aim`` if its capture is smaller than they hold for."""
    smaller = row.capture.size is None and size < DEFAULT_SIZE
    return replace(row, must=None, aim=None) if smaller else row


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
    parser.add_argument("--size", type=int, default=DEFAULT_SIZE, help="MiB of vmcore")
    parser.add_argument("--runs", type=int, default=5, help="pairs to measure for each row")
    parser.add_argument("--quick", action="store_true", help="the same as --size 64 --runs 3")
    parser.add_argument("--only", default="", help="rows whose name holds one of these, by comma")
    parser.add_argument("--directory", type=Path, help="where captures are made, kept and reused")
    parser.add_argument("--netdump", default=str(Path(sys.executable).with_name("netdump")),
                        help="the command to measure")  # fmt: skip
    arguments = parser.parse_args()
    size, runs = (64, 3) if arguments.quick else (arguments.size, arguments.runs)
    words = arguments.only.split(",")
    rows = [asked(row, size) for row in ROWS if any(word in row.name for word in words)]
    print(f"{machine()}, {size} MiB, {runs} runs\n")
    with workplace(arguments.directory) as directory:
        captures = Captures(directory, size * MIB)
        return 0 if report(rows, captures, arguments.netdump, runs, directory) else 1


if __name__ == "__main__":
    sys.exit(main())
