# SPDX-License-Identifier: GPL-2.0-or-later
"""What happened when, in a bounded number of bins.

The bins' width doubles whenever they run out, so that a transfer of milliseconds and one of
days cost the same. All numbers are integers: sums stay exact, however often bins are joined.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core.observing.batch import Ints

#: Half of these at least are in use once they ran out: more than a picture has columns.
BINS = 2048

#: Width at the start: 2**14 ns, 16 microseconds.
_FIRST_SHIFT = 14

#: No value of a row that keeps the smallest.
NOTHING_LOW = 1 << 62
#: No value of a row that keeps the largest.
NOTHING_HIGH = -1


class TimeBins:
    """Rows of numbers over time, in nanoseconds from 0 on. ``sums`` add up what falls into a
    bin, ``highs`` keep the largest and ``lows`` the smallest."""

    def __init__(self, sums: Sequence[str], highs: Sequence[str], lows: Sequence[str]) -> None:
        self._shift = _FIRST_SHIFT
        self._sums = {name: np.zeros(BINS, np.int64) for name in sums}
        self._highs = {name: np.full(BINS, NOTHING_HIGH, np.int64) for name in highs}
        self._lows = {name: np.full(BINS, NOTHING_LOW, np.int64) for name in lows}

    @property
    def width(self) -> int:
        """How many nanoseconds a bin stands for."""
        return 1 << self._shift

    def __getitem__(self, name: str) -> Ints:
        """The row of a name, a number a bin."""
        for rows in (self._sums, self._highs, self._lows):
            if name in rows:
                return rows[name]
        raise KeyError(name)

    def reach(self, time: int) -> None:
        """Widen the bins until there is one for ``time``."""
        while time >> self._shift >= BINS:
            self._shift += 1
            for row in self._sums.values():
                _join(row, row[0::2] + row[1::2], 0)
            for row in self._highs.values():
                _join(row, np.maximum(row[0::2], row[1::2]), NOTHING_HIGH)
            for row in self._lows.values():
                _join(row, np.minimum(row[0::2], row[1::2]), NOTHING_LOW)

    def add(self, name: str, times: Ints, values: Ints) -> None:
        """Values at some times, in their order, which the bins must reach: added to a row of
        sums, or compared with what another row keeps."""
        if not len(times):
            return
        place = times >> self._shift
        first = np.flatnonzero(np.diff(place, prepend=-1))
        at = place[first]
        if name in self._sums:
            self._sums[name][at] += np.add.reduceat(values, first)
        elif name in self._highs:
            row = self._highs[name]
            row[at] = np.maximum(row[at], np.maximum.reduceat(values, first))
        else:
            row = self._lows[name]
            row[at] = np.minimum(row[at], np.minimum.reduceat(values, first))

    def spread(self, name: str, begins: Ints, ends: Ints, weights: Ints) -> None:
        """Stretches of time, in a row of sums that says how much of each bin they take, each
        nanosecond as much as its stretch's weight."""
        row = self._sums[name]
        first, last = begins >> self._shift, ends >> self._shift
        within = first == last
        np.add.at(row, first[within], ((ends - begins) * weights)[within])
        begins, ends, first, last, weights = (
            part[~within] for part in (begins, ends, first, last, weights)
        )
        np.add.at(row, first, ((first + 1 << self._shift) - begins) * weights)
        np.add.at(row, last, (ends - (last << self._shift)) * weights)
        inside = np.zeros(BINS + 1, np.int64)  # how the weight of whole bins changes
        np.add.at(inside, first + 1, weights)
        np.subtract.at(inside, last, weights)
        row += np.cumsum(inside)[:BINS] << self._shift


def _join(row: Ints, joined: Ints, nothing: int) -> None:
    row[: BINS // 2] = joined
    row[BINS // 2 :] = nothing
