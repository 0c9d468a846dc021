# SPDX-License-Identifier: GPL-2.0-or-later
"""A small file written over where it is: what is left to do when there is no room for a second."""

from __future__ import annotations

import errno
import os
import stat

#: What is answered where blocks or inodes have run out, of the disk or of a user's quota.
NO_SPACE = {errno.ENOSPC, errno.EDQUOT}


def overwrite(descriptor: int, data: bytes) -> bool:
    """Have an open file hold ``data``; False, and it is as it was, if that does not fit in the
    blocks that it has, or if it has more names than one, or none.

    One call brings all: whoever reads, or is killed, in between has the new lines, and blank ones
    behind them as long as what was longer is not cut off.
    """
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        return False
    old = os.pread(descriptor, status.st_size, 0)
    filled = data.ljust(len(old), b"\n")
    fits = _put(descriptor, filled)
    if not fits:
        _put(descriptor, old)
    os.ftruncate(descriptor, len(data) if fits else len(old))
    return fits


def _put(descriptor: int, data: bytes) -> bool:
    done = 0
    while done < len(data):
        try:
            done += os.pwrite(descriptor, data[done:], done)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            return False
    return True
