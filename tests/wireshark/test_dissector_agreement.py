# SPDX-License-Identifier: GPL-2.0-or-later
"""What tshark shows is what the Scapy layers and `netdump recover` say, on every sample."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import wireshark
from helpers.wireshark import PCAPS, SAMPLES, needs_tshark
from scapy.packet import Packet, Raw

from scapy_netdump import (
    KernelDumpHeader,
    KernelDumpKey,
    Netdump,
    NetdumpAck,
    NetdumpHerald,
    NetdumpMessages,
)
from scapy_netdump.layers.messages import datagram_class
from scapy_netdump.text import utc_date
from scapy_netdump.wireshark.generator import kind

pytestmark = needs_tshark

PREFIXES = {KernelDumpHeader: "kdh.", KernelDumpKey: "key."}
LAYERS = (Netdump, NetdumpAck, NetdumpHerald, KernelDumpHeader, KernelDumpKey)


def payloads(layers: dict[str, Any]) -> tuple[bytes, int]:
    """What was captured of a datagram, and its length."""
    udp = layers["udp"]
    return bytes.fromhex(udp["udp.payload"].replace(":", "")), int(udp["udp.length"]) - 8


def dissected(payload: bytes, length: int, from_client: bool) -> list[Packet]:
    """The messages or acks of a datagram, as Scapy has them."""
    packet = datagram_class(payload, length, from_client=from_client)(payload)
    if isinstance(packet, NetdumpMessages):
        return list(packet.messages)
    return list(getattr(packet, "acks", [packet]))


def expected(packet: Packet) -> Iterator[tuple[str, str]]:
    """Scapy's fields of one message or ack, as Wireshark writes them."""
    for layer in packet.iterpayloads():
        layer = packet[layer] if isinstance(layer, type) else layer
        for known in LAYERS:
            if isinstance(layer, known):
                prefix = PREFIXES.get(known, "")
                break
        else:
            continue
        for field in layer.fields_desc:
            value = layer.getfieldval(field.name)
            text = None if value is None else written(kind(field), value)
            if text is not None:
                yield prefix + field.name, text


def written(kind: str, value: Any) -> str | None:
    """A value of some kind in tshark's JSON; None if it is left out there."""
    if kind == "path":
        return value.decode(errors="replace") or None
    if kind == "string":
        return value.partition(b"\0")[0].decode(errors="replace")
    if kind == "bytes":
        return value.hex(":") or None
    if kind == "time":
        return utc_date(value)
    return f"0x{value:08x}" if kind == "hex32" else str(value)


def shown(tree: dict[str, Any], names: set[str]) -> Iterator[tuple[str, str]]:
    """tshark's values of the fields that Scapy has too."""
    for name, value in wireshark.flat(tree):
        if name in names:
            yield name, value


def comparable(fields: Iterator[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """Without the spelling of dates, of which each version of Wireshark has its own."""
    return Counter((name, value) for name, value in fields if name != "kdh.dumptime")


NAMES = {
    PREFIXES.get(layer, "") + field.name for layer in LAYERS for field in layer.fields_desc
}  # fmt: skip


@pytest.mark.parametrize("name", SAMPLES)
def test_fields_are_those_of_the_scapy_layers(name: str) -> None:
    compared = 0
    for layers in wireshark.packets(PCAPS / name):
        trees = layers.get("fbsd_netdump", [])
        trees = trees if isinstance(trees, list) else [trees]
        if not trees or "fbsd_netdump.note.runt" in json.dumps(trees):
            continue
        from_client = any(f"{wireshark.PREFIX}type" in tree for tree in trees)
        found = dissected(*payloads(layers), from_client)
        assert len(trees) == len(found)
        for tree, packet in zip(trees, found, strict=True):
            want = comparable(expected(packet))
            assert comparable(shown(tree, NAMES)) == want
            compared += len(want)
            if type(packet.lastlayer()) is Raw and len(found) == 1:  # not Padding
                assert tree[f"{wireshark.PREFIX}data"] == packet.lastlayer().load.hex(":")
    assert compared > 20


def recovered(name: str, directory: Path) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "scapy_netdump", "recover", "--json", "-o", str(directory)]
    ended = subprocess.run([*command, str(PCAPS / name)], capture_output=True, check=False)
    dumps: list[dict[str, Any]] = json.loads(ended.stdout)
    return dumps


@pytest.mark.parametrize("name", SAMPLES)
def test_coverage_is_that_of_recover(name: str, tmp_path: Path) -> None:
    fields = ("dump", "retransmission", "missing", "gaps", "missing_range", "received")
    seen = wireshark.rows(PCAPS / name, *fields)
    assert seen == wireshark.rows(PCAPS / name, *fields, passes=1)
    for number, dump in enumerate(recovered(name, tmp_path), 1):
        mine = [row for row in seen if str(number) in row[0]]
        assert sum(len(row[1]) for row in mine) == dump["retransmitted"]
        received = [row[5] for row in mine if row[5]][-1][-1]
        assert int(received) >= dump["bytes_received"]  # padding behind a compressed dump
        finished = [row for row in mine if row[2]]
        assert bool(finished) == dump["finished"]
        for _, _, missing, gaps, ranges, _ in finished:
            assert missing == [str(sum(end - start for start, end in dump["missing"]))]
            assert gaps == [str(len(dump["missing"]))]
            assert ranges == [f"{start}-{end}" for start, end in dump["missing"]]


def test_the_capture_of_the_dump_that_both_ends_called_complete() -> None:
    lossy = PCAPS / "kernel-lossy-server-side.pcap.gz"
    assert wireshark.column(lossy, "missing") == ["33304"]
    assert wireshark.column(lossy, "gaps") == ["23"]
    assert len(wireshark.column(lossy, "missing_range")) == 23


def test_the_time_of_a_dump_is_a_time() -> None:
    (time,) = wireshark.column(PCAPS / "kernel-clean.pcap.gz", "kdh.dumptime")
    assert "2024" in time
    assert "06:13:20" in time
