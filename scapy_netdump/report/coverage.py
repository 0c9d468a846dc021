# SPDX-License-Identifier: GPL-2.0-or-later
"""How much of each part of a file is missing, in a bounded number of cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.observing.batch import Floats
from ..kerneldump.regions import Range, Region

_ROUNDING = 0.49


def missing_share(region: Region, missing: Sequence[Range], cells: int) -> Floats:
    """Which part of each of ``cells`` equal stretches of a region, or as many as it has bytes, is
    in the missing ranges, which are in order. Not 0 if as much as a byte is."""
    cells = min(cells, region.size)
    edges = np.linspace(region.start, region.end, cells + 1)
    lost = np.array(region.missing(missing), np.float64).reshape(-1, 2)
    before = np.zeros(cells + 1)
    if len(lost):
        sizes = np.cumsum(lost[:, 1] - lost[:, 0])
        whole = np.searchsorted(lost[:, 0], edges, "right")  # ranges that begin up to an edge
        last = np.maximum(whole - 1, 0)
        beyond = np.where(whole > 0, np.maximum(lost[last, 1] - edges, 0), 0)
        before = np.where(whole > 0, sizes[last], 0) - beyond
    lost_here = np.diff(before)
    lost_here[lost_here < _ROUNDING] = 0  # a byte on a border has half of itself on one side
    return np.minimum(lost_here * cells / region.size, 1)
