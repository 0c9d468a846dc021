# SPDX-License-Identifier: GPL-2.0-or-later
"""Slow questions about clients, asked while the server goes on. Standard library only."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")

#: As many are asked at once. With more, as when addresses are forged, nobody waits.
_MOST = 16


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
            if len(self._asked) >= _MOST:
                return False
            self._waiting[address] = item, now + self._timeout
            if address in self._asked:
                return True
            self._asked.add(address)
        threading.Thread(target=self._ask, args=(address,), daemon=True).start()
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
