# SPDX-License-Identifier: GPL-2.0-or-later
"""What starts the server at boot: files of this package, filled in."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from importlib.resources import files

_PLACE = "@COMMAND@"


def systemd_unit(command: Sequence[str]) -> str:
    """The unit that runs ``command`` (a program and its first arguments)."""
    return _template("netdump.service").replace(_PLACE, " ".join(map(_quoted, command)))


def rc_script(command: Sequence[str]) -> str:
    """FreeBSD's script for rc(8). It stands within double quotes, and is read twice."""
    words = " ".join(map(shlex.quote, command))
    for special in '\\"$`':
        words = words.replace(special, "\\" + special)
    return _template("netdump.rc").replace(_PLACE, words)


def _template(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _quoted(word: str) -> str:
    """A word of an ExecStart line, as systemd.service(5) takes it."""
    word = word.replace("%", "%%").replace("$", "$$")
    if not any(c.isspace() or c in "\"'\\;" for c in word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
