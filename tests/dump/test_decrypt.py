# SPDX-License-Identifier: GPL-2.0-or-later
"""``netdump decrypt`` as its user sees it."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from helpers.openssl import (
    AES,
    PRIVATE_KEY,
    cipher,
    needs_openssl,
    openssl,
    public_key,
    unwrap,
    wrap,
)
from test_encryption import IV, ONE_TIME_KEY

from scapy_netdump.cli.main import main
from scapy_netdump.client.prepare import Preparation, prepared
from scapy_netdump.core.extents import Extents
from scapy_netdump.kerneldump.header import pack_header
from scapy_netdump.kerneldump.key import DumpKey
from scapy_netdump.recovery.recoverer import recover
from scapy_netdump.store.mapfile import mapfile_text, parse_mapfile

PCAPS = PRIVATE_KEY.parent
CAPTURE = str(PCAPS / "kernel-encrypted-chacha20.pcap.gz")
CLEAN = "c580bf7b7fe4be23e60bde807ab249fda6a633e42b50ecf5fb15aa7f3605037e"
DUMP = "10.99.0.2.0"
PLAIN = hashlib.shake_128(b"memory").digest(5 * 4096)


@pytest.fixture
def recovered(tmp_path: Path) -> Path:
    """A directory with the dump that a real kernel encrypted."""
    recover([CAPTURE], tmp_path / "dumps")
    return tmp_path / "dumps"


def decrypt(*arguments: object) -> int:
    return main(["decrypt", *map(str, arguments)])


def stored(directory: Path, name: str, key: DumpKey, data: bytes, missing: Sequence = ()) -> Path:
    """A dump as savecore(8) names it, with the mapfile of a recovered one."""
    path = directory / f"vmcore_encrypted.{name}"
    path.write_bytes(data)
    (directory / f"key.{name}").write_bytes(key.pack(4096))
    if missing:
        path.with_name(f"{path.name}.map").write_text(mapfile_text(missing, len(data)))
    return path


def aes_dump(directory: Path, missing: Sequence = (), padding: str = "oaep") -> Path:
    key = DumpKey(AES, IV, wrap(ONE_TIME_KEY, padding=padding))
    return stored(directory, "0", key, cipher(PLAIN, key, ONE_TIME_KEY, "-e"), missing)


def named(directory: Path, core: Path) -> list[object]:
    return [
        *("-k", directory / "key.0", "-e", directory / "vmcore_encrypted.0"),
        *("-c", core, "-p", PRIVATE_KEY),
    ]


def test_a_real_encrypted_dump_is_the_clean_one(recovered: Path) -> None:
    assert decrypt("-p", PRIVATE_KEY, "-d", recovered, "-n", 0) == 0
    core = recovered / f"vmcore.{DUMP}"
    assert hashlib.sha256(core.read_bytes()).hexdigest() == CLEAN
    assert core.stat().st_mode & 0o777 == 0o600
    assert not core.with_name(f"{core.name}.map").exists()


@needs_openssl
def test_a_real_encrypted_dump_is_what_openssl_makes_of_it(recovered: Path) -> None:
    key = DumpKey.unpack((recovered / f"key.{DUMP}").read_bytes())
    encrypted = (recovered / f"vmcore_encrypted.{DUMP}").read_bytes()
    plain = cipher(encrypted, key, unwrap(key.encryptedkey), "-d")
    assert decrypt("-p", PRIVATE_KEY, "-d", recovered, "-n", DUMP) == 0
    assert (recovered / f"vmcore.{DUMP}").read_bytes() == plain


@needs_openssl
@pytest.mark.parametrize("padding", ["oaep", "pkcs1"])
def test_files_are_named_one_by_one(tmp_path: Path, padding: str) -> None:
    aes_dump(tmp_path, padding=padding)
    assert decrypt(*named(tmp_path, tmp_path / "core")) == 0
    assert (tmp_path / "core").read_bytes() == PLAIN


@needs_openssl
def test_around_holes_what_can_be_decrypted_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    holes = [(0, 5), (1000, 1001), (1040, 1050), (8192, 12288), (20470, 20480)]
    aes_dump(tmp_path, holes)
    core = tmp_path / "core"
    assert decrypt(*named(tmp_path, core), "--json") == 3
    wanted = [(0, 32), (992, 1024), (1040, 1072), (8192, 12304), (20464, 20480)]
    answer = json.loads(capsys.readouterr().out)
    assert answer == {
        "core": str(core),
        "size": len(PLAIN),
        "complete": False,
        "missing": [list(range_) for range_ in wanted],
        "map": f"{core}.map",
        "problem": None,
    }
    assert parse_mapfile(Path(answer["map"]).read_text()) == (wanted, len(PLAIN))
    lost = Extents()
    for start, end in wanted:
        lost.add(start, end)
    data = core.read_bytes()
    assert len(data) == 20464  # a hole at the end is not written
    for start, end in lost.missing(0, len(PLAIN)):
        assert data[start:end] == PLAIN[start:end]
    for start, end in lost:
        assert not any(data[start:end])


def test_a_real_dump_with_holes_says_how_much_is_missing(
    recovered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encrypted = recovered / f"vmcore_encrypted.{DUMP}"
    map_ = recovered / f"{encrypted.name}.map"
    map_.write_text(mapfile_text([(4096, 8192)], encrypted.stat().st_size))
    assert decrypt("-p", PRIVATE_KEY, "-d", recovered, "-n", 0) == 3
    core = recovered / f"vmcore.{DUMP}"
    assert "4096 of them missing in 1 range" in capsys.readouterr().out
    assert parse_mapfile(Path(f"{core}.map").read_text())[0] == [(4096, 8192)]


@needs_openssl
@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_decompression_on_the_way(tmp_path: Path, compression: str) -> None:
    plain = b"".join(b"%d\n" % number for number in range(20_000))
    source = tmp_path / "plain"
    source.write_bytes(plain)
    preparation = Preparation(compression=compression, public_key=public_key())
    suffix = {"gzip": ".gz", "zstd": ".zst"}[compression]
    with prepared(str(source), preparation) as dump:
        data = dump.read(0, dump.header.dumplength)
        (tmp_path / "kdh.h.7").write_bytes(dump.kdh)
        stored(tmp_path, f"h.7{suffix}", DumpKey.unpack(dump.key), data)
        (tmp_path / f"key.h.7{suffix}").rename(tmp_path / "key.h.7")
    where = ("-p", PRIVATE_KEY, "-d", tmp_path, "-n", 7)
    assert decrypt(*where) == 0
    assert (tmp_path / f"vmcore.h.7{suffix}").exists()
    assert decrypt(*where, "--decompress") == 0
    assert (tmp_path / "vmcore.h.7").read_bytes() == plain
    size = len(data)
    hole = [(size // 2, size // 2 + 1)]
    map_ = tmp_path / f"vmcore_encrypted.h.7{suffix}.map"
    map_.write_text(mapfile_text(hole, size))
    assert decrypt(*where, "--decompress", "-f") == 3
    missing, end = parse_mapfile((tmp_path / "vmcore.h.7.map").read_text())
    assert end == len(plain)
    ((start, _),) = missing
    assert (tmp_path / "vmcore.h.7").read_bytes() == plain[:start]


def test_an_old_core_is_replaced_only_with_f(
    recovered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    core = recovered / f"vmcore.{DUMP}"
    core.write_bytes(b"old")
    where = ("-p", PRIVATE_KEY, "-d", recovered, "-n", 0)
    assert decrypt(*where) == 1
    assert core.read_bytes() == b"old"
    assert "is there already; -f replaces it" in capsys.readouterr().err
    assert decrypt(*where, "-f") == 0
    assert hashlib.sha256(core.read_bytes()).hexdigest() == CLEAN


def test_v_says_what_is_done(recovered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert decrypt("-v", "-p", PRIVATE_KEY, "-d", recovered, "-n", 0) == 0
    lines = capsys.readouterr().err
    assert "chacha20, RSA of 2048 bits" in lines
    assert "3145728 bytes, 0 holes" in lines


def test_of_several_hosts_one_is_chosen(
    recovered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for kind in ("key", "vmcore_encrypted"):
        shutil.copy(recovered / f"{kind}.{DUMP}", recovered / f"{kind}.other.0")
    where = ("-p", PRIVATE_KEY, "-d", recovered)
    assert decrypt(*where, "-n", 0) == 2
    assert f"{DUMP}, other.0" in capsys.readouterr().err
    assert decrypt(*where, "-n", "other.0") == 0
    assert (recovered / "vmcore.other.0").exists()
    assert decrypt(*where, "-n", 1) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["-k", "a", "-e", "b"],
        ["-d", "."],
        ["-n", "0", "-c", "core"],
        ["-d", ".", "-k", "a", "-e", "b", "-c", "c"],
        ["-d", "/nonexistent", "-n", "0"],
        ["-k", "a", "-e", "b", "-c", "./b"],
    ],
)
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert decrypt("-p", PRIVATE_KEY, *arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


# ---------------------------------------------------------------- what goes wrong


def fails_in_one_line(
    capsys: pytest.CaptureFixture[str], directory: Path, *arguments: object
) -> str:
    before = sorted(directory.iterdir())
    assert decrypt(*arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("netdump: ")
    assert err.count("\n") == 1
    assert sorted(directory.iterdir()) == before  # no output, nor a part of it
    return err


@needs_openssl
def test_wrong_keys(recovered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other, larger = tmp_path / "other.pem", tmp_path / "larger.pem"
    openssl("genrsa", "-out", str(other), "2048")
    openssl("genrsa", "-out", str(larger), "3072")
    for path, message in (
        (other, "not the private key that this dump was encrypted for"),
        (larger, "an RSA key of 3072 bits; the dump key needs 2048"),
        (public_key(), "no RSA private key"),
        (tmp_path / "none.pem", "No such file"),
    ):
        where = ("-p", path, "-d", recovered, "-n", 0)
        assert message in fails_in_one_line(capsys, recovered, *where)


@pytest.mark.parametrize("size", [0, 1, 36, 37, 200, 292])
def test_a_key_file_that_is_cut_short(
    recovered: Path, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recovered / f"key.{DUMP}"
    data = path.read_bytes()[:size]
    path.unlink()
    path.write_bytes(data)
    where = ("-p", PRIVATE_KEY, "-d", recovered, "-n", 0)
    assert f"{path}: dump key: " in fails_in_one_line(capsys, recovered, *where)


def test_other_broken_files(recovered: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ("-p", PRIVATE_KEY, "-d", recovered, "-n", 0)
    map_ = recovered / f"vmcore_encrypted.{DUMP}.map"
    map_.write_text("nonsense\n")
    assert f"{map_}: mapfile: " in fails_in_one_line(capsys, recovered, *where)
    map_.unlink()
    key = recovered / f"key.{DUMP}"
    data = b"\x07" + key.read_bytes()[1:]
    key.unlink()
    assert "no such key file" in fails_in_one_line(capsys, recovered, *where)
    key.write_bytes(data)
    assert "unknown (7)" in fails_in_one_line(capsys, recovered, *where)


def test_nothing_is_decompressed_that_is_not_compressed(
    recovered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The header says that it is: then it is damaged, or the key is another dump's."""
    kdh = recovered / f"kdh.{DUMP}"
    kdh.write_bytes(pack_header(compression=2, dumplength=3145728, dumpextent=3145728))
    where = ("-p", PRIVATE_KEY, "-d", recovered, "-n", 0, "--decompress")
    assert "neither gzip nor zstd" in fails_in_one_line(capsys, recovered, *where)


# ---------------------------------------------------------------- passphrases


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    path = tmp_path / "locked.pem"
    openssl("rsa", "-in", str(PRIVATE_KEY), "-aes256", "-passout", "pass:s3cret", "-out", str(path))
    return path


def command(recovered: Path, locked: Path) -> list[str]:
    module = [sys.executable, "-m", "scapy_netdump", "decrypt"]
    return [*module, "-p", str(locked), "-d", str(recovered), "-n", "0"]


@needs_openssl
@pytest.mark.parametrize(("typed", "status"), [(b"s3cret\n", 0), (b"wrong\n", 1), (b"\n", 1)])
def test_a_passphrase_is_asked_for_on_the_terminal(
    recovered: Path, locked: Path, typed: bytes, status: int
) -> None:
    arguments = command(recovered, locked)
    child, terminal = pty.fork()
    if not child:
        os.execv(arguments[0], arguments)
    shown = b""
    try:
        while b"Passphrase of " not in shown:
            shown += os.read(terminal, 1000)
        os.write(terminal, typed)
        while piece := os.read(terminal, 1000):
            shown += piece
    except OSError:  # EIO: the child has gone
        pass
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == status, shown
    assert typed.strip() == b"" or typed.strip() not in shown.replace(b"wrong passphrase", b"")
    assert (b"wrong passphrase" in shown) == (status == 1)
    assert (recovered / f"vmcore.{DUMP}").exists() == (status == 0)


@needs_openssl
def test_without_a_terminal_there_is_nobody_to_ask(recovered: Path, locked: Path) -> None:
    run = subprocess.run(
        command(recovered, locked),
        input="s3cret\n",
        capture_output=True,
        text=True,
        start_new_session=True,  # without the terminal that the tests may run at
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr == (
        f"netdump: {locked}: needs a passphrase, and there is no terminal to ask for it\n"
    )
    assert not (recovered / f"vmcore.{DUMP}").exists()
