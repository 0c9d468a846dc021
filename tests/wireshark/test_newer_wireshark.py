# SPDX-License-Identifier: GPL-2.0-or-later
"""The dissector in Wireshark 4.4 with Lua 5.4: the npm package wiregasm, which Node runs.

It is looked for beside this Python's own packages: `npm install --prefix .venv PACKAGE`.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from helpers import wireshark
from helpers.places import TESTS
from helpers.wireshark import PCAPS, SAMPLES, SCRIPT

PACKAGE = "@goodtools/wiregasm@1.9.1"
FOLDER = Path(sys.prefix) / "node_modules" / "@goodtools" / "wiregasm"
HARNESS = TESTS / "helpers" / "wiregasm.mjs"

pytestmark = [
    pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed"),
    pytest.mark.skipif(
        not FOLDER.is_dir(), reason=f"run: npm install --prefix {sys.prefix} {PACKAGE}"
    ),
]

FILTERS = ("kdh.magic", "retransmission", "ack_to", "acked_in", "missing > 0", "gap", "dump == 2")


@cache
def seen(name: str) -> dict[str, Any]:
    filters = [f"fbsd_netdump.{one}" for one in FILTERS]
    command = ["node", HARNESS, FOLDER, SCRIPT, PCAPS / name, *filters, "_ws.lua.error"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", SAMPLES)
def test_it_loads_and_raises_no_error(name: str) -> None:
    found = seen(name)
    assert not [line for line in found["messages"] if "lua" in line.lower()]
    assert found["counts"][-1] == 0
    assert any("Netdump" in line or line.startswith(("HERALD", "VMCORE")) for line in found["info"])


def test_it_shows_what_the_sample_is_about() -> None:
    found = seen("kernel-lossy-server-side.pcap.gz")
    counts = dict(zip(FILTERS, found["counts"], strict=False))
    assert counts["retransmission"] == 44
    assert counts["kdh.magic"] == counts["missing > 0"] == 1
    assert counts["ack_to"] > 2200
    assert "FINISHED [33304 bytes missing in 23 ranges]" in found["info"]
    tree = found["tree"]
    assert "panicstring: page fault" in tree
    assert any(line.startswith("dumptime: Jun 10, 2024 06:13:20") for line in tree)
    assert "parity ok: True" in tree


@wireshark.needs_tshark
@pytest.mark.parametrize("name", SAMPLES)
def test_it_says_what_the_older_one_says(name: str) -> None:
    older = [line.strip() for line in wireshark.infos(PCAPS / name)]
    newer = [line.strip() for line in seen(name)["info"]]
    ours = ("HERALD", "VMCORE", "ACK", "KDH", "FINISHED", "EKCD_KEY", "unknown", "neither")
    assert [one for one in newer if one.startswith(ours)] == [
        one for one in older if one.startswith(ours)
    ]
