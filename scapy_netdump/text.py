# SPDX-License-Identifier: GPL-2.0-or-later
"""Hostile values as harmless text.

What a dump says about itself was written by whoever sent it; it reaches terminals and
line-oriented files only through these functions.
"""

import time


def printable(text: str) -> str:
    """`text` on one line: whatever cannot be seen is written as a Python escape.

    Covers line breaks (a newline in a host name must not forge a line of an info file),
    terminal control sequences and invisible formatting such as right-to-left overrides.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def counted(number: int, noun: str) -> str:
    """A number of things, with the ``s`` that all but one take."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def utc_date(seconds: int) -> str:
    """Seconds since 1970 as ctime(3) writes them, in UTC whatever the local zone is.

    A number that is no date in the years 1970 to 9999 is returned as the number.
    """
    if not 0 <= seconds < _YEAR_10000:
        return f"{seconds} (no date)"
    return time.asctime(time.gmtime(seconds))


_YEAR_10000 = 253_402_300_800
