# SPDX-License-Identifier: GPL-2.0-or-later
"""Numbers with units, as people read them."""

from __future__ import annotations

import numpy as np

from ..core.observing.batch import Ints
from .timeline import delay_edges

_SIZES = ("bytes", "KiB", "MiB", "GiB", "TiB")


def size_text(count: float) -> str:
    """Bytes in the binary unit that suits: ``64 KiB``."""
    unit = 0
    while count >= 1024 and unit < len(_SIZES) - 1:
        count /= 1024
        unit += 1
    return f"{_short(count)} {_SIZES[unit]}"


def rate_text(count: float, seconds: float) -> str:
    """Bytes a second: ``29.7 MB/s``, decimal as rates of networks are."""
    rate = count / seconds if seconds > 0 else 0.0
    for unit in ("B/s", "kB/s", "MB/s"):
        if rate < 1000:
            return f"{_short(rate)} {unit}"
        rate /= 1000
    return f"{_short(rate)} GB/s"


def time_text(seconds: float) -> str:
    """A stretch of time: ``0.6 ms``, ``34.6 s``, ``12 min 5 s``."""
    if seconds >= 3600:
        return f"{int(seconds // 3600)} h {round(seconds % 3600 / 60)} min"
    if seconds >= 120:
        return f"{int(seconds // 60)} min {round(seconds % 60)} s"
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if seconds * factor >= 0.995:
            return f"{_short(seconds * factor)} {unit}"
    return f"{_short(seconds * 1e6)} us"


def share_text(part: float, whole: float) -> str:
    """How much of a whole something is: ``98 %``; never 100 or 0 when that is not exact."""
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 1:
        return "less than 1 %"
    if 99 < percent < 100:
        return f"{min(percent, 99.9):.1f} %"
    return f"{percent:.0f} %"


def median_of(counts: Ints) -> float | None:
    """About the median of the delays counted in bins, in seconds."""
    total = int(counts.sum())
    if not total:
        return None
    place = int(np.searchsorted(np.cumsum(counts), (total + 1) // 2))
    low, high = delay_edges()[place : place + 2]
    return float((low + high) / 2)


def _short(value: float) -> str:
    """Three digits at most, but all of those before the point."""
    digits = 0 if value >= 99.5 or value == int(value) else 1 if value >= 9.95 else 2
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
