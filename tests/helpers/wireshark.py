# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs tshark with the dissector, for the tests of it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.places import PCAPS, ROOT
from scapy.all import Ether, wrpcap

SAMPLES = sorted(path.name for path in PCAPS.glob("*.pcap*"))
SCRIPT = ROOT / "scapy_netdump" / "wireshark" / "fbsd_netdump.lua"
PREFIX = "fbsd_netdump."

needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")


def run(*arguments: str | Path, script: Path = SCRIPT) -> str:
    """What tshark prints; it exits with 0 even when the script does not load, but says so."""
    load = ["-X", f"lua_script:{script}"]
    options = [str(argument) for argument in arguments]
    command = ["tshark", *(options + load if options[0] == "-G" else load + options)]
    ended = subprocess.run(
        command, capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    assert "lua" not in ended.stderr.lower(), ended.stderr
    assert ended.returncode == 0 or "cut short" in ended.stderr, ended.stderr
    return ended.stdout


def rows(capture: Path, *fields: str, passes: int = 2, options: Iterable[str] = ()) -> list[Any]:
    """The values of some fields (without the prefix), a list for each, frame by frame."""
    names = [name if name.startswith("_") else PREFIX + name for name in fields]
    wanted = [part for name in names for part in ("-e", name)]
    two = ["-2"] if passes == 2 else []
    shown = ["-T", "fields", "-E", "aggregator=|", *wanted]
    output = run("-n", *two, *options, "-r", capture, *shown)
    return [
        [value.split("|") if value else [] for value in line.split("\t")]
        for line in output.split("\n")[:-1]
    ]


def column(capture: Path, field: str, **options: Any) -> list[str]:
    """All values of one field, in the order of the capture."""
    return [value for row in rows(capture, field, **options) for value in row[0]]


def infos(capture: Path, passes: int = 2, options: Iterable[str] = ()) -> list[str]:
    """The info column of each frame."""
    two = ["-2"] if passes == 2 else []
    shown = ["-o", 'gui.column.format:"Info","%i"']
    return run("-n", *two, *options, "-r", capture, *shown).splitlines()


def packets(capture: Path, *options: str) -> Iterator[dict[str, Any]]:
    """Each frame's layers as `tshark -T json` has them; several of a kind are a list."""
    shown = ["-T", "json", "--no-duplicate-keys", "-J", "frame udp fbsd_netdump"]
    for packet in json.loads(run("-n", *options, "-r", capture, *shown)):
        yield packet["_source"]["layers"]


def flat(tree: Any) -> Iterator[tuple[str, Any]]:
    """The fields of a tree and of the trees in it: name without the prefix, and value."""
    for name, value in tree.items():
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                yield from flat(one)
            elif name.startswith(PREFIX):
                yield name.removeprefix(PREFIX), one


def capture_of(path: Path, packets: Iterable[Any], step: float = 0.001) -> Path:
    """A capture of some IP packets, evenly spaced in time."""
    frames = [Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / one for one in packets]
    for number, frame in enumerate(frames):
        frame.time = 1_700_000_000 + number * step
    wrpcap(str(path), frames)
    return path
