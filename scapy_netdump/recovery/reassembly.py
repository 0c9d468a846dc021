# SPDX-License-Identifier: GPL-2.0-or-later
"""The dumps in captures, for Python programs that do not want to keep their files."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

from ..dump.captures import Captures, Progress, selection
from ..dump.dump import Dump
from ..dump.open import Passphrase, no_passphrase, unlocked_with
from ..dump.scratch import Scratches, opened

_log = logging.getLogger(__name__)


def reassemble(
    *captures: str | bytes | os.PathLike[str],
    client: str | None = None,
    server: str | None = None,
    port: int | None = None,
    private_key: str | os.PathLike[str] | None = None,
    passphrase: Passphrase = no_passphrase,
    progress: Progress | None = None,
) -> Iterator[Dump]:
    """The dumps in some captures, which are read as one.

    Each has its bytes in an unnamed temporary file, as long as it lives: while iterating, and
    with ``list`` afterwards too. ``client`` and ``server`` are the addresses, ``port`` the
    server's port of the dumps that are wanted; ``private_key`` and ``passphrase`` are as for
    ``open_dump``. What is wrong with the captures is logged. CaptureError if one is no capture,
    StoreError if there is no room, UsageError for an address that is none.

        for dump in reassemble("panic.pcapng"):
            print(dump.panicstring, dump.verdict, dump.missing)
    """
    reader = Captures(Scratches().storage_for, selection(client, server, port))
    for capture in captures:
        reader.read(os.fsdecode(capture), progress)
    dumps = reader.finish()
    for problem in reader.problems:
        _log.warning("%s", problem)
    yield from opened(dumps, unlock=unlocked_with(private_key, passphrase))
