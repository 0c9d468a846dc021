# SPDX-License-Identifier: GPL-2.0-or-later
"""The files in a textdump (textdump(4)). Standard library only."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from typing import NamedTuple

from ..kerneldump.textdump import BLOCK, forward


class TextFile(NamedTuple):
    """A file in a textdump: its name as it stands there, and its bytes."""

    name: str
    data: bytes


def text_files(data: bytes) -> Iterator[TextFile]:
    """The files in a textdump, whichever way round it is, up to the first that is damaged.

    The kernel ends the archive without the two empty blocks that tar wants.
    """
    archive = io.BytesIO(forward(data) + bytes(2 * BLOCK))
    try:
        with tarfile.open(fileobj=archive, mode="r:", errors="backslashreplace") as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isreg() else None
                if file is not None:
                    yield TextFile(member.name, file.read())
    except (tarfile.TarError, EOFError, ValueError):
        return
