# SPDX-License-Identifier: GPL-2.0-or-later
"""The package's own exceptions.

Every message is one line for a person: what was wrong, where, and what to do.
"""


class NetdumpError(Exception):
    """Something failed in a way that is explained by the message."""


class CaptureError(NetdumpError):
    """A capture cannot be read at all: not a capture, or an unknown kind of one."""


class StoreError(NetdumpError):
    """Files of a dump cannot be created or written where they were asked for."""


class UsageError(NetdumpError):
    """The command line, or a call, asks for something that makes no sense."""


class WaitTimeoutError(NetdumpError):
    """What was waited for did not come within its time."""
