# SPDX-License-Identifier: GPL-2.0-or-later
"""Which dumps of a capture: the options that narrow it down, and what the core takes."""

from __future__ import annotations

import argparse

from ..core.observing.selection import Selection
from ..errors import UsageError
from ..store.hosts import address_bytes
from .common import port


def add_selection(parser: argparse.ArgumentParser) -> None:
    """Add ``--client``, ``--server`` and ``--port``."""
    group = parser.add_argument_group("which dumps of a capture")
    group.add_argument("--client", metavar="ADDRESS", help="only those of this client")
    group.add_argument("--server", metavar="ADDRESS", help="only those to this server")
    group.add_argument(
        "--port", type=port, metavar="PORT",
        help="only those with this UDP port on either side, also if nothing else tells "
        "that it is netdump",
    )  # fmt: skip


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
