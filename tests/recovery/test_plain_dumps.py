# SPDX-License-Identifier: GPL-2.0-or-later
"""From a capture to a plain vmcore in one go, and savecore(8)'s names for it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from random import Random

import pytest
import zstandard
from helpers.openssl import PRIVATE_KEY, needs_openssl, openssl, public_key
from helpers.traffic import Datagram, Dump, header, lose, pcap
from hypothesis import given, settings
from hypothesis import strategies as st
from test_recover import CLEAN_SHA256, ENCRYPTED, ENCRYPTED_SHA256, sha256, write

import scapy_netdump
from scapy_netdump import EncryptionError
from scapy_netdump.cli.main import main
from scapy_netdump.client.prepare import Preparation, prepared
from scapy_netdump.core.extents import Extents
from scapy_netdump.kerneldump.header import DumpHeader
from scapy_netdump.kerneldump.info import info_values, savecore_info_text
from scapy_netdump.store.mapfile import parse_mapfile

HOST = "10.99.0.2"
DATA = b"".join(b"line %d of a memory image\n" % number for number in range(20_000))


def recover(*arguments: object) -> int:
    return main(["recover", *map(str, arguments)])


def traffic_of(tmp_path: Path, compression: str = "none", cipher: str = "") -> list[Datagram]:
    """What a kernel sends of DATA: compressed, and encrypted for the test key."""
    source = tmp_path / "memory"
    source.write_bytes(DATA[: len(DATA) // 4096 * 4096])
    preparation = Preparation(
        compression=compression,
        public_key=public_key() if cipher else None,
        cipher=cipher or None,
        random=Random(1).randbytes,
    )
    with prepared(str(source), preparation) as dump:
        sent = dump.read(0, dump.size)
        return Dump(vmcore=sent, kdh=dump.kdh, key=dump.key).traffic()


KINDS = [
    ("none", "aes-256-cbc", "vmcore_encrypted.{}"),
    ("none", "chacha20", "vmcore_encrypted.{}"),
    ("gzip", "", "vmcore.{}.gz"),
    ("zstd", "", "vmcore.{}.zst"),
    ("gzip", "chacha20", "vmcore_encrypted.{}.gz"),
    ("zstd", "chacha20", "vmcore_encrypted.{}.zst"),
]


def test_a_real_encrypted_dump_in_one_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recover(ENCRYPTED, "--decrypt-with", PRIVATE_KEY, "-o", tmp_path, "--json") == 0
    (dump,) = json.loads(capsys.readouterr().out)
    assert dump["files"]["plain"] == str(tmp_path / f"vmcore.{HOST}.0")
    assert dump["files"]["plain_map"] is None
    assert dump["plain"] == {"size": 3_145_728, "complete": True, "missing": [], "problem": None}
    assert sha256(Path(dump["files"]["plain"])) == CLEAN_SHA256
    assert sha256(Path(dump["files"]["vmcore"])) == ENCRYPTED_SHA256


@needs_openssl
@pytest.mark.parametrize(("compression", "cipher", "raw"), KINDS)
@pytest.mark.parametrize("savecore", [False, True])
def test_encrypted_compressed_and_both(
    compression: str, cipher: str, raw: str, savecore: bool, tmp_path: Path
) -> None:
    traffic = traffic_of(tmp_path, compression, cipher)
    capture, crash = write(tmp_path, pcap(traffic)), tmp_path / "crash"
    options = ["--decrypt-with", PRIVATE_KEY] if cipher else []
    names = ["--savecore-names"] if savecore else []
    assert recover(capture, *options, "--decompress", *names, "-o", crash) == 0
    stem = "0" if savecore else f"{HOST}.0"
    plain = crash / f"vmcore.{stem}"
    assert plain.read_bytes() == (tmp_path / "memory").read_bytes()
    kept = raw.format(stem)
    if savecore and cipher:
        kept = f"vmcore_encrypted.{stem}"
    assert (crash / kept).exists()
    if savecore:
        suffix = {"none": "", "gzip": ".gz", "zstd": ".zst"}[compression]
        link = f"vmcore_encrypted.last{suffix}" if cipher else f"vmcore.last{suffix}"
        assert os.readlink(crash / link) == kept
        assert os.readlink(crash / "vmcore.last") == plain.name


@needs_openssl
@pytest.mark.parametrize(("compression", "cipher", "raw"), KINDS)
@settings(max_examples=8)
@given(seed=st.integers(0, 1 << 32), rate=st.sampled_from([0.02, 0.2]))
def test_around_holes_every_byte_that_is_told_to_be_here_is_right(
    compression: str,
    cipher: str,
    raw: str,
    seed: int,
    rate: float,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    tmp_path = tmp_path_factory.mktemp("holes")
    traffic = traffic_of(tmp_path, compression, cipher)
    random, crash = Random(seed), tmp_path / "crash"
    options = ["--decrypt-with", str(PRIVATE_KEY)] if cipher else []
    end = [seen for seen in traffic if seen.payload[:4] in (b"\0\0\0\4", b"\0\0\0\5")]
    parts = [[*lose(traffic, rate, random), *end], traffic]
    truth = (tmp_path / "memory").read_bytes()
    for number, part in enumerate(parts):
        capture = write(tmp_path, pcap(part), f"{number}.pcap")
        status = recover(capture, *options, "--decompress", "-o", crash)
        plain = crash / f"vmcore.{HOST}.0"
        content, here = plain.read_bytes(), Extents()
        map_ = plain.with_name(f"{plain.name}.map")
        for start, stop in parse_mapfile(map_.read_text())[0] if map_.exists() else []:
            here.add(start, stop)
        told = (crash / f"info.{HOST}.0").read_text()
        assert status == (0 if told.endswith("Dump complete\n") else 3)
        assert "bytes missing in" in told or not map_.exists()
        for start, stop in here.missing(0, len(truth)):
            assert content[start:stop] == truth[start:stop]
        if not map_.exists():
            assert content == truth
        if status == 0:
            break
    assert status == 0
    assert (crash / raw.format(f"{HOST}.0")).exists()


@needs_openssl
@pytest.mark.parametrize("which", ["other", "no key", "public"])
def test_a_wrong_key_costs_only_the_plain_copy(
    which: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crash, key = tmp_path / "crash", tmp_path / "key.pem"
    if which == "other":
        openssl("genrsa", "-out", str(key), "2048")
    elif which == "public":
        key = public_key()
    assert recover(ENCRYPTED, "--decrypt-with", key, "-o", crash) == 1
    out, err = capsys.readouterr()
    assert err.startswith(f"netdump: {key}: ")
    assert err.count("\n") == 1
    if which != "other":  # told before anything is read
        assert not crash.exists()
        return
    assert "not the private key that this dump was encrypted for" in err
    assert "Dump complete" in out
    assert sha256(crash / f"vmcore_encrypted.{HOST}.0") == ENCRYPTED_SHA256
    assert not (crash / f"vmcore.{HOST}.0").exists()


@needs_openssl
def test_what_lacks_its_key_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    traffic = traffic_of(tmp_path, "zstd", "chacha20")
    capture = write(tmp_path, pcap(traffic))
    assert recover(capture, "--decompress", "-o", tmp_path / "a") == 1
    assert "encrypted; --decrypt-with names the private key" in capsys.readouterr().err
    keyless = [seen for seen in traffic if seen.payload[:4] != b"\0\0\0\5"]
    capture = write(tmp_path, pcap(keyless))
    assert recover(capture, "--decrypt-with", PRIVATE_KEY, "-o", tmp_path / "b") == 1
    assert "its key was not captured" in capsys.readouterr().err


def test_what_is_plain_has_no_copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capture = write(tmp_path, pcap(Dump(vmcore=DATA, kdh=header(len(DATA))).traffic()))
    arguments = ("--decompress", "--decrypt-with", PRIVATE_KEY, "-o", tmp_path, "--json")
    assert recover(capture, *arguments) == 0
    (dump,) = json.loads(capsys.readouterr().out)
    assert dump["plain"] is dump["files"]["plain"] is dump["files"]["plain_map"] is None


def test_a_dump_that_is_not_compressed_as_it_says_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capture = write(tmp_path, pcap(Dump(vmcore=DATA, kdh=header(9000, compression=1)).traffic()))
    assert recover(capture, "--decompress", "-o", tmp_path / "crash") == 1
    assert "neither gzip nor zstd" in capsys.readouterr().err
    assert (tmp_path / "crash" / f"vmcore.{HOST}.0.gz").stat().st_size == len(DATA)


# savecore(8)'s names


def savecore(tmp_path: Path, data: bytes = DATA, **fields: int) -> set[str]:
    """The names that a dump brings to a directory."""
    crash = tmp_path / "crash"
    before = {path.name for path in crash.iterdir()} if crash.exists() else set()
    capture = write(tmp_path, pcap(Dump(vmcore=data, kdh=header(len(data), **fields)).traffic()))
    assert recover(capture, "--savecore-names", "-o", crash) == 0
    return {path.name for path in crash.iterdir()} - before


def test_names_and_numbers_are_savecores(tmp_path: Path) -> None:
    crash = tmp_path / "crash"
    assert savecore(tmp_path) == {
        *("bounds", "info.0", "kdh.0", "vmcore.0", "info.last", "vmcore.last")
    }
    (crash / "bounds").write_text("5\n")
    assert savecore(tmp_path, dumptime=1) == {"info.5", "kdh.5", "vmcore.5"}
    assert (crash / "bounds").read_text() == "6\n"
    assert os.readlink(crash / "vmcore.last") == "vmcore.5"
    added = savecore(tmp_path, zstandard.compress(DATA), dumptime=2, compression=2)
    assert added == {"info.6", "kdh.6", "vmcore.6.zst", "vmcore.last.zst"}
    assert not (crash / "vmcore.last").exists()
    (crash / "bounds").write_text("1030\n")
    assert "vmcore.1030" in savecore(tmp_path, dumptime=3)


def test_a_dump_under_savecores_names_is_continued(tmp_path: Path) -> None:
    traffic = Dump(vmcore=DATA, kdh=header(len(DATA))).traffic()
    crash = tmp_path / "crash"
    holed = [seen for seen in traffic if seen.payload[8:16] != (14_480).to_bytes(8, "big")]
    for part, names in ((holed, ["--savecore-names"]), (traffic, [])):
        recover(write(tmp_path, pcap(part)), *names, "-o", crash)
    assert {path.name for path in crash.iterdir()} == {
        *("bounds", "info.0", "kdh.0", "vmcore.0", "info.last", "vmcore.last")
    }
    assert (crash / "vmcore.0").read_bytes() == DATA
    info = (crash / "info.0").read_text()
    assert "  Dump Status: good\nDump complete\n" in info


def test_info_says_what_crashinfo_looks_for_and_nothing_forged(tmp_path: Path) -> None:
    version = b"FreeBSD 14.1-RELEASE\n  Panic String: forged\nDump complete\n    root@b:/usr\n"
    savecore(tmp_path, versionstring=version, panicstring=b"bad\n  Bounds: 9")  # type: ignore[arg-type]
    text = (tmp_path / "crash" / "info.0").read_text()
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("  Panic String: ")] == [
        r"  Panic String: bad\n  Bounds: 9"
    ]
    at = lines.index("  Version String: FreeBSD 14.1-RELEASE")
    assert lines[at + 1 : at + 4] == [
        "    Panic String: forged", "    Dump complete", "    root@b:/usr"
    ]  # fmt: skip
    assert lines.count("  Bounds: 0") == lines.count("Dump complete") == 1
    assert info_values(text)["Dump Length"] == str(len(DATA))


@pytest.mark.parametrize(
    ("kdh", "status", "word"),
    [
        (header(5), "Dump complete", "good"),
        (header(5), "Dump incomplete: 1 of 5 bytes missing in 1 range", "unknown"),
        (header(5, parity=1), "Dump complete", "bad"),
        (b"", "Dump complete", "unknown"),
    ],
)
def test_the_status_is_savecores_word(kdh: bytes, status: str, word: str) -> None:
    decoded = DumpHeader.unpack(kdh) if kdh else None
    lines = savecore_info_text(
        HOST, 3, decoded, status, complete=status == "Dump complete"
    ).splitlines()
    assert lines[0] == f"Dump header from device: {HOST}"
    assert lines[-2:] == [f"  Dump Status: {word}", status]


@pytest.mark.parametrize("several", [False, True])
def test_a_program_recovers_and_decrypts_in_one_go(several: bool, tmp_path: Path) -> None:
    capture = Path(ENCRYPTED)
    told: list[str] = []
    recovery = scapy_netdump.recover(
        [capture, str(capture)] if several else capture,
        tmp_path,
        client=HOST,
        private_key=PRIVATE_KEY,
        progress=lambda name, *_: told.append(name),
    )
    (dump,) = recovery.dumps
    assert recovery.complete
    assert dump.copy is not None
    assert dump.copy.path == tmp_path / f"vmcore.{HOST}.0"
    assert sha256(dump.copy.path) == CLEAN_SHA256
    assert dump.read(0, 16) == dump.copy.path.read_bytes()[:16]  # it is open to be looked into
    assert {str(capture), dump.copy.path.name} <= set(told)
    for path in (str(capture), bytes(capture)):
        assert not scapy_netdump.recover(path, tmp_path, client="192.0.2.9").dumps
        assert len(list(scapy_netdump.reassemble(path))) == 1


def test_a_program_is_told_that_the_key_is_another_ones(tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", other)
    recovery = scapy_netdump.recover(ENCRYPTED, tmp_path / "crash", private_key=other)
    assert len(recovery.dumps) == 1
    assert not recovery.complete
    assert "not the private key that this dump was encrypted for" in recovery.problems[0]
    with pytest.raises(EncryptionError, match="no RSA private key"):
        scapy_netdump.recover(ENCRYPTED, tmp_path / "crash", private_key=ENCRYPTED)
