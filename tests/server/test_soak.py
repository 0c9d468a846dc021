# SPDX-License-Identifier: GPL-2.0-or-later
"""The soak of tests/benchmarks, for a short time: it runs, and finds nothing."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from helpers.places import TESTS


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs all of 127.0.0.0/8")
def test_what_is_called_complete_is_what_was_sent_and_what_is_acked_is_kept():
    command = [sys.executable, str(TESTS / "benchmarks" / "soak.py"), "--clients", "16"]
    answer = subprocess.run(
        [*command, "--seconds", "30"], capture_output=True, text=True, timeout=200
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    told = re.search(r"(\d+) complete", answer.stdout)
    assert told is not None
    assert int(told[1]) > 20


@pytest.mark.slow
@pytest.mark.root
def test_a_flood_of_forged_heralds_keeps_nobody_out():
    command = [sys.executable, str(TESTS / "benchmarks" / "flood.py"), "--seconds", "8"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "12 of 12 clients got in" in answer.stdout
