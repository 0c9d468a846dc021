# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines at the bottom of a terminal, one for each dump that is running."""

from __future__ import annotations

import os
from typing import TextIO

from ..core.receiving.events import Discarded, DumpEvent, Ended, Progress
from .serve_lines import status_line

_MOST = 10
_SMOOTHING = 0.3  # the weight of the last interval in the rate that is shown


class StatusLines:
    """Knows of each dump what it told last."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._dumps: dict[int, tuple[Progress, float]] = {}
        self._shown = 0

    def take(self, event: DumpEvent) -> None:
        """Note how far a dump is, or that it is over."""
        if isinstance(event, Progress):
            self._dumps[event.dump] = event, self._rate(event)
        elif isinstance(event, (Ended, Discarded)):
            self._dumps.pop(event.dump, None)

    def _rate(self, event: Progress) -> float:
        """Bytes a second, of late."""
        before, rate = self._dumps.get(event.dump, (None, None))
        if before is None or event.now <= before.now:
            return event.bytes_received / event.seconds if event.seconds else 0.0
        last = (event.bytes_received - before.bytes_received) / (event.now - before.now)
        return last if rate is None else rate + _SMOOTHING * (last - rate)

    def clear(self) -> None:
        """Take the lines away, so that something can be printed in their place."""
        if self._shown:
            self._terminal.write(f"\x1b[{self._shown}A\x1b[J")
            self._shown = 0

    def show(self) -> None:
        """Print the lines below everything else, none of them longer than the terminal."""
        width = _width(self._terminal)
        lines = [status_line(event, rate) for event, rate in self._dumps.values()]
        if len(lines) > _MOST:
            lines[_MOST - 1 :] = [f"and {len(lines) - _MOST + 1} more"]
        for line in lines:
            self._terminal.write(line[: width - 1] + "\n")
        self._shown = len(lines)


def _width(terminal: TextIO) -> int:
    try:
        return os.get_terminal_size(terminal.fileno()).columns or 80
    except OSError:
        return 80
