# SPDX-License-Identifier: GPL-2.0-or-later
"""How far a command has come, on one line of a terminal; nothing anywhere else."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from ..text import printable

_INTERVAL = 0.1  # seconds between two updates
_BAR = 30


class ProgressLine:
    """Shows bytes read; use in ``with``, so that the line is gone before anything else is
    printed."""

    def __init__(self) -> None:
        self._shown = sys.stderr is not None and sys.stderr.isatty()
        self._last = 0.0

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        if self._last:
            sys.stderr.write("\r\x1b[K")

    @property
    def due(self) -> bool:
        """Whether a call would show anything at this moment."""
        return self._shown and time.monotonic() - self._last >= _INTERVAL

    def say(self, line: str) -> None:
        """A line for people that stays, above this one."""
        if self._last:
            sys.stderr.write("\r\x1b[K")
        print(f"netdump: {printable(line)}", file=sys.stderr)

    def __call__(self, name: str, done: int, total: int | None, more: str = "") -> None:
        """``done`` bytes of ``name`` are through, of ``total`` if that is known."""
        if not self.due:
            return
        self._last = time.monotonic()
        line = f"{printable(name)[-40:]}  {done >> 20} MiB"
        if total:
            filled = min(_BAR, _BAR * done // total)
            line += f" of {total >> 20}  [{'#' * filled}{'.' * (_BAR - filled)}]"
        if more:
            line += f"  {more}"
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()
