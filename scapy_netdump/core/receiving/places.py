# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may dump when many want to: so many at once, and not all of them from one corner.

A dump that stands still gives its place to one that moves; the smallest first. Its bytes stay on
the disk, as of any dump that broke off.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network
from math import ceil

from ..identity import LONG_SILENCE
from .limits import Limits
from .session import Session

#: A session that gained less than Session.STRIDE for so long stands still. A kernel that waits for
#: an ack says so every second.
_STILL = 2 * LONG_SILENCE

#: What one network (IPv4: /24, IPv6: /64) may have of all places, and what one address, where
#: clients are told apart by their ports.
_OF_NETWORK, _OF_ADDRESS = 0.75, 0.5


def make_room(
    sessions: Iterable[Session], client: str, limits: Limits, now: float
) -> tuple[Session | None, str]:
    """Whether one more client may dump beside ``sessions``, those that receive: the session that
    has to end for it, if any, and why it may not, if so."""
    receiving = list(sessions)
    groups = [
        (receiving, limits.clients, ""),
        ([one for one in receiving if _network(one.client) == _network(client)],
         _share(limits.clients, _OF_NETWORK), " of its network"),
        ([one for one in receiving if one.client == client],
         _share(limits.clients, _OF_ADDRESS), " of its address"),
    ]  # fmt: skip
    for members, most, whose in reversed(groups):
        if len(members) >= most:
            still = [one for one in members if not one.busy and now - one.moved >= _STILL]
            if not still:
                return None, f"{most} clients{whose} are dumping already"
            return min(still, key=lambda one: (one.account.vmcore.total, one.moved)), ""
    return None, ""


def _share(places: int, part: float) -> int:
    return ceil(places * part)


def _network(address: str) -> str:
    plain = address.partition("%")[0]
    return str(ip_network(f"{plain}/{64 if ':' in plain else 24}", strict=False))
