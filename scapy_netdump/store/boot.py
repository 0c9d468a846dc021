# SPDX-License-Identifier: GPL-2.0-or-later
"""Which run of this machine's kernel this is: its page cache is what holds bytes that were acked.

Linux has random(4)'s boot_id. FreeBSD has the sysctl kern.boot_id (sys/kern/kern_mib.c), and
before that, as macOS, kern.boottime, which moves when the clock is set: then nothing is believed
that could be.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

_LINUX = Path("/proc/sys/kernel/random/boot_id")
_SYSCTLS = (b"kern.boot_id", b"kern.boottime")


def _boot_id() -> str:
    try:
        return _LINUX.read_text().strip()
    except OSError:
        pass
    libc = ctypes.CDLL(None)
    value = ctypes.create_string_buffer(64)
    for name in _SYSCTLS if hasattr(libc, "sysctlbyname") else ():
        size = ctypes.c_size_t(len(value))
        if libc.sysctlbyname(name, value, ctypes.byref(size), None, ctypes.c_size_t(0)) == 0:
            return value.raw[: size.value].hex()
    return ""


#: Empty if it cannot be told. Looked up at once: a process that has confined itself cannot.
THIS_BOOT = _boot_id()
