# SPDX-License-Identifier: GPL-2.0-or-later
"""``netdump dmesg`` and ``netdump info`` on real captures, vmcores and dump directories."""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
import subprocess
import sys

import pytest
import zstandard
from helpers.dumps import Minidump, ustar
from helpers.places import PCAPS

from scapy_netdump.recovery.recoverer import recover
from scapy_netdump.store.mapfile import mapfile_text

KEY = str(PCAPS / "test-rsa2048.pem")
CLEAN = "c580bf7b7fe4be23e60bde807ab249fda6a633e42b50ecf5fb15aa7f3605037e"
TEXT = "line one\npanic: built for a test\n"
SAMPLE = Minidump("riscv", 2, [1, 2, 3, 9], text=TEXT.encode(), wrote=20).build()


def netdump(*arguments, status=0):
    command = [sys.executable, "-m", "scapy_netdump", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def dmesg(*arguments, status=0):
    return netdump("dmesg", *arguments, status=status).stdout


def info(*arguments, status=0):
    return json.loads(netdump("info", "--json", *arguments, status=status).stdout)


@pytest.fixture(scope="module")
def console(tmp_path_factory):
    """The console text of the real dumps, cut out of the vmcore by hand."""
    directory = tmp_path_factory.mktemp("clean")
    recovery = recover([str(PCAPS / "kernel-clean.pcap.gz")], directory)
    data = recovery.dumps[0].files.vmcore.read_bytes()
    assert hashlib.sha256(data).hexdigest() == CLEAN
    size = struct.unpack_from("<I", data, 28)[0]
    return data[4096 : 4096 + size].replace(b"\0", b"").decode()


@pytest.mark.parametrize("side", ["clean", "lossy-client-side", "lossy-server-side"])
def test_dmesg_of_a_capture(console, side):
    assert dmesg(PCAPS / f"kernel-{side}.pcap.gz") == console
    assert "panic:" in console


def test_dmesg_of_an_encrypted_dump_in_a_capture(console):
    capture = PCAPS / "kernel-encrypted-chacha20.pcap.gz"
    assert dmesg("-p", KEY, capture) == console
    refused = netdump("dmesg", capture, status=1)
    assert "encrypted; -p names the private key" in refused.stderr


def test_dmesg_of_recovered_files(console, tmp_path):
    recover([str(PCAPS / "kernel-encrypted-chacha20.pcap.gz")], tmp_path)
    (vmcore,) = tmp_path.glob("vmcore_encrypted.*.0")
    assert dmesg("-p", KEY, vmcore) == console


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress], ids=["", "gz", "zst"])
def test_dmesg_of_a_file_of_any_name(tmp_path, pack):
    path = tmp_path / "memory.bin"
    path.write_bytes(pack(SAMPLE))
    assert dmesg(path) == TEXT


def test_a_compressed_dump_that_broke_off_still_tells(tmp_path):
    path = tmp_path / "vmcore.0.gz"
    noise = hashlib.shake_128(b"pages").digest(1 << 20)
    path.write_bytes(gzip.compress(SAMPLE + noise)[:200_000])
    assert dmesg(path) == TEXT


def test_missing_bytes_of_the_text_change_the_exit_status(tmp_path):
    path = tmp_path / "vmcore.1"
    path.write_bytes(SAMPLE)
    (tmp_path / "vmcore.1.map").write_text(
        f"0x0 ? 1\n0x0 0x1000 +\n0x1000 0x8 ?\n0x1008 {len(SAMPLE) - 0x1008:#x} +\n"
    )
    found = json.loads(dmesg("--json", path, status=3))
    assert found["bytes_missing"] == 8
    assert "[8 bytes missing]" in found["console"]


def test_no_console_is_told_in_a_line(tmp_path):
    path = tmp_path / "rubbish"
    path.write_bytes(b"rubbish" * 1000)
    assert netdump("dmesg", path, status=1).stderr.count("\n") == 1
    assert netdump("dmesg", tmp_path / "none", status=1).stderr.count("\n") == 1
    assert (
        "choose one by its number" in netdump("dmesg", PCAPS / "two-clients.pcap", status=2).stderr
    )
    assert "other.example.org" in dmesg("--number", 2, PCAPS / "two-clients.pcap")


def test_info_gives_a_verdict_on_the_lossy_dump():
    (found,) = info(PCAPS / "kernel-lossy-server-side.pcap.gz", status=3)
    (dump,) = found["dumps"]
    contents = dump["contents"]
    assert contents["kind"] == "minidump"
    assert contents["usable"] is False
    assert "page tables missing (5792 of 131072 bytes)" in contents["verdict"]
    lost = {region["name"]: region["bytes_missing"] for region in contents["regions"]}
    assert sum(lost.values()) == 33304
    assert lost["message buffer"] == 0
    pages = sum(end - start for start, end in contents["lost_memory"]) // 4096
    assert 7 <= pages <= 40
    text = netdump("info", PCAPS / "kernel-lossy-server-side.pcap.gz", status=3).stdout
    assert "page tables: 131072 bytes, 5792 missing" in text


def test_info_of_an_encrypted_dump_needs_its_key():
    capture = PCAPS / "kernel-encrypted-chacha20.pcap.gz"
    assert info(capture)[0]["dumps"][0]["contents"] is None
    assert info("-p", KEY, capture)[0]["dumps"][0]["contents"]["usable"] is True


def test_info_of_a_vmcore_and_of_a_directory(tmp_path):
    recover([str(PCAPS / "kernel-lossy-server-side.pcap.gz")], tmp_path)
    (vmcore,) = tmp_path.glob("vmcore.*.0")
    (of_file,) = info(vmcore, status=3)
    assert of_file["kind"] == "vmcore"
    assert of_file["kdh"]["panicstring"] == "page fault"
    assert len(of_file["missing"]) == 23
    (of_directory,) = info(tmp_path, status=3)
    (dump,) = of_directory["dumps"]
    assert dump["contents"] == of_file["contents"]


def test_info_of_a_compressed_dump_looks_inside():
    (found,) = info(PCAPS / "zstd.pcap")
    assert found["dumps"][0]["contents"]["usable"] is True


def test_info_says_when_a_file_is_nothing_that_it_knows(tmp_path):
    path = tmp_path / "letter"
    path.write_bytes(b"Dear all,\n" * 100)
    told = netdump("info", path, status=1).stderr
    assert "neither a capture, a dump, a dump header nor a key" in told
    assert "44 65 61 72" in told


FILES = {"ddb.txt": b"db> bt\n" * 99, "msgbuf.txt": b"panic: text\n", "panic.txt": b"text"}
TEXTDUMP = b"".join(ustar(name, data) for name, data in FILES.items())


def test_a_textdump_is_listed_and_extracted(tmp_path):
    path = tmp_path / "textdump.tar.0"
    path.write_bytes(TEXTDUMP)
    path.with_name(f"{path.name}.map").write_text(mapfile_text([], len(TEXTDUMP)))
    (found,) = info(path, status=3)
    assert (found["verdict"], found["contents"]["kind"]) == ("unknown", "textdump")
    sizes = {file["name"]: file["size"] for file in found["contents"]["text_files"]}
    assert sizes == {name: len(data) for name, data in FILES.items()}
    assert "ddb.txt: 693 bytes" in netdump("info", path, status=3).stdout
    assert dmesg(path, "--extract", tmp_path / "out") == "panic: text\n"
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == FILES
    again = netdump("dmesg", path, "--extract", tmp_path / "out", status=1)
    assert "ddb.txt: cannot be written: File exists" in again.stderr


@pytest.mark.parametrize("name", ["../escaped", "/escaped", ".hidden", "a/b", "a\x1bb"])
def test_a_textdump_writes_nothing_elsewhere(tmp_path, name):
    path = tmp_path / "textdump.tar.0"
    path.write_bytes(ustar("msgbuf.txt", b"x") + ustar(name, b"y"))
    told = netdump("dmesg", path, "--extract", tmp_path / "in" / "out", status=1).stderr
    assert "not a name that is written" in told
    assert "\x1b" not in told
    assert sorted(file.name for file in tmp_path.rglob("*")) == [
        "in", "msgbuf.txt", "out", "textdump.tar.0",
    ]  # fmt: skip


def test_other_dumps_have_no_files_to_extract(tmp_path):
    path = tmp_path / "vmcore.0"
    path.write_bytes(SAMPLE)
    assert "no textdump" in netdump("dmesg", path, "--extract", tmp_path, status=2).stderr
