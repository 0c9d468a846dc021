# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the project's own files are."""

from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent
PCAPS = ROOT / "pcaps"
