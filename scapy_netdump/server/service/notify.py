# SPDX-License-Identifier: GPL-2.0-or-later
"""Notices to the service manager, as sd_notify(3) sends them.

The variables and the messages are those of sd_notify(3) and sd_watchdog_enabled(3).
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from contextlib import suppress

_SOCKET, _WATCHDOG, _WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"


class Notifier:
    """Tells the service manager how the service does; nobody, if nobody asked to be told.

    ``watchdog`` is how often ``alive`` is to be called, in seconds; None: not at all.
    """

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        """Take what is asked for out of ``environment``, so that no child sends notices too.

        The socket is connected at once: later, a confined process may not be allowed to.
        """
        address = environment.pop(_SOCKET, "")
        interval = environment.pop(_WATCHDOG, "")
        pid = environment.pop(_WATCHDOG_PID, "")
        self._socket = _connect(address)
        self.watchdog: float | None = None
        ours = not pid or pid == str(os.getpid())
        if self._socket is not None and ours and interval.isdecimal() and int(interval):
            self.watchdog = int(interval) / 2e6  # twice as often as needed, as the manual advises

    def ready(self, status: str) -> None:
        """The service does what it is there for."""
        self._send("READY=1", status)

    def status(self, status: str) -> None:
        """A line for ``systemctl status``."""
        self._send(None, status)

    def stopping(self, status: str) -> None:
        """The service is about to end."""
        self._send("STOPPING=1", status)

    def alive(self) -> None:
        """The service is not stuck."""
        self._send("WATCHDOG=1", None)

    def close(self) -> None:
        """Send no more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str | None, status: str | None) -> None:
        """Never waits, and never fails: a manager that does not listen is no reason to end."""
        if self._socket is None:
            return
        lines = [message] if message else []
        if status:
            lines.append("STATUS=" + " ".join(status.splitlines()))
        with suppress(OSError):
            self._socket.send("\n".join(lines).encode(errors="backslashreplace"))


def _connect(address: str) -> socket.socket | None:
    """A socket to a path, or to a name in Linux's abstract space, which is written with an @."""
    if not address.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
        return None
    name = "\0" + address[1:] if address[0] == "@" else address
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        connected.connect(name)
        connected.setblocking(False)
    except OSError:
        connected.close()
        return None
    return connected
