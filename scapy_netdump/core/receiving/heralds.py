# SPDX-License-Identifier: GPL-2.0-or-later
"""What clients asked for, and where they were told to send: all that a HERALD costs a server.

A HERALD is answered without a descriptor, a file or a session, as TCP answers with SYN cookies
(RFC 4987, 3.6): the ack comes from one of a few data ports that all clients share. Which one is a
keyed hash of the client, so that a stranger who did not hear the ack cannot tell it, and that data
which comes there shows by itself that its sender did.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container
from hashlib import blake2b
from typing import NamedTuple

#: A client's address and port; the port is 0 where clients are told apart by address alone.
Key = tuple[str, int]

#: HERALDs that are remembered. What is forgotten is a wish for a directory, and no dump.
_MOST = 1 << 13


class Herald(NamedTuple):
    """The last HERALD of a client: who sent it from which port to which address of this host, its
    number, the ``path`` that it asks for or why there is none (``note``), and when it came.
    ``fresh``: no dump of the client was known then. ``again``: it was not the first one."""

    client: Key
    port: int
    server: str
    seqno: int
    path: bytes
    note: str
    at: float
    fresh: bool = True
    again: bool = False


class Heralds:
    """The last HERALDs, by the address of the client and the slot of the data port that it was
    told of: a number below ``slots``."""

    def __init__(self, slots: int, secret: bytes) -> None:
        """``secret``: up to 64 bytes that strangers must not know."""
        self.slots = slots
        self._secret = secret
        self._last: OrderedDict[tuple[str, int], Herald] = OrderedDict()

    def note(self, herald: Herald, taken: Container[int]) -> int:
        """Remember a HERALD; the slot of its client, which is none of those ``taken`` by dumps of
        its address, nor another client's of that address."""
        address = herald.client[0]
        slots = [slot for slot in self._order(herald.client) if slot not in taken]
        free = (
            slot
            for slot in slots
            if self._last.get((address, slot), herald).client == herald.client
        )
        place = address, next(free, self.slot(herald.client))
        again = place in self._last
        self._last[place] = herald._replace(again=again)
        self._last.move_to_end(place)
        if len(self._last) > _MOST:
            self._last.popitem(last=False)
        return place[1]

    def slot(self, client: Key) -> int:
        """The slot of a client, unless it is taken."""
        text = f"{client[0]} {client[1]}".encode()
        digest = blake2b(text, digest_size=4, key=self._secret).digest()
        return int.from_bytes(digest, "big") % self.slots

    def slots_of(self, client: Key) -> list[int]:
        """The slots that a client was told of, and to which no data came."""
        places = ((slot, self._last.get((client[0], slot))) for slot in self._order(client))
        return [slot for slot, one in places if one is not None and one.client == client]

    def last(self, address: str, slot: int) -> Herald | None:
        """The HERALD after which a client was told of a slot, if that is remembered."""
        return self._last.get((address, slot))

    def take(self, address: str, slot: int) -> Herald | None:
        """Data came to a slot, or nothing is expected there any more: the HERALD that led there."""
        return self._last.pop((address, slot), None)

    def oldest(self) -> tuple[int, Herald] | None:
        """The oldest HERALD after which nothing came, behind its slot."""
        for (_, slot), herald in self._last.items():
            return slot, herald
        return None

    def _order(self, client: Key) -> list[int]:
        """All slots, in the order in which a client is given them."""
        first = self.slot(client)
        return [*range(first, self.slots), *range(first)]
