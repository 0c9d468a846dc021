# SPDX-License-Identifier: GPL-2.0-or-later
"""The exit statuses of ``netdump``."""

GOOD = 0
FAILED = 1
USAGE = 2
INCOMPLETE = 3
