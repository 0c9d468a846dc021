# SPDX-License-Identifier: GPL-2.0-or-later
"""What to call a client in file names: its address, or its name when asked for."""

from __future__ import annotations

import re
import socket

#: A host name's first label (RFC 1123), and nothing that means anything in a path.
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")

#: What is replaced in the name of an interface (``fe80::1%em0.7``), and how much is kept.
_ODD = re.compile(r"[^A-Za-z0-9_-]")
_MAX_SCOPE = 32


def address_text(address: bytes) -> str:
    """A packed IPv4 or IPv6 address (4 or 16 bytes) in its usual form."""
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, address)


def address_bytes(text: str) -> bytes:
    """The packed form of an address; ValueError if it is none."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            return socket.inet_pton(family, text)
        except (OSError, ValueError):  # the latter for a NUL, or what is not ASCII
            continue
    raise ValueError(f"{text}: not an IPv4 or IPv6 address")


def file_host(address: str, name: str = "") -> str:
    """What a client is called in file names: its ``name`` if that is a host name's first
    label, else its address, with nothing odd in the scope of an IPv6 one.

    ValueError if ``address`` is none.
    """
    if _LABEL.fullmatch(name):
        return name
    plain, percent, scope = address.partition("%")
    packed = address_text(address_bytes(plain))
    return packed + percent + _ODD.sub("_", scope)[:_MAX_SCOPE]


def host_name(address: str) -> str:
    """The name that reverse DNS knows, cut at its first dot as netdumpd does.

    The address itself if there is no name, or one that is not fit for a file name. Waits
    for the system's resolver.
    """
    try:
        name = socket.gethostbyaddr(address)[0].partition(".")[0]
    except (OSError, UnicodeError):
        return address
    return file_host(address, name)
