# SPDX-License-Identifier: GPL-2.0-or-later
"""The dumps in captures, for Python programs that do not want to keep their files."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator

from .recoverer import RecoveredDump, recover

_log = logging.getLogger(__name__)


def reassemble(*captures: str | os.PathLike[str]) -> Iterator[RecoveredDump]:
    """The dumps in some captures, which are read as one.

    Their files are on disk, in a temporary directory that goes when the iteration ends;
    ``recover`` keeps them. What is wrong with the captures is logged. CaptureError if one
    is no capture.

        for dump in reassemble("panic.pcapng"):
            print(dump.kdh.panicstring, dump.complete, dump.missing)
    """
    with tempfile.TemporaryDirectory(prefix="netdump-") as directory:
        recovery = recover([os.fspath(capture) for capture in captures], directory)
        for problem in recovery.problems:
            _log.warning("%s", problem)
        yield from recovery.dumps
