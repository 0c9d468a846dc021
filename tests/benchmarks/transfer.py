# SPDX-License-Identifier: GPL-2.0-or-later
"""How fast dumps are received and sent, next to minimal programs in C.

    python tests/benchmarks/transfer.py                        the whole table
    python tests/benchmarks/transfer.py --only "client,jumbo"   rows whose name holds one of these

Compiles the programs (programs.py), then runs each transfer and its reference in turns, receiver
and sender bound to a core each (trials.py). transfer_rows.py has the rows. A ratio is the figure
of a run divided by its neighbour's; "counted" tells how many of the pairs were left after those
that other load disturbed; if too few, all count, and the row says so. What is shown is the median,
or the worst where a limit is asked for. Everything received is compared with what was sent.

Linux only. Standard library only: measure.py tells why.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from measure import ATTEMPTS, CLOCK, OTHER_LOAD, SYSTEM_JUMP, CommandFailed
from programs import build
from recovery import machine, workplace
from table import number, table
from transfer_rows import ROWS, Figure, Row
from trials import Bench, Run

HEADINGS = (
    "row", "figure", "value", "min-max", "must", "aim", "",
    "MB/s", "CPU s/GB", "reference", "CPU s/GB", "counted",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Series:
    """Pairs of a run and its reference's run."""

    pairs: list[tuple[Run, Run]]
    wanted: int

    @property
    def undisturbed(self) -> list[tuple[Run, Run]]:
        """The pairs in which no run had to wait for other load, or shows a jump in CPU time."""
        least = [min(run.cpu for run in runs) for runs in zip(*self.pairs, strict=True)]
        return [
            pair
            for pair in self.pairs
            if not any(
                run.cpu > SYSTEM_JUMP * cpu + CLOCK or run.waited > OTHER_LOAD * run.seconds + CLOCK
                for run, cpu in zip(pair, least, strict=True)
            )
        ]

    @property
    def trusted(self) -> bool:
        """Whether at least half as many undisturbed pairs as wanted were found."""
        return 2 * len(self.undisturbed) >= self.wanted

    @property
    def counted(self) -> list[tuple[Run, Run]]:
        return self.undisturbed if self.trusted else self.pairs


def pairs(bench: Bench, row: Row) -> Iterator[tuple[Run, Run]]:
    """Runs both in turns, the first to go alternating, without end. Raises CommandFailed."""
    while True:
        run = row.trial(bench)
        yield run, row.reference(bench) if row.reference else run
        if row.reference:
            reference = row.reference(bench)
            yield row.trial(bench), reference


def measure(bench: Bench, row: Row, runs: int) -> Series:
    """Runs pairs until ``runs`` were undisturbed, but at most ATTEMPTS times as many."""
    series = Series([], runs)
    for pair in pairs(bench, row):
        series.pairs.append(pair)
        if len(series.undisturbed) >= runs or len(series.pairs) == ATTEMPTS * runs:
            break
    return series


def line(row: Row, figure: Figure, series: Series) -> tuple[str, ...]:
    """A line of the table."""
    values = [figure.value(*pair) for pair in series.counted]
    value = figure.pick(values)
    columns = []
    for runs in list(zip(*series.counted, strict=True))[: 2 if row.reference else 1]:
        columns += [median(run.speed for run in runs), median(run.cpu_per_gb for run in runs)]
    cells = [*map(number, columns), "", ""][:4]
    disturbed = "" if series.trusted else " disturbed"
    return (
        row.name,
        figure.name,
        number(value),
        f"{number(min(values))}-{number(max(values))}",
        number(figure.must),
        number(figure.aim),
        figure.verdict(value),
        *cells,
        f"{len(series.counted)} of {len(series.pairs)}{disturbed}",
    )


def report(bench: Bench, rows: list[Row], runs: int) -> bool:
    """Measures the rows and prints the table; whether all could be measured and verified."""
    lines: list[tuple[str, ...]] = []
    for row in rows:
        print(f"measuring {row.name}", file=sys.stderr)
        try:
            series = measure(bench, row, runs)
        except CommandFailed as error:
            print(f"{row.name}: {error}", file=sys.stderr)
            lines.append((row.name, "FAILED", *[""] * (len(HEADINGS) - 2)))
            continue
        lines += [line(row, figure, series) for figure in row.figures]
        print(*lines[-len(row.figures) :], sep="\n", file=sys.stderr)
    print(table(lines, HEADINGS))
    return not any("FAILED" in cells for cells in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="MiB of a transfer")
    parser.add_argument("--runs", type=int, default=5, help="pairs to measure for each row")
    parser.add_argument("--only", default="", help="rows whose name holds one of these, by comma")
    parser.add_argument("--directory", type=Path, help="where files are sent from and received in")
    parser.add_argument("--netdump", default=str(Path(sys.executable).with_name("netdump")),
                        help="the command to measure")  # fmt: skip
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # and stop what runs
    words = arguments.only.split(",")
    rows = [row for row in ROWS if any(word in row.name for word in words)]
    print(f"{machine()}, {arguments.size} MiB, {arguments.runs} runs\n")
    with workplace(arguments.directory) as directory:
        try:
            programs = build(directory)
        except (OSError, subprocess.CalledProcessError) as error:
            print(error, file=sys.stderr)
            return 1
        bench = Bench(directory, programs, arguments.netdump, arguments.size << 20)
        return 0 if report(bench, rows, arguments.runs) else 1


if __name__ == "__main__":
    sys.exit(main())
