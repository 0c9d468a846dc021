# SPDX-License-Identifier: GPL-2.0-or-later
"""The benchmarks' figures as a Markdown table.

Imports the standard library; measure.py tells why.
"""

from __future__ import annotations

from measure import Series
from rows import MEMORY_AIM, MEMORY_MUST, Row

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


def table(lines: list[tuple[str, ...]], headings: tuple[str, ...] = HEADINGS) -> str:
    """The lines under their headings, as a Markdown table."""
    rows = [headings, *lines]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows
    )  # fmt: skip
