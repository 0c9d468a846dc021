# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of clients, looked up in one thread and used in another. Standard library only."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

#: Seconds for which an answer is taken as good.
_FRESH = 300.0

#: Clients whose names are kept: forged addresses must not fill the memory.
_MOST = 1024


class Names:
    """What to call clients: ``resolve`` asks and may wait, ``name_of`` never does."""

    def __init__(
        self, look_up: Callable[[str], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``look_up`` gives the name of an address, or something that stands for none."""
        self._look_up = look_up
        self._clock = clock
        self._known: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._lock = threading.Lock()

    def resolve(self, address: str) -> None:
        """Have the name ready for ``name_of``; asks again when the last answer is old."""
        now = self._clock()
        with self._lock:
            if now - self._known.get(address, ("", now - 2 * _FRESH))[1] < _FRESH:
                return
        name = self._look_up(address)
        with self._lock:
            self._known[address] = name, self._clock()
            self._known.move_to_end(address)
            while len(self._known) > _MOST:
                self._known.popitem(last=False)

    def name_of(self, address: str) -> str:
        """What the last look-up gave; nothing if there was none."""
        with self._lock:
            return self._known.get(address, ("", 0.0))[0]
