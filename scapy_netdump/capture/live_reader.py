# SPDX-License-Identifier: GPL-2.0-or-later
"""Frames from a network interface as batches of datagrams."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..core.observing.batch import Batch, Bytes
from .datagrams import DatagramFinder
from .frames import Frames
from .live import LiveCapture, LiveFrame


def live_batches(capture: LiveCapture, finder: DatagramFinder) -> Iterator[Batch]:
    """The batches, until the capture ends; an empty one now and then while nothing comes."""
    while (frames := capture.read()) is not None:
        yield finder.find(*_joined(frames))


def _joined(frames: Sequence[LiveFrame]) -> tuple[Bytes, Frames]:
    rows = []
    start = 0
    for frame in frames:
        captured = len(frame.frame)
        rows.append((start, captured, frame.original, frame.time, frame.link))
        start += captured
    return np.frombuffer(b"".join(frame.frame for frame in frames), np.uint8), Frames.of(rows)
