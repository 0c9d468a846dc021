# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines for the system's log, as syslog(3) sends them.

Not by the C library, which keeps a descriptor of its own: a process that was forked to run
scripts closes all that it does not know, and must not find another file behind that number.
The form of a line is that of RFC 3164, section 4.1; numbers are those of <sys/syslog.h>.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress

from ...errors import NetdumpError

ERROR, WARNING, INFO = 3, 4, 6
_DAEMON = 3 << 3

#: Where the log is to be found: on Linux, on FreeBSD, on macOS.
PLACES = ("/dev/log", "/var/run/log", "/var/run/syslog")

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

#: Bytes of a line; receivers take at least 1024 (RFC 3164), and those in use take 8192.
_LONGEST = 8000


class SystemLogError(NetdumpError):
    """There is no log to write to."""


class SystemLog:
    """Writes lines to the system's log under a name. Connected from the start: a process that is
    confined or has another root directory later goes on."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._socket = _connected()

    def write(self, when: float, priority: int, text: str) -> None:
        """Write a line. OSError if the log does not take it, also where it was started anew."""
        clock = time.localtime(when)
        stamp = f"{_MONTHS[clock.tm_mon - 1]} {clock.tm_mday:2} {time.strftime('%H:%M:%S', clock)}"
        line = f"<{_DAEMON | priority}>{stamp} {self._name}[{os.getpid()}]: {text}"
        data = line.encode(errors="backslashreplace")[:_LONGEST]
        try:
            self._socket.send(data)
        except OSError:
            self.close()
            with suppress(SystemLogError):
                self._socket = _connected()
            self._socket.send(data)

    def close(self) -> None:
        """Write no more."""
        self._socket.close()


def _connected() -> socket.socket:
    problems = []
    for place in PLACES:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            sock.connect(place)
        except OSError as error:
            sock.close()
            problems.append(f"{place}: {error.strerror}")
        else:
            return sock
    raise SystemLogError("no system log to write to: " + ", ".join(problems))
