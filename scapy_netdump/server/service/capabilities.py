# SPDX-License-Identifier: GPL-2.0-or-later
"""Giving up what root may do beside files, which Landlock does not cover.

capabilities(7), capget(2), prctl(2); numbers are those of linux/capability.h and linux/prctl.h.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Iterable

# CAP_*
DAC_OVERRIDE, FOWNER = 1, 3
_SETPCAP = 8
_NAMES = {DAC_OVERRIDE: "dac_override", FOWNER: "fowner"}

_VERSION_3 = 0x20080522
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_MOST = 64  # bits of the sets


class CapabilityError(Exception):
    """Capabilities could not be given up, for the reason given in a few words."""


def keep_only(wanted: Iterable[int]) -> tuple[str, ...]:
    """Let this thread, and those that it starts, have none of root's capabilities but these;
    returns the names of those that are left. Nothing is given, and there is no way back.

    CapabilityError if the system has none, or refuses.
    """
    if sys.platform != "linux":
        raise CapabilityError("this system has no capabilities")
    libc = ctypes.CDLL(None, use_errno=True)
    permitted = _permitted(libc)
    left = sum(1 << number for number in wanted) & permitted
    if permitted >> _SETPCAP & 1:
        for number in range(_MOST):
            if not left >> number & 1 and _prctl(libc, _PR_CAPBSET_READ, number) == 1:
                _prctl(libc, _PR_CAPBSET_DROP, number)
    _prctl(libc, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    low, high = left & 0xFFFFFFFF, left >> 32
    if libc.capset(_header(), struct.pack("=6I", low, low, 0, high, high, 0)):
        raise CapabilityError(f"capset: {os.strerror(ctypes.get_errno())}")
    if _permitted(libc) != left:
        raise CapabilityError("capset: the system left this process its capabilities")
    return tuple(_NAMES.get(number, str(number)) for number in range(_MOST) if left >> number & 1)


def _permitted(libc: ctypes.CDLL) -> int:
    sets = ctypes.create_string_buffer(24)
    if libc.capget(_header(), sets):
        raise CapabilityError(f"capget: {os.strerror(ctypes.get_errno())}")
    _, low, _, _, high, _ = struct.unpack("=6I", sets.raw)
    return int(low | high << 32)


def _header() -> ctypes.Array[ctypes.c_char]:
    """For the calling thread. The kernel may write into it."""
    return ctypes.create_string_buffer(struct.pack("=Ii", _VERSION_3, 0), 8)


def _prctl(libc: ctypes.CDLL, *arguments: int) -> int:
    words = (*arguments, 0, 0, 0, 0)[:5]
    return int(libc.prctl(words[0], *map(ctypes.c_ulong, words[1:])))
