# SPDX-License-Identifier: GPL-2.0-or-later
"""pyshark reads captures with the dissector, one after the other, whatever asyncio did before."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.wireshark import PCAPS, SCRIPT, needs_tshark

pytest.importorskip("pyshark", reason="pyshark is not installed")

from scapy_netdump.wireshark.pyshark_captures import netdump_capture

pytestmark = needs_tshark

EXAMPLE = Path(__file__).with_name("pyshark_example.py")


def test_panic_string_offsets_and_ack_times() -> None:
    with netdump_capture(PCAPS / "path.pcap") as packets:
        layers = [packet.fbsd_netdump for packet in packets]
    assert len(layers) == 40
    headers = [layer for layer in layers if "kdh_panicstring" in layer.field_names]
    assert [layer.kdh_panicstring for layer in headers] == ["page fault"]
    offsets = [int(layer.offset) for layer in layers if layer.get("type") == "3"]
    assert offsets == [1448 * number for number in range(17)]
    times = [float(layer.ack_time) for layer in layers if "ack_time" in layer.field_names]
    assert len(times) == 20
    assert all(0 < time < 0.001 for time in times)
    assert layers[0].path == "lab/rack-7"
    assert layers[0].acked_in == "2"


def test_several_captures_and_asyncio_around_them() -> None:
    async def nothing() -> None:
        pass

    for _ in range(2):
        asyncio.run(nothing())
        finished = "fbsd_netdump.type == 2"
        with netdump_capture(PCAPS / "path.pcap", display_filter=finished) as packets:
            assert len(list(packets)) == 1


def test_a_capture_that_is_left_early_leaves_the_next_alone() -> None:
    with netdump_capture(PCAPS / "path.pcap") as first:
        assert int(next(iter(first)).number) == 1
    with netdump_capture(PCAPS / "zstd.pcap") as second:
        assert len(list(second)) == 18


def test_pyshark_by_itself_takes_the_script() -> None:
    code = (
        "import pyshark, sys; load = ['-X', 'lua_script:' + sys.argv[2]];"
        "c = pyshark.FileCapture(sys.argv[1], custom_parameters=load);"
        "print(c[0].fbsd_netdump.path); c.close()"
    )
    command = [sys.executable, "-c", code, str(PCAPS / "path.pcap"), str(SCRIPT)]
    assert subprocess.check_output(command, text=True) == "lab/rack-7\n"


def test_the_example_runs() -> None:
    command = [sys.executable, str(EXAMPLE), str(PCAPS / "path.pcap")]
    printed = subprocess.check_output(command, text=True).splitlines()
    assert printed[0] == "panic: page fault"
    assert printed[1] == "17 pieces, offsets 0 to 23168"
    assert printed[2].startswith("20 acks, the slowest after 0.0000")
