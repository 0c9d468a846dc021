# SPDX-License-Identifier: GPL-2.0-or-later
"""``netdump dmesg``."""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from pathlib import Path

from ..exits import GOOD, INCOMPLETE
from ..inspection import inspect
from .passphrase import ask_passphrase
from .progress import ProgressLine


def run(options: argparse.Namespace) -> int:
    """Print the console text of a dump, and return the exit status."""
    with ExitStack() as files:
        with ProgressLine() as progress:
            dump = inspect(
                Path(options.file),
                files,
                number=options.number,
                private_key=Path(options.private_key) if options.private_key else None,
                passphrase=ask_passphrase,
                progress=progress,
            )
        text, missing = dump.console
    if options.json:
        print(json.dumps({"file": dump.name, "console": text, "bytes_missing": missing}, indent=2))
    else:
        print(text, end="")
    return INCOMPLETE if missing else GOOD
