# SPDX-License-Identifier: GPL-2.0-or-later
"""Captures that a server writes: read back by tshark, Scapy, and this package."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import time
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.utils import rdpcap

from scapy_netdump.capture.write import LARGEST_PAYLOAD, CaptureTap, PcapngWriter, udp_headers
from scapy_netdump.errors import CaptureError
from scapy_netdump.formats import FINISHED, HERALD, VMCORE
from scapy_netdump.recovery.recoverer import recover
from scapy_netdump.wire import ack, header

CLIENT, SERVER, HERALDS = ("192.0.2.2", 20024), ("192.0.2.1", 40000), ("192.0.2.1", 20023)
endpoints = st.tuples(st.binary(min_size=4, max_size=4), st.integers(0, 65535))
endpoints6 = st.tuples(st.binary(min_size=16, max_size=16), st.integers(0, 65535))


def message(kind: int, seqno: int, offset: int = 0, payload: bytes = b"") -> bytes:
    return header(kind, seqno, offset, len(payload)) + payload


def writer(path: Path) -> PcapngWriter:
    return PcapngWriter(path, "test", "somewhere")


@given(endpoints, endpoints, st.binary(max_size=3000))
def test_ipv4_headers_are_what_scapy_makes(
    source: tuple[bytes, int], destination: tuple[bytes, int], payload: bytes
) -> None:
    made = udp_headers(source, destination, payload) + payload
    packet = IP(made)
    assert (packet[UDP].sport, packet[UDP].dport) == (source[1], destination[1])
    del packet.chksum
    assert bytes(packet) == made


@given(endpoints6, endpoints6, st.binary(max_size=3000))
def test_ipv6_headers_are_what_scapy_makes(
    source: tuple[bytes, int], destination: tuple[bytes, int], payload: bytes
) -> None:
    made = udp_headers(source, destination, payload) + payload
    packet = IPv6(made)
    del packet[UDP].chksum
    assert bytes(packet) == made


def capture_of_a_dump(path: Path, vmcore: bytes, joined: int) -> None:
    """A transfer as a server saw it, ``joined`` messages of 1000 bytes at a time."""
    kept = writer(path)
    tap = CaptureTap(kept)
    tap.datagrams(CLIENT, HERALDS, message(HERALD, 1), [24])
    tap.datagrams(SERVER, CLIENT, ack(1), [4])
    pieces = [
        message(VMCORE, 2 + at // 1000, at, vmcore[at : at + 1000])
        for at in range(0, len(vmcore), 1000)
    ]
    for at in range(0, len(pieces), joined):
        some = pieces[at : at + joined]
        tap.datagrams(CLIENT, SERVER, memoryview(bytearray(b"".join(some))), [sum(map(len, some))])
        acks = b"".join(ack(2 + at + number) for number in range(len(some)))
        tap.datagrams(SERVER, CLIENT, acks, [4] * len(some))
    last = 2 + len(pieces)
    tap.datagrams(CLIENT, SERVER, message(FINISHED, last), [24])
    tap.datagrams(SERVER, CLIENT, ack(last), [4])
    kept.close()
    assert kept.problem is None


@pytest.mark.parametrize("joined", [1, 7])
def test_recover_finds_the_dump_in_it(tmp_path: Path, joined: int) -> None:
    vmcore = Random(1).randbytes(99_500)
    capture_of_a_dump(tmp_path / "capture", vmcore, joined)
    recovery = recover([str(tmp_path / "capture")], tmp_path / "out")
    (dump,) = recovery.dumps
    assert dump.complete
    assert (dump.transfer.client, dump.transfer.server) == (CLIENT[0], SERVER[0])
    assert dump.transfer.messages == 102
    assert dump.files.vmcore is not None
    assert dump.files.vmcore.read_bytes() == vmcore


def test_tshark_reads_it_and_has_no_complaints(tmp_path: Path) -> None:
    if shutil.which("tshark") is None:
        pytest.skip("needs tshark")
    path = tmp_path / "capture"
    capture_of_a_dump(path, bytes(50_000), 5)
    kept = writer(tmp_path / "six")
    CaptureTap(kept).datagrams(("2001:db8::2", 20024), ("2001:db8::1", 20023), b"odd", [3])
    kept.close()
    fields = ("udp.srcport", "udp.dstport", "udp.length", "_ws.expert.severity", "frame.time_epoch")
    command = [
        "tshark",
        "-T",
        "json",
        "-o",
        "udp.check_checksum:TRUE",
        "-o",
        "ip.check_checksum:TRUE",
    ]
    for name in fields:
        command += "-e", name
    packets = [
        json.loads(subprocess.check_output([*command, "-r", tmp_path / name]))
        for name in ("capture", "six")
    ]
    layers = [packet["_source"]["layers"] for packet in packets[0] + packets[1]]
    assert len(layers) == 2 * 52 + 1
    assert not [layer for layer in layers if "_ws.expert.severity" in layer]
    assert layers[0]["udp.dstport"] == ["20023"]
    assert {layer["udp.length"][0] for layer in layers} == {"32", "12", str(8 + 24 + 1000), "11"}
    assert all(abs(float(layer["frame.time_epoch"][0]) - time.time()) < 60 for layer in layers)


def test_coalesced_messages_are_taken_apart_and_rubbish_is_left_as_it_is(tmp_path: Path) -> None:
    kept = writer(tmp_path / "capture")
    tap = CaptureTap(kept)
    pair = [message(VMCORE, 1, 0, b"one"), message(VMCORE, 2, 3, b"three")]
    rubbish = [b"", b"xyz", b"\xff" * 40, pair[0] + b"behind"]
    tap.datagrams(
        CLIENT, SERVER, b"".join([*pair, *rubbish]), [len(pair[0] + pair[1]), *map(len, rubbish)]
    )
    kept.close()
    payloads = [bytes(packet[UDP].payload) for packet in rdpcap(str(tmp_path / "capture"))]
    assert payloads == [*pair, *rubbish]


@pytest.mark.parametrize(
    ("given_address", "shown"), [("::ffff:192.0.2.9", "192.0.2.9"), ("fe80::1%lo", "fe80::1")]
)
def test_addresses_as_sockets_have_them(tmp_path: Path, given_address: str, shown: str) -> None:
    kept = writer(tmp_path / "capture")
    CaptureTap(kept).datagrams((given_address, 1), (given_address, 2), b"xyzw", [4])
    kept.close()
    (packet,) = rdpcap(str(tmp_path / "capture"))
    assert packet.src == shown


def test_ends_of_two_kinds_make_no_packet(tmp_path: Path) -> None:
    kept = writer(tmp_path / "capture")
    CaptureTap(kept).datagrams(CLIENT, ("::", 2), b"xyzw", [4])
    kept.close()
    assert len(rdpcap(str(tmp_path / "capture"))) == 0


def test_the_largest_payload_fits(tmp_path: Path) -> None:
    kept = writer(tmp_path / "capture")
    kept.write([bytes(LARGEST_PAYLOAD + 5)], (bytes(4), 1), (bytes(4), 2))
    kept.close()
    (packet,) = rdpcap(str(tmp_path / "capture"))
    assert len(packet[UDP].payload) == LARGEST_PAYLOAD


def test_readers_see_it_after_a_flush_and_others_see_nothing(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    kept = writer(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(rdpcap(str(path))) == 0
    kept.write([b"xyzw"], (bytes(4), 1), (bytes(4), 2))
    kept.flush()
    assert len(rdpcap(str(path))) == 1
    kept.close()


def test_a_file_that_is_there_is_never_written_over(tmp_path: Path) -> None:
    path = tmp_path / "capture"
    path.write_text("evidence")
    (tmp_path / "link").symlink_to("capture")
    assert [writer(path).path.name for _ in range(2)] == ["capture-1", "capture-2"]
    assert writer(tmp_path / "link").path.name == "link-1"
    named = [writer(tmp_path / "of.may.pcapng").path.name for _ in range(2)]
    assert named == ["of.may.pcapng", "of.may-1.pcapng"]
    (tmp_path / "dangling").symlink_to("nowhere")
    for taken in (tmp_path, Path("/dev/null"), tmp_path / "dangling"):
        with pytest.raises(CaptureError, match="is there already"):
            writer(taken)
    with pytest.raises(CaptureError, match="cannot be written: No such file"):
        writer(tmp_path / "no" / "capture")
    assert path.read_text() == "evidence"


def test_a_full_disk_ends_the_capture_and_nothing_else(tmp_path: Path) -> None:
    kept = writer(tmp_path / "capture")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        for _ in range(5):
            kept.write([bytes(2000)], (bytes(4), 1), (bytes(4), 2))
        kept.flush()
        kept.write([bytes(2000)], (bytes(4), 1), (bytes(4), 2))
        kept.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert kept.problem == f"{tmp_path / 'capture'}: the capture ends here: File too large"
