# SPDX-License-Identifier: GPL-2.0-or-later
"""No bytes make the dissector fail: mutated frames of the samples, the same ones each time."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable
from pathlib import Path

import pytest
from helpers import wireshark
from helpers.wireshark import PCAPS, needs_tshark
from scapy.all import UDP, RawPcapReader, rdpcap

from scapy_netdump.formats import ACK_PORT, HERALD_PORT

pytestmark = needs_tshark

FRAMES = 12_000
SOURCES = ("two-clients", "hostile", "no-kdh", "coalesced", "client-port", "path", "zstd")
SMALL = 2_000  # bytes of a payload that are enough: what follows is only data


def payloads() -> list[bytes]:
    """UDP payloads of some samples, keys among them."""
    found = []
    for name in SOURCES:
        found += [bytes(packet[UDP].payload) for packet in rdpcap(str(PCAPS / f"{name}.pcap"))]
    encrypted = RawPcapReader(str(PCAPS / "kernel-encrypted-chacha20.pcap.gz"))
    found += [frame[42:] for frame, _ in (next(encrypted) for _ in range(20)) if len(frame) > 60]
    return [payload[:SMALL] if len(payload) < 10_000 else payload for payload in found]


def mutated(rng: random.Random, payload: bytes) -> bytes:
    data = bytearray(payload)
    for _ in range(rng.choice((0, 1, 1, 2, 8))):
        kind = rng.randrange(6)
        at = rng.randrange(min(len(data), 560) + 1)
        if kind == 0 and data:  # a byte of the headers
            data[at % len(data)] = rng.choice((0, 1, 2, 3, 4, 5, 0x7F, 0x80, 0xFF))
        elif kind == 1 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            data[at:at] = rng.randbytes(rng.randrange(1, 40))
        elif kind == 4:
            data[at : at + 4] = rng.choice((0, 1, 24, 2**31, 2**32 - 1)).to_bytes(4, "big")
        else:
            del data[at : at + rng.randrange(1, 40)]
    return bytes(data)


def frame(rng: random.Random, payload: bytes) -> bytes:
    """An IP packet from one end to the other; its checksums are nobody's business."""
    ports = (ACK_PORT, ACK_PORT, HERALD_PORT, 41885, 31234)
    length = 8 + len(payload)
    udp = struct.pack("!HHHH", rng.choice(ports), rng.choice(ports), length, 0) + payload
    ends = [bytes([192, 0, 2, last]) for last in rng.sample((1, 2), 2)]
    if rng.random() < 0.1:
        head = struct.pack("!IHBB", 6 << 28, length, 17, 64)
        return head + b"".join(end.rjust(16, b"\x20") for end in ends) + udp
    return struct.pack("!BxHxxxxBBxx", 0x45, 20 + length, 64, 17) + b"".join(ends) + udp


def capture_of_frames(path: Path, frames: Iterable[bytes]) -> Path:
    raw_ip = 101  # LINKTYPE_RAW
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, raw_ip))
        for number, data in enumerate(frames):
            file.write(struct.pack("<IIII", number // 1000, number % 1000, len(data), len(data)))
            file.write(data)
    return path


@pytest.mark.parametrize("seed", [1])
def test_mutated_frames_raise_no_error(tmp_path: Path, seed: int) -> None:
    rng, known = random.Random(seed), payloads()
    frames = (frame(rng, mutated(rng, rng.choice(known))) for _ in range(FRAMES))
    capture = capture_of_frames(tmp_path / "fuzz.pcap", frames)
    assert wireshark.run("-r", capture, "-Y", "_ws.lua.error") == ""
    text = wireshark.run("-2", "-r", capture, "-V", "-O", "fbsd_netdump,_ws.lua")
    assert "Lua Error" not in text
    assert text.count("\nFreeBSD netdump, ") > FRAMES / 2


def test_frames_that_were_cut_anywhere_raise_no_error(tmp_path: Path) -> None:
    cut = tmp_path / "cut.pcap"
    snapped = bytearray()
    source = (PCAPS / "two-dumps.pcap").read_bytes()
    snapped += source[:24]
    for frame, meta in RawPcapReader(str(PCAPS / "two-dumps.pcap")):
        for keep in range(42, min(len(frame), 42 + 24 + 520), 7):
            head = (meta.sec, meta.usec, keep, meta.wirelen)
            snapped += b"".join(number.to_bytes(4, "little") for number in head) + frame[:keep]
    cut.write_bytes(snapped)
    assert wireshark.run("-r", cut, "-Y", "_ws.lua.error") == ""
    text = wireshark.run("-2", "-r", cut, "-V", "-O", "fbsd_netdump")
    assert "Lua Error" not in text
