# SPDX-License-Identifier: GPL-2.0-or-later
"""Dumps opened from whatever they are in: what is said of them, and their bytes around holes."""

from __future__ import annotations

import asyncio
import gc
import gzip
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import zstandard
from helpers.dumps import Minidump, elf_core, ustar
from helpers.openssl import PRIVATE_KEY
from helpers.places import PCAPS
from helpers.traffic import CLIENT, Dump, header, lose, pcap
from hypothesis import given, settings
from hypothesis import strategies as st
from test_encryption import dump_cipher, key_of

from scapy_netdump import (
    HoleError,
    NetdumpError,
    StoreError,
    UsageError,
    open_dump,
    reassemble,
    recover,
)
from scapy_netdump.client.prepare import prepared
from scapy_netdump.core.account import Account
from scapy_netdump.core.extents import Extents
from scapy_netdump.core.verdict import Kind, Verdict
from scapy_netdump.dump.cipher import Encrypted
from scapy_netdump.dump.content import Held
from scapy_netdump.dump.dump import Dump as OpenedDump
from scapy_netdump.kerneldump.header import DumpHeader, pack_header
from scapy_netdump.kerneldump.info import info_text
from scapy_netdump.store.mapfile import mapfile_text
from scapy_netdump.store.naming import stored_dumps

SAMPLE = Minidump("amd64", 2, [1, 2, 3, 9, 40], text=b"panic: a sample\n").build()
TEXTDUMP = ustar("msgbuf.txt", b"panic: text\n" * 60) + ustar("panic.txt", b"text\n" * 900)
ELF = elf_core("<", 64, 62, [(0, b"low" * 3000), (1 << 20, b"high" * 3000)])
NOISE = Random(0).randbytes(300_000)


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True, write_content_size=False).compress(data)


def info(*arguments: object) -> tuple[dict[str, object], int]:
    """What ``netdump info`` tells of a file, and its exit status."""
    command = [sys.executable, "-m", "scapy_netdump", "info", "--json", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stderr == ""
    (answer,) = json.loads(done.stdout)
    return answer, done.returncode


def entry(directory: Path, vmcore: bytes, verdict: str, kdh: bytes = b"", end: str = "") -> Path:
    """The vmcore of a dump in a directory: with an info file, and a header if one is kept."""
    told = DumpHeader.unpack(header(len(vmcore)))
    (directory / "info.h.0").write_text(info_text("h", CLIENT, told, verdict))
    if kdh:
        (directory / "kdh.h.0").write_bytes(kdh)
    path = directory / f"vmcore.h.0{end}"
    path.write_bytes(vmcore)
    return path


# What is said of a file


@pytest.mark.parametrize(
    "whole",
    [SAMPLE, ELF, TEXTDUMP, gzip.compress(SAMPLE + NOISE), zstd(SAMPLE + NOISE)],
    ids=["minidump", "ELF", "textdump", "gzip", "zstd"],
)
@pytest.mark.parametrize("cut", [1, 700, 5000])
def test_a_file_that_was_cut_is_never_whole(tmp_path: Path, whole: bytes, cut: int) -> None:
    path = entry(tmp_path, whole, "", end=suffix_of(whole))
    (tmp_path / "info.h.0").write_text(info_text("h", CLIENT, None, "Dump complete"))
    with open_dump(path) as dump:
        assert dump.verdict == Verdict(Kind.COMPLETE)
    assert info(path)[1] == 0
    path.write_bytes(whole[:-cut])  # not where a member of the archive ends
    with open_dump(path) as dump:
        assert dump.verdict.kind is not Kind.COMPLETE
        if not whole.startswith((b"\x1f\x8b", b"\x28\xb5")):
            assert dump.account.length != dump.account.vmcore.end
        assert "nothing is missing" not in dump.survey.verdict.text
        assert "all its files" not in dump.survey.verdict.text
    answer, status = info(path)
    assert status == 3
    assert answer["complete"] is False


def suffix_of(vmcore: bytes) -> str:
    return {b"\x1f\x8b": ".gz", b"\x28\xb5": ".zst"}.get(vmcore[:2], "")


@pytest.mark.parametrize("whole", [SAMPLE, ELF, gzip.compress(SAMPLE)], ids=["mini", "ELF", "gzip"])
@pytest.mark.parametrize("name", ["core", "vmcore.0", "vmcore.h.0"])
@pytest.mark.parametrize("kdh", [False, True])
def test_of_a_vmcore_alone_nobody_knows_the_holes(
    tmp_path: Path, whole: bytes, name: str, kdh: bool
) -> None:
    """Its mapfile may be gone, and a header says nothing of them."""
    path = tmp_path / name
    path.write_bytes(whole)
    if kdh:
        compression = int(whole[:2] == b"\x1f\x8b")
        told = header(len(whole), compression=compression)
        path.with_name(f"kdh{path.suffix and name.removeprefix('vmcore')}").write_bytes(told)
    answer, status = info(path)
    assert (answer["status"], status) == (
        "Dump not known to be complete: nothing is known to be missing, but zeros may be holes",
        3,
    )
    assert "nothing is missing" not in answer["contents"]["verdict"]
    prepared(str(path))
    path.with_name(f"{name}.map").write_text(mapfile_text([], len(whole)))
    assert info(path)[1] == 0


def test_without_its_mapfile_a_dump_with_holes_does_not_count_as_whole(tmp_path: Path) -> None:
    line = f"Dump contradicted: 1 byte came with different values; 8 of {len(SAMPLE)} bytes missing"
    path = entry(tmp_path, SAMPLE, f"{line} in 1 range", header(len(SAMPLE)))
    with open_dump(path) as dump:
        assert not dump.account.holes_known
        assert str(dump.verdict).startswith(line)


def test_what_nobody_knows_the_kind_of_has_the_verdict_of_its_info_file(tmp_path: Path) -> None:
    line = "Dump not known to be complete: 2 messages before FINISHED and no dump header came"
    path = entry(tmp_path, NOISE, "")
    text = info_text("h", CLIENT, None, f"{line}, its length is not known")
    (tmp_path / "info.h.0").write_text(text)
    (of_file, one), (of_directory, other) = info(path), info(tmp_path)
    assert (one, other) == (3, 3)
    assert of_file["status"] == of_directory["dumps"][0]["status"] == text.splitlines()[-1]
    with open_dump(path) as dump:
        saved = dump.save(tmp_path / "saved")
    assert saved.info.read_text().splitlines()[-1] == text.splitlines()[-1]


@pytest.mark.parametrize("name", ["other.h.0", "kdh.h.0.other"])
def test_beside_second_versions_a_dump_is_contradicted(tmp_path: Path, name: str) -> None:
    path = entry(tmp_path, SAMPLE, "Dump complete", header(len(SAMPLE)))
    (tmp_path / name).write_bytes(b"other")
    for answer, status in (info(path), info(tmp_path)):
        (dump,) = answer.get("dumps", [answer])
        assert dump["status"] == f"Dump contradicted: what came differently is in {name}"
        assert status == 3


def test_a_minidump_that_was_cut_has_its_true_length(tmp_path: Path) -> None:
    path = tmp_path / "vmcore"
    path.write_bytes(SAMPLE[:-9000])
    with open_dump(path) as dump:
        assert dump.missing == [(len(SAMPLE) - 9000, len(SAMPLE))]
        assert dump.bytes_expected == dump.head.size == len(SAMPLE)
        assert "3 of 5 memory pages are holes" in dump.survey.verdict.text
        assert dump.panicstring is None
        assert dump.console == "panic: a sample\n"


def test_of_netdumpds_files_nothing_is_known_to_be_missing(tmp_path: Path) -> None:
    """It keeps no header and notes no holes, and FINISHED proves nothing."""
    path = entry(tmp_path, SAMPLE, "Dump complete")
    answer, status = info(path)
    assert (answer["verdict"], status) == ("unknown", 3)
    (listed,) = info(tmp_path)[0]["dumps"]
    assert (
        listed["status"]
        == answer["status"]
        == ("Dump not known to be complete: nothing is known to be missing, but zeros may be holes")
    )
    contents = answer["contents"]["verdict"]
    assert contents == "usable in kgdb: nothing is known to be missing"
    path.with_name("kdh.h.0").write_bytes(header(len(SAMPLE)))  # with which it is one of ours
    assert (info(path)[0]["status"], info(tmp_path)[1]) == ("Dump complete", 0)


@pytest.mark.parametrize(
    "line",
    [
        "Dump incomplete: client timed out",
        "Dump incomplete: being received; at least 4 bytes of the vmcore are here",
        "Dump contradicted: 8 bytes came with different values",
    ],
)
def test_whoever_received_a_dump_may_know_worse(tmp_path: Path, line: str) -> None:
    path = entry(tmp_path, SAMPLE, line, header(len(SAMPLE)))
    with open_dump(path) as dump:
        assert str(dump.verdict).startswith(line.partition(";")[0].replace("being received", ""))
        assert not dump.complete
    with pytest.raises(NetdumpError, match="it cannot be sent"):
        prepared(str(path))


def test_what_its_bytes_tell_is_worse_than_what_was_said(tmp_path: Path) -> None:
    path = entry(tmp_path, SAMPLE[:-100], "Dump complete", header(len(SAMPLE)))
    with open_dump(path) as dump:
        assert str(dump.verdict) == (
            f"Dump incomplete: 100 of {len(SAMPLE)} bytes missing in 1 range"
        )


def test_a_header_with_a_wrong_parity_is_one_verdict_everywhere(tmp_path: Path) -> None:
    path = entry(tmp_path, SAMPLE, "Dump complete", header(len(SAMPLE), parity=1))
    with open_dump(path) as dump:
        assert dump.verdict == Verdict(Kind.CONTRADICTED, "dump header with a wrong parity")
        assert dump.header is None
        assert dump.kdh is not None
    for name in (path, tmp_path):
        assert info(name)[1] == 3


def test_a_part_is_not_sent_whatever_is_said_of_it(tmp_path: Path) -> None:
    for line in ("Dump complete", str(Verdict.receiving("at least 4 bytes"))):
        path = entry(tmp_path, SAMPLE, line, header(len(SAMPLE)), end=".part")
        with pytest.raises(NetdumpError, match=r"part: Dump incomplete: .*; it cannot be sent"):
            prepared(str(path))
        assert info(path)[1] == info(tmp_path)[1] == 3


def test_beside_a_part_the_key_is_found(tmp_path: Path) -> None:
    recover([str(PCAPS / "kernel-encrypted-chacha20.pcap.gz")], tmp_path / "whole")
    part = tmp_path / "vmcore.h.0.part"
    (tmp_path / "key.h.0").write_bytes((tmp_path / "whole/key.10.99.0.2.0").read_bytes())
    encrypted = (tmp_path / "whole/vmcore_encrypted.10.99.0.2.0").read_bytes()
    part.write_bytes(encrypted[:196_608])
    with open_dump(part, private_key=PRIVATE_KEY) as dump:
        assert "panic:" in dump.console
        assert dump.account.encrypted


# From captures


def test_of_a_capture_and_of_its_files_the_same_is_said(tmp_path: Path) -> None:
    """Also of a compressed dump with a hole in it."""
    capture = tmp_path / "capture"
    packed = zstd(SAMPLE + NOISE)
    kdh = header(len(packed), compression=2, dumpextent=len(SAMPLE + NOISE))
    traffic = Dump(vmcore=packed, kdh=kdh).traffic()
    hole = (3 << 16) + 10 * 1448
    capture.write_bytes(
        pcap([one for one in traffic if one.payload[8:16] != hole.to_bytes(8, "big")])
    )
    (dump,) = recover([str(capture)], tmp_path / "crash").dumps
    assert dump.missing == [(hole, hole + 1448)]
    (seen,) = info(capture)[0]["dumps"]
    of_file, of_directory = info(dump.files.vmcore)[0], info(tmp_path / "crash")[0]["dumps"][0]
    for name in ("status", "verdict", "missing", "contents", "kdh"):
        assert seen[name] == of_file[name] == of_directory[name]
    with open_dump(capture) as opened:
        assert json.loads(json.dumps(opened.survey.as_dict())) == seen["contents"]
        assert opened.console == open_dump(dump.files.vmcore).console == "panic: a sample\n"


def open_files() -> list[str]:
    return sorted(str(path.resolve()) for path in Path("/proc/self/fd").iterdir())


def test_dumps_live_on_after_the_iteration(tmp_path: Path) -> None:
    first, second = (
        Dump(vmcore=Random(n).randbytes(90_000), kdh=header(90_000), client=f"10.99.0.{n}")
        for n in (2, 3)
    )
    capture = tmp_path / "capture"
    capture.write_bytes(pcap([*first.traffic(), *second.traffic()]))
    before = open_files()
    dumps = list(reassemble(capture))
    assert [dump.read(0, 1 << 20) for dump in dumps] == [first.vmcore, second.vmcore]
    assert list(tmp_path.iterdir()) == [capture]
    (only,) = reassemble(capture, client="10.99.0.3")
    assert only.transfer.client == "10.99.0.3"
    assert only.panicstring == "page fault"
    for dump in [*dumps, only]:
        dump.close()
    del dumps, only, dump
    gc.collect()
    assert set(open_files()) <= set(before)


def test_a_dump_without_a_header_has_no_panicstring(tmp_path: Path) -> None:
    capture = tmp_path / "capture"
    capture.write_bytes(pcap(Dump(vmcore=b"x" * 100).traffic()))
    (dump,) = reassemble(str(capture))
    assert (dump.panicstring, dump.kdh, dump.header) == (None, None, None)
    assert dump.complete


def test_an_encrypted_dump_is_read_with_its_private_key() -> None:
    capture = PCAPS / "kernel-encrypted-chacha20.pcap.gz"
    (closed,) = reassemble(capture)
    with pytest.raises(NetdumpError, match="encrypted; -p names the private key"):
        closed.read(0, 1)
    told: list[str] = []
    (dump,) = reassemble(
        capture, private_key=PRIVATE_KEY, progress=lambda name, *_: told.append(name)
    )
    with dump.open() as file:
        assert file.read(24).startswith(b"minidump FreeBSD/amd64")
    assert told
    assert "panic:" in dump.console


@pytest.mark.parametrize("holes", ["raise", "", "zero"])
def test_what_a_hole_gives_is_one_of_two_words(holes: Any) -> None:
    with open_dump(PCAPS / "middle.pcap") as dump:
        for read in (dump.open, lambda holes: dump.read(0, 1, holes)):
            with pytest.raises(UsageError, match="a hole gives 'error' or 'zeros'"):
                read(holes)


@pytest.mark.parametrize(("offset", "size"), [(-5, 10), (-1, 0), (0, -1)])
def test_there_is_nothing_before_the_start(offset: int, size: int) -> None:
    dump = open_dump(PCAPS / "vlan.pcap")
    with dump, pytest.raises(UsageError, match=f"no {size} bytes at {offset}"):
        dump.read(offset, size, "zeros")


@pytest.mark.parametrize("kind", ["capture", "vmcore", "zstd"])
def test_what_is_closed_cannot_be_read(kind: str, tmp_path: Path) -> None:
    path = PCAPS / ("zstd.pcap" if kind == "zstd" else "vlan.pcap")
    if kind == "vmcore":
        path = tmp_path / "vmcore"
        path.write_bytes(SAMPLE)
    dump = open_dump(path)
    file, other = dump.open(), dump.open()
    assert file.read(4) == other.read(4) == dump.read(0, 4)
    file.close()
    for use in (lambda: file.read(1), lambda: file.seek(0), file.tell):
        with pytest.raises(ValueError, match="I/O operation on closed file"):
            use()
    dump.close()
    for look in (lambda: dump.read(0, 1), dump.open, dump.plain, lambda: other.read(1)):
        with pytest.raises(StoreError, match="closed"):
            look()
    dump.close()


def test_a_path_may_be_bytes_and_has_no_null_byte(tmp_path: Path) -> None:
    (tmp_path / "vmcore").write_bytes(SAMPLE)
    with open_dump(os.fsencode(tmp_path / "vmcore")) as dump:
        assert dump.read(0, len(SAMPLE)) == SAMPLE
    for path in ("a\0b", "a\0/b", b"a\0b"):
        with pytest.raises(UsageError, match="null byte"):
            open_dump(path)


@pytest.mark.parametrize(
    "wanted", [{"client": "zzz"}, {"server": "10.0.0"}, {"client": "a\0"}, {"port": 70_000}]
)
def test_which_dumps_are_wanted_is_told_by_addresses(wanted: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not an IPv4 or IPv6 address|no port 70000"):
        list(reassemble(PCAPS / "vlan.pcap", **wanted))
    with pytest.raises(UsageError, match=r"not an IPv4 or IPv6 address|no port 70000"):
        recover(PCAPS / "vlan.pcap", tmp_path, **wanted)


def test_one_of_several_dumps_is_chosen() -> None:
    capture = PCAPS / "two-clients.pcap"
    with pytest.raises(UsageError, match="2 dumps; choose one by its number"):
        open_dump(capture)
    with pytest.raises(UsageError, match="there is no dump 3, it holds 2"):
        open_dump(capture, 3)
    with open_dump(capture, 2) as dump:
        assert "other.example.org" in dump.console


EXAMPLE = re.search(
    r"```python\n(from scapy_netdump import open_dump.*?)```",
    (PCAPS.parent / "README.md").read_text(),
    re.DOTALL,
)


@pytest.mark.parametrize("kdh", [header(len(SAMPLE)), b""], ids=["header", "no header"])
def test_the_example_of_the_readme_works(
    kdh: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "panic.pcapng").write_bytes(pcap(Dump(vmcore=SAMPLE, kdh=kdh).traffic()))
    monkeypatch.chdir(tmp_path)
    assert EXAMPLE is not None
    names: dict[str, object] = {}
    exec(EXAMPLE[1], names)
    assert names["magic"] == SAMPLE[:24]
    why = "page fault" if kdh else "None"
    assert capsys.readouterr().out == (
        f"{why} Dump complete []\npanic: a sample\n\n{CLIENT} {why} True\n"
    )
    assert (tmp_path / "crash" / f"vmcore.{CLIENT}.0").read_bytes() == SAMPLE


def test_from_asyncio_dumps_are_opened_in_a_thread() -> None:
    async def consoles() -> list[str]:
        captures = [PCAPS / "vlan.pcap", PCAPS / "kernel-clean.pcap.gz"]
        dumps = await asyncio.gather(*(asyncio.to_thread(open_dump, path) for path in captures))
        return [await asyncio.to_thread(lambda dump=dump: dump.console) for dump in dumps]

    assert all("panic" in console for console in asyncio.run(consoles()))


# Saved


def test_a_dump_of_a_capture_is_saved_as_a_recovery_files_it(tmp_path: Path) -> None:
    capture = tmp_path / "capture"
    traffic = Dump(vmcore=NOISE, kdh=header(len(NOISE))).traffic()
    capture.write_bytes(pcap(lose(traffic, 0.2, Random(1))))
    (recovered,) = recover([str(capture)], tmp_path / "recovered").dumps
    with open_dump(capture) as dump:
        saved = [dump.save(tmp_path / "saved") for _ in range(2)]
    for files in saved:
        for mine, theirs in zip(vars_of(files), vars_of(recovered.files), strict=True):
            assert (mine is None) == (theirs is None)
            assert mine is None or mine.read_bytes() == theirs.read_bytes()
    assert list(stored_dumps(tmp_path / "saved").values()) == saved
    assert saved[1].vmcore.name == f"vmcore.{CLIENT}.1"


def vars_of(files: object) -> list[Path | None]:
    return [getattr(files, name) for name in files.__slots__]


def test_a_dump_in_a_file_of_any_name_is_saved_by_its_hosts_name(tmp_path: Path) -> None:
    path = tmp_path / "core"
    path.write_bytes(SAMPLE)
    with open_dump(path) as dump:
        assert dump.save(tmp_path / "a").vmcore == tmp_path / "a" / "vmcore.unknown.0"
    stored = entry(tmp_path, SAMPLE, "Dump complete", header(len(SAMPLE)))
    with open_dump(stored) as dump:
        saved = dump.save(tmp_path / "a")
    assert saved.vmcore == tmp_path / "a" / "vmcore.h.0"
    assert saved.info.read_text().startswith(f"Dump from h [{CLIENT}]\n")
    assert saved.info.read_text().endswith("\nDump complete\n")


# Its plain bytes, around holes


PACKERS: dict[int, Callable[[bytes], bytes]] = {0: bytes, 1: gzip.compress, 2: zstd}


def opened(
    plain: bytes, compression: int, cipher: int | None, lost: Extents
) -> tuple[OpenedDump, bytes]:
    """A dump of some plain bytes, packed, encrypted, with holes; and its bytes as they came."""
    came = PACKERS[compression](plain)
    kdh = pack_header(compression=compression, dumplength=len(came), dumpextent=len(plain))
    if cipher is not None:
        came = Encrypted(Held(came, len(came)), dump_cipher(cipher)).read(0, len(came))
    account = Account()
    account.headers.take(0, kdh)
    account.vmcore.add(0, len(came))
    damaged = bytearray(came)
    for start, end in lost:
        account.vmcore.remove(start, end)
        damaged[start:end] = b"\xa5" * len(damaged[start:end])
    account.announce(len(came))
    if cipher is not None:
        account.key.add(0, key_of(cipher).pack())
    content = Held(bytes(damaged), len(came))
    return OpenedDump("dump", account, content, unlock=lambda _: dump_cipher(cipher or 0)), came


@given(
    size=st.integers(1, 3000),
    kind=st.sampled_from([(0, None), (1, None), (2, None), (0, 1), (0, 2), (1, 2), (2, 2)]),
    holes=st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 200)), max_size=3),
    reads=st.lists(st.tuples(st.integers(0, 3200), st.integers(0, 900)), max_size=8),
)
@settings(max_examples=150)
def test_what_is_read_is_what_was_sent_and_no_hole_is_read(
    size: int,
    kind: tuple[int, int | None],
    holes: list[tuple[int, int]],
    reads: list[tuple[int, int]],
) -> None:
    compression, cipher = kind
    plain = b"".join(b"%x\n" % (n * 2654435761) for n in range(size // 8 + 2))[: size // 16 * 16]
    lost = Extents()
    for start, length in holes:
        lost.add(start, start + length)
    dump, _ = opened(plain, compression, cipher, lost)
    missing = Extents()
    for start, end in dump.plain().missing:
        missing.add(start, end)
    total = dump.plain().size
    if not dump.missing:
        assert (list(missing), total) == ([], len(plain))
    file, zeroed = dump.open(), dump.open(holes="zeros")
    for offset, length in reads:
        end = min(offset + length, total)
        truth = bytearray(plain[offset:end].ljust(max(0, end - offset), b"\0"))
        for start, stop in missing.present(offset, end):
            truth[start - offset : stop - offset] = bytes(stop - start)
        assert dump.read(offset, length, holes="zeros") == truth
        zeroed.seek(offset)
        assert zeroed.read(length) == truth
        assert zeroed.tell() == offset + len(truth)
        file.seek(offset)
        hole = next(missing.present(offset, end), None)
        if hole is None:
            assert dump.read(offset, length) == file.read(length) == truth
            continue
        with pytest.raises(
            HoleError, match=f"bytes {hole[0]} to {hole[1]} of the dump are missing"
        ):
            dump.read(offset, length)
        if hole[0] > offset:
            assert file.read(length) == truth[: hole[0] - offset]
        else:
            with pytest.raises(OSError, match="are missing"):
                file.read(length)


def test_a_dump_is_a_file_to_whatever_reads_files(tmp_path: Path) -> None:
    path = tmp_path / "vmcore.0.gz"
    path.write_bytes(gzip.compress(SAMPLE))
    with open_dump(path) as dump, dump.open() as raw, io.BufferedReader(raw) as file:
        assert file.readable()
        assert file.seekable()
        assert file.seek(-4096, os.SEEK_END) == len(SAMPLE) - 4096
        assert file.read() == SAMPLE[-4096:]
        assert file.seek(8) == 8
        assert file.read(16) == SAMPLE[8:24]
        with pytest.raises(ValueError, match="cannot seek"):
            raw.seek(-1)


def test_a_hole_of_a_file_that_its_map_tells_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "vmcore.0"
    path.write_bytes(SAMPLE)
    path.with_name("vmcore.0.map").write_text(mapfile_text([(4096, 4100)], len(SAMPLE)))
    with open_dump(path) as dump, dump.open() as file:
        assert len(file.read(10_000)) == 4096
        with pytest.raises(HoleError):
            file.read(1)
        file.seek(4100)
        assert file.read(100) == SAMPLE[4100:4200]


def test_memory_stays_the_same_however_much_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "vmcore.0.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(300):
            file.write(bytes(1 << 20))
    program = (
        "import resource, scapy_netdump\n"
        f"dump = scapy_netdump.open_dump({str(path)!r})\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "with dump.open() as file:\n    file.seek(0, 2)\n    assert file.tell() == 300 << 20\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    grown = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert int(grown) < 40_000  # KiB
