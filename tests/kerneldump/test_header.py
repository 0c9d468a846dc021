# SPDX-License-Identifier: GPL-2.0-or-later
"""Decoding of kernel dump headers without Scapy."""

import gzip
import json

import pytest
from helpers.places import PCAPS
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.errors import NetdumpError
from scapy_netdump.kerneldump.header import HEADER_SIZE, DumpHeader, parity_of
from scapy_netdump.layers import KernelDumpHeader

CAPTURE = PCAPS / "kernel-clean.pcap.gz"


def real_header() -> bytes:
    capture = gzip.decompress(CAPTURE.read_bytes())
    start = capture.index(b"FreeBSD Kernel Dump\0")
    return capture[start : start + HEADER_SIZE]


def test_the_header_of_a_real_kernel() -> None:
    header = DumpHeader.unpack(real_header())
    assert header.valid
    assert header.as_dict() == {
        "magic": "FreeBSD Kernel Dump",
        "architecture": "amd64",
        "version": 4,
        "architectureversion": 2,
        "dumplength": 3145728,
        "dumptime": 1718000000,
        "dumpkeysize": 0,
        "blocksize": 4096,
        "hostname": "crashbox.example.org",
        "versionstring": (
            "FreeBSD 14.0-RELEASE #0 releng/14.0-n265380-f9716eee8ab4: "
            "Fri Nov 10 05:57:23 UTC 2023\n"
            "    root@releng1.nyi.freebsd.org:/usr/obj/usr/src/amd64.amd64/sys/GENERIC\n"
        ),
        "panicstring": "page fault",
        "compression": 0,
        "dumpextent": 3145728,
        "parity": 0x4971A1FB,
    }


@given(st.integers(0, HEADER_SIZE - 1), st.integers(1, 255))
def test_any_changed_byte_is_noticed(position: int, flip: int) -> None:
    data = bytearray(real_header())
    data[position] ^= flip
    header = DumpHeader.unpack(bytes(data))
    assert not header.parity_ok
    assert not header.valid


@given(st.binary(min_size=HEADER_SIZE, max_size=HEADER_SIZE + 9))
def test_any_512_bytes_decode_to_what_json_takes(data: bytes) -> None:
    header = DumpHeader.unpack(data)
    assert json.loads(json.dumps(header.as_dict())) == header.as_dict()
    assert header.suffix in ("", ".gz", ".zst")


@given(st.binary(max_size=HEADER_SIZE - 1))
def test_fewer_bytes_are_refused_with_an_explanation(data: bytes) -> None:
    with pytest.raises(NetdumpError, match=f"{len(data)} bytes"):
        DumpHeader.unpack(data)


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_every_version_is_decoded(version: int) -> None:
    built = KernelDumpHeader(version=version, hostname="h", panicstring="p", blocksize=512)
    header = DumpHeader.unpack(bytes(built))
    assert header.valid
    assert (header.version, header.hostname, header.panicstring) == (version, "h", "p")
    assert header.blocksize == 512


@pytest.mark.parametrize(("version", "expected"), [(1, 0), (2, 0), (3, 2), (4, 2)])
def test_fields_that_a_version_lacks_are_zero(version: int, expected: int) -> None:
    built = KernelDumpHeader(compression="zstd")
    built.version = version
    assert DumpHeader.unpack(bytes(built)).compression == expected


@pytest.mark.parametrize(
    ("compression", "suffix", "name"),
    [(0, "", "none"), (1, ".gz", "gzip"), (2, ".zst", "zstd"), (3, "", "unknown (3)")],
)
def test_compression_names_the_file(compression: int, suffix: str, name: str) -> None:
    header = DumpHeader.unpack(bytes(KernelDumpHeader(compression=compression)))
    assert (header.suffix, header.compression_name) == (suffix, name)


@pytest.mark.parametrize(
    ("magic", "ok"),
    [("FreeBSD Text Dump", True), ("Cleared Kernel Dump", True), ("FreeBSD", False), ("", False)],
)
def test_magics_are_known(magic: str, ok: bool) -> None:
    header = DumpHeader.unpack(bytes(KernelDumpHeader(magic=magic)))
    assert header.magic_ok is header.valid is ok


def test_strings_end_at_their_nul_and_may_be_full_or_no_utf8() -> None:
    built = KernelDumpHeader(hostname=b"a\0junk", panicstring=b"\xff" * 175)
    header = DumpHeader.unpack(bytes(built))
    assert header.hostname == "a"
    assert header.panicstring == "\\xff" * 175


@given(st.binary(max_size=60))
def test_parity_over_data_and_its_parity_is_zero(data: bytes) -> None:
    data += bytes(-len(data) % 4)
    assert parity_of(data + parity_of(data).to_bytes(4, "big")) == 0
