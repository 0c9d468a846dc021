# SPDX-License-Identifier: GPL-2.0-or-later
"""Text that a user wants in a message: in full, or not at all."""

from __future__ import annotations

from ..errors import UsageError


def sent_bytes(option: str, text: str, room: int) -> bytes:
    """The bytes that go out for a text: UTF-8, and bytes of the command line that are none as they
    are. UsageError, which names the option, if the receiver would read something else: it has
    `room` for so many, and takes a NUL for the end."""
    try:
        data = text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        raise UsageError(
            f"{option}: half of a character (a surrogate), which cannot be sent"
        ) from None
    if b"\0" in data:
        raise UsageError(f"{option}: has a NUL, which would end it")
    if len(data) > room:
        raise UsageError(f"{option}: no more than {room} bytes fit, and it has {len(data)}")
    return data
