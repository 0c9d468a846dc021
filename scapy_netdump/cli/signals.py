# SPDX-License-Identifier: GPL-2.0-or-later
"""Signals that end a command in good order."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager


@contextmanager
def stopped_by_signals(
    stop: Callable[[], None], signals: Sequence[int] = (signal.SIGINT, signal.SIGTERM)
) -> Iterator[None]:
    """Let the first ^C (or SIGTERM) call ``stop``, and the second ^C end the command at once."""

    def handle(*_: object) -> None:
        stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, handle) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
