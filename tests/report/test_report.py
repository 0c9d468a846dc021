# SPDX-License-Identifier: GPL-2.0-or-later
"""``netdump report`` as its users call it: the page, the pictures, what is printed."""

from __future__ import annotations

import base64
import os
import re
import struct
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from random import Random

import numpy as np
import pytest
from helpers.places import PCAPS
from helpers.slow_dumps import Way, seen
from helpers.traffic import Dump, header, interleaved, pcap
from hypothesis import given
from hypothesis import strategies as st

from scapy_netdump.core.extents import Extents
from scapy_netdump.kerneldump.regions import Region
from scapy_netdump.report.coverage import missing_share
from scapy_netdump.report.numbers import rate_text, share_text, size_text, time_text
from scapy_netdump.report.page import Part, Picture, Section, page

SERVER_SIDE = PCAPS / "kernel-lossy-server-side.pcap.gz"
CLIENT_SIDE = PCAPS / "kernel-lossy-client-side.pcap.gz"
NETDUMP = [sys.executable, "-m", "scapy_netdump"]
PICTURES = ["coverage", "transfer", "waiting"]

EVIL = "\"'><script>alert(1)</script><img src=//evil.example/x>\n&amp;\x1b[2J\u202e"


def netdump(*arguments, **options):
    command = [*NETDUMP, *map(str, arguments)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120, **options)
    assert "Traceback" not in answer.stderr
    return answer


class Strict(HTMLParser):
    """Reads a page: every element is closed, in its order; keeps what a browser would show."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def assert_safe(text):
    """The page refers to nothing but itself, and runs nothing."""
    read = Strict(text)
    assert {"script", "iframe", "link", "object", "form", "a"}.isdisjoint(read.tags)
    for name, value in read.attributes:
        assert not name.startswith("on")
        assert name not in ("href", "srcset", "action", "background")
        if name == "src":
            assert value.startswith("data:image/png;base64,")
    assert "url(" not in text
    assert "@import" not in text
    return read


def png_size(data):
    """The size of a PNG, of which all parts are sound."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at = 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        (check,) = struct.unpack(">I", data[at + 8 + length : at + 12 + length])
        assert zlib.crc32(kind + body) == check
        at += 12 + length
    assert kind == b"IEND"
    return struct.unpack(">II", data[16:24])


def pictures_in(text):
    return [base64.b64decode(part) for part in re.findall(r'"data:image/png;base64,([^"]+)"', text)]


def test_a_page_of_the_lossy_sample(tmp_path):
    answer = netdump("report", SERVER_SIDE, "-o", tmp_path / "page.html", "--png", tmp_path / "png")
    assert answer.returncode == 3  # bytes are missing
    assert "96 % of the time the client waited, in 29 pauses of 1.15 s" in answer.stdout
    text = (tmp_path / "page.html").read_text()
    read = assert_safe(text)
    assert "10.98.0.2 to 10.98.0.1: crashbox.example.org, page fault" in read.text
    assert "The network lost messages on the way to where this was captured" in read.text
    assert "33304 of 3145728 bytes missing in 23 ranges" in read.text
    assert "not usable: page tables missing" in read.text
    files = sorted((tmp_path / "png").iterdir())
    assert [file.name for file in files] == [f"dump1-{name}.png" for name in PICTURES]
    assert sorted(pictures_in(text)) == sorted(file.read_bytes() for file in files)
    for file in files:
        width, height = png_size(file.read_bytes())
        assert width == 1100
        assert 200 <= height <= 1000
        assert 5_000 < file.stat().st_size < 200_000


def test_pictures_alone(tmp_path):
    answer = netdump("report", SERVER_SIDE, "--png", "png", cwd=tmp_path)
    assert answer.returncode == 3
    assert os.listdir(tmp_path) == ["png"]
    assert answer.stdout.endswith("pictures: png\n")


def test_the_page_has_a_section_for_each_dump_and_goes_where_one_looks_for_it(tmp_path):
    dumps = [
        Dump(vmcore=bytes(100_000), kdh=header(100_000), client=f"10.99.0.{host}")
        for host in (2, 3)
    ]
    traffic = interleaved(Random(0), *(seen(dump, Way()) for dump in dumps))
    (tmp_path / "two.pcap").write_bytes(pcap(traffic))
    answer = netdump("report", "two.pcap", cwd=tmp_path)
    assert answer.returncode == 0
    assert answer.stdout.endswith("page: report.html\n")
    read = assert_safe((tmp_path / "report.html").read_text())
    assert read.tags.count("section") == 2
    assert read.tags.count("img") == 6
    assert netdump("report", "two.pcap", "--client", "10.99.0.3", cwd=tmp_path).returncode == 0
    assert Strict((tmp_path / "report.html").read_text()).tags.count("section") == 1


def test_two_sides_of_one_dump_are_two_views_in_one_section(tmp_path):
    answer = netdump("report", CLIENT_SIDE, SERVER_SIDE, "-o", tmp_path / "page.html")
    assert answer.returncode == 0
    read = assert_safe((tmp_path / "page.html").read_text())
    assert read.tags.count("section") == 1
    assert read.tags.count("img") == 5
    assert f"as seen in {CLIENT_SIDE}" in read.text
    assert f"as seen in {SERVER_SIDE}" in read.text


@pytest.mark.parametrize("name", ["hostile", "zstd", "no-kdh", "snapped"])
def test_odd_captures_have_a_page_too(tmp_path, name):
    answer = netdump("report", PCAPS / f"{name}.pcap", "-o", tmp_path / "page.html")
    assert answer.returncode in (0, 3)
    text = (tmp_path / "page.html").read_text()
    assert_safe(text)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert len(pictures_in(text)) == 3


def test_an_encrypted_dump_is_looked_into_with_its_key(tmp_path):
    capture, key = PCAPS / "kernel-encrypted-chacha20.pcap.gz", PCAPS / "test-rsa2048.pem"
    pytest.importorskip("cryptography")
    answer = netdump("report", capture, "-o", tmp_path / "page.html")
    assert "encrypted; -p names the private key" in answer.stdout
    answer = netdump("report", capture, "-p", key, "-o", tmp_path / "page.html")
    assert "usable in kgdb: nothing is missing" in answer.stdout


def test_hostile_text_is_text(tmp_path):
    fields = {"hostname": EVIL.encode()[:63], "panicstring": EVIL.encode()}
    dump = Dump(vmcore=bytes(5000), kdh=header(5000, **fields), path=EVIL.encode() + b"\0")
    name = "<script>alert(2)<b>.pcap"
    (tmp_path / name).write_bytes(pcap(seen(dump, Way())))
    answer = netdump("report", name, "-o", "page.html", cwd=tmp_path)
    assert answer.returncode == 0
    assert "\x1b" not in answer.stdout
    text = (tmp_path / "page.html").read_text()
    read = assert_safe(text)
    assert "<script>alert(1)</script>" in read.text
    assert "<script>alert(2)" in read.text
    assert "\\x1b[2J\\u202e" in read.text


@given(st.text(), st.text())
def test_any_text_is_shown_as_it_is_and_nothing_else(one, other):
    part = Part(one, other, [(one, other)], [Picture(one, other, b"png")])
    text = page([one], [Section(one, True, other, other, [part], [])], [one, other])
    plain = page(["a"], [Section("a", True, "b", "b", [Part("a", "b", [("a", "b")],
                 [Picture("a", "b", b"png")])], [])], ["a", "b"])  # fmt: skip
    assert assert_safe(text).tags == Strict(plain).tags


def test_without_matplotlib_one_line_says_what_to_do(tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise ImportError('none here')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    answer = netdump("report", SERVER_SIDE, "-o", tmp_path / "page.html", env=environment)
    assert answer.returncode == 1
    assert answer.stderr == (
        "netdump: pictures need the Python package matplotlib: "
        "pip install 'scapy-netdump[report]'\n"
    )
    assert not (tmp_path / "page.html").exists()
    assert netdump("report", "--help", env=environment).returncode == 0


def test_what_cannot_be_done_is_said_in_a_line(tmp_path):
    (tmp_path / "nothing.pcap").write_bytes(pcap([]))
    answer = netdump("report", "nothing.pcap", cwd=tmp_path)
    assert (answer.returncode, answer.stdout) == (1, "no netdump traffic in 0 frames\n")
    answer = netdump("report", "nothing.pcap", "-o", "nothing.pcap", cwd=tmp_path)
    assert answer.returncode == 2
    assert "is the capture" in answer.stderr
    answer = netdump("report", "absent.pcap", cwd=tmp_path)
    assert answer.returncode == 1
    assert "absent.pcap" in answer.stderr
    answer = netdump("report", SERVER_SIDE, "-o", "no/such/page.html", cwd=tmp_path)
    assert answer.returncode == 1
    assert answer.stderr.count("\n") == 1
    assert os.listdir(tmp_path) == ["nothing.pcap"]


@given(
    st.integers(1, 5000),
    st.lists(st.tuples(st.integers(0, 6000), st.integers(1, 900)), max_size=8),
    st.integers(1, 40),
    st.integers(0, 500),
)
def test_no_hole_is_left_out_of_the_coverage(size, holes, cells, start):
    lost = Extents()
    for at, length in holes:
        lost.add(at, at + length)
    region = Region("some", start, start + size)
    share = missing_share(region, list(lost), cells)
    present = np.zeros(8000, np.bool_)
    for begin, end in lost:
        present[begin:end] = True
    gone = present[start : start + size]
    cells = len(share)
    assert cells <= size
    assert share.sum() * size / cells == pytest.approx(gone.sum(), abs=0.5 * cells)
    for byte in np.flatnonzero(gone).tolist():
        at = byte * cells // size
        assert share[max(at - 1, 0) : at + 2].any()
    for cell in np.flatnonzero(share).tolist():
        assert gone[cell * size // cells : -(-(cell + 1) * size // cells)].any()


def test_numbers_have_units():
    assert [size_text(n) for n in (0, 512, 65536, 1 << 20, 3.5 * (1 << 36))] == [
        "0 bytes", "512 bytes", "64 KiB", "1 MiB", "224 GiB",
    ]  # fmt: skip
    assert [time_text(t) for t in (0, 6e-7, 6.23e-4, 0.0199, 1.153, 34.58, 725, 7260)] == [
        "0 us", "0.6 us", "623 us", "19.9 ms", "1.15 s", "34.6 s", "12 min 5 s", "2 h 1 min",
    ]  # fmt: skip
    assert [rate_text(n, 2) for n in (0, 1000, 2_000_000, 5e9)] == [
        "0 B/s", "500 B/s", "1 MB/s", "2.5 GB/s",
    ]  # fmt: skip
    assert rate_text(5, 0) == "0 B/s"
    assert [share_text(n, 1000) for n in (0, 1, 500, 994, 999.999, 1000)] == [
        "0 %", "less than 1 %", "50 %", "99.4 %", "99.9 %", "100 %",
    ]  # fmt: skip


def test_the_picture_in_the_readme_is_one():
    picture = (PCAPS.parent / ".pictures" / "report-lossy.png").read_bytes()
    assert png_size(picture)[0] == 1100
    assert len(picture) < 200_000
