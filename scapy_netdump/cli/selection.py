# SPDX-License-Identifier: GPL-2.0-or-later
"""The options that narrow a capture down, as the core takes them."""

from __future__ import annotations

import argparse

from ..core.observing.selection import Selection
from ..errors import UsageError
from ..store.hosts import address_bytes


def selection_of(options: argparse.Namespace) -> Selection:
    """The Selection that ``--client``, ``--server`` and ``--port`` ask for."""
    return Selection(
        client=_address("--client", options.client),
        server=_address("--server", options.server),
        port=options.port,
    )


def _address(option: str, text: str | None) -> bytes | None:
    try:
        return None if text is None else address_bytes(text)
    except ValueError as error:
        raise UsageError(f"{option} {error}") from None
