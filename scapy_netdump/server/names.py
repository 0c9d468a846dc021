# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of clients: asked for in threads, as resolvers are slow, and used in another one."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")

#: Seconds for which an answer is taken as good.
_FRESH = 300.0

#: Clients whose names are kept: forged addresses must not fill the memory.
_MOST = 1024

#: As many are asked at once. With more, as when addresses are forged, nobody waits.
_MOST_ASKED = 16


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


class Lookups(Generic[Item]):
    """Holds an item for each address until a question about the address is answered.

    The threads do not keep the program from ending: a resolver may take minutes.
    """

    def __init__(
        self, resolve: Callable[[str], object], timeout: float, wake: Callable[[], object]
    ) -> None:
        """``wake`` is called in another thread when there is an answer."""
        self._resolve = resolve
        self._timeout = timeout
        self._wake = wake
        self._waiting: dict[str, tuple[Item, float]] = {}
        self._asked: set[str] = set()
        self._answered: set[str] = set()
        self._lock = threading.Lock()

    def hold(self, address: str, item: Item, now: float) -> bool:
        """Hold an item, or one that came again; False if it need not wait."""
        if address in self._waiting:
            return True
        with self._lock:
            if len(self._asked) >= _MOST_ASKED:
                return False
            self._waiting[address] = item, now + self._timeout
            if address in self._asked:
                return True
            self._asked.add(address)
        try:
            threading.Thread(target=self._ask, args=(address,), daemon=True).start()
        except RuntimeError:  # the system has no thread for it now
            with self._lock:
                self._asked.discard(address)
                del self._waiting[address]
            return False
        return True

    def ready(self, now: float) -> list[Item]:
        """The items that wait no more: there was an answer, or no time left."""
        if not self._waiting:
            return []
        with self._lock:
            answered, self._answered = self._answered, set()
        due = [
            address
            for address, (_, deadline) in self._waiting.items()
            if address in answered or deadline <= now
        ]
        return [self._waiting.pop(address)[0] for address in due]

    def deadline(self) -> float | None:
        """When an item will have waited for long enough."""
        return min((deadline for _, deadline in self._waiting.values()), default=None)

    def _ask(self, address: str) -> None:
        try:
            self._resolve(address)
        finally:
            with self._lock:
                self._asked.discard(address)
                self._answered.add(address)
            self._wake()
