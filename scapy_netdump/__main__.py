# SPDX-License-Identifier: GPL-2.0-or-later
"""``python -m scapy_netdump`` is the command ``netdump``."""

import sys

from .cli.main import main

sys.exit(main())
