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

    def __call__(self, name: str, done: int, total: int | None) -> None:
        """``done`` bytes of ``name`` were read, of ``total`` if that is known."""
        now = time.monotonic()
        if not self._shown or now - self._last < _INTERVAL:
            return
        self._last = now
        line = f"{printable(name)[-40:]}  {done >> 20} MiB"
        if total:
            filled = min(_BAR, _BAR * done // total)
            line += f" of {total >> 20}  [{'#' * filled}{'.' * (_BAR - filled)}]"
        sys.stderr.write(f"\r\x1b[K{line}")
        sys.stderr.flush()
