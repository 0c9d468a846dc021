# SPDX-License-Identifier: GPL-2.0-or-later
"""What to call a client in file names: its address, or its name when asked for."""

from __future__ import annotations

import re
import socket

#: A host name's first label (RFC 1123), and nothing that means anything in a path.
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")


def address_text(address: bytes) -> str:
    """A packed IPv4 or IPv6 address (4 or 16 bytes) in its usual form."""
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, address)


def address_bytes(text: str) -> bytes:
    """The packed form of an address; ValueError if it is none."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, text)
        except OSError:
            continue
    raise ValueError(f"{text}: not an IPv4 or IPv6 address")


def host_name(address: str) -> str:
    """The name that reverse DNS knows, cut at its first dot as netdumpd does.

    The address itself if there is no name, or one that is not fit for a file name. Waits
    for the system's resolver.
    """
    try:
        name = socket.gethostbyaddr(address)[0].partition(".")[0]
    except (OSError, UnicodeError):
        return address
    return name if _LABEL.fullmatch(name) else address
