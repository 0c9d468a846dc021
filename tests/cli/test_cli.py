# SPDX-License-Identifier: GPL-2.0-or-later
"""The command ``netdump`` as its users call it: a process, its output, its exit status."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import pty
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import zstandard
from helpers.places import PCAPS
from helpers.traffic import Dump, header, interleaved, lose, pcap, pcapng

from scapy_netdump import formats

CLEAN = str(PCAPS / "kernel-clean.pcap.gz")
SERVER_SIDE = str(PCAPS / "kernel-lossy-server-side.pcap.gz")
ENCRYPTED = str(PCAPS / "kernel-encrypted-chacha20.pcap.gz")
PATIENCE = 30

NETDUMP = [sys.executable, "-m", "scapy_netdump"]
VMCORE = Random(0).randbytes(100_000)
WHOLE = Dump(vmcore=VMCORE, kdh=header(len(VMCORE)), path=b"lab\0")
HOLED = lose(WHOLE.traffic(), 0.3, Random(1))

Answer = subprocess.CompletedProcess[str]


def netdump(*arguments: object, encoding: str = "utf-8", **options: Any) -> Answer:
    """Run it to the end. Whatever happens there is no traceback."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [*NETDUMP, *map(str, arguments)]
    answer = subprocess.run(command, timeout=PATIENCE, **{**pipes, **options})
    output, errors = ((text or b"").decode(encoding) for text in (answer.stdout, answer.stderr))
    assert "Traceback" not in errors
    assert "Exception" not in errors
    return subprocess.CompletedProcess(command, answer.returncode, output, errors)


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "whole.pcap"
    path.write_bytes(pcap(WHOLE.traffic()))
    return path


@pytest.fixture
def holed(tmp_path: Path) -> Path:
    path = tmp_path / "holed.pcap"
    path.write_bytes(pcap(HOLED))
    return path


@pytest.fixture
def crash(tmp_path: Path) -> Path:
    return tmp_path / "crash"


def recovered(answer: Answer) -> list[dict[str, Any]]:
    dumps: list[dict[str, Any]] = json.loads(answer.stdout)
    return dumps


# Exit statuses and messages


def test_0_when_all_is_good(capture: Path, crash: Path) -> None:
    answer = netdump("recover", capture, "-o", crash)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "Dump complete" in answer.stdout
    assert (crash / "vmcore.10.99.0.2.0").read_bytes() == VMCORE


def test_3_when_bytes_are_missing(crash: Path) -> None:
    answer = netdump("recover", SERVER_SIDE, "-o", crash)
    assert answer.returncode == 3
    assert "33304 of 3145728 bytes missing in 23 ranges, though the client" in answer.stdout
    assert "118864-120312" in answer.stdout


def test_3_when_a_capture_is_damaged_even_if_no_byte_is_missing(capture: Path, crash: Path) -> None:
    with capture.open("ab") as file:
        file.write(b"\xff" * 100)
    answer = netdump("recover", capture, "-o", crash)
    assert answer.returncode == 3
    assert answer.stderr.startswith(f"netdump: {capture}: bad record length 4294967295 at byte ")


@pytest.mark.parametrize("kind", ["text", "missing", "directory", "empty", "no permission"])
def test_1_and_one_line_when_there_is_nothing_to_read(
    kind: str, tmp_path: Path, crash: Path
) -> None:
    path = tmp_path / "file\x1b[31m\nname"
    if kind == "text":
        path.write_text("not a capture\n" * 9)
    elif kind == "directory":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "no permission":
        path.touch(0)
        if os.geteuid() == 0:
            pytest.skip("root may read everything")
    answer = netdump("recover", path, "-o", crash)
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert answer.stderr.startswith(f"netdump: {tmp_path}/file\\x1b[31m\\nname: ")
    assert answer.stderr.count("\n") == 1


def test_1_when_there_is_no_netdump_in_it(tmp_path: Path, crash: Path) -> None:
    path = tmp_path / "empty.pcap"
    path.write_bytes(pcap([]))
    answer = netdump("recover", path, "-o", crash)
    assert (answer.returncode, answer.stdout) == (1, "no netdump traffic in 0 frames\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["no-such-command"],
        ["recover"],
        ["recover", "--client", "300.1.1.1", "x"],
        ["recover", "--server", "a host", "x"],
        ["recover", "--port", "0", "x"],
        ["recover", "--port", "65536", "x"],
        ["recover", "--port", "http", "x"],
        ["recover", "--no-such-option", "x"],
        ["recover", "--into", "a", "-o", "b", "x"],
        ["recover", "--prefer", "best", "x"],
        ["recover", "--names", "--savecore-names", "x"],
        ["info"],
        ["info", "--client", "", "x"],
    ],
)
def test_2_for_wrong_usage(arguments: list[str]) -> None:
    answer = netdump(*arguments)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert "netdump" in answer.stderr.splitlines()[-1]


def test_a_capture_that_cannot_be_read_does_not_cost_the_others(capture: Path, crash: Path) -> None:
    answer = netdump("recover", capture, crash / "missing", "-o", crash)
    assert answer.returncode == 3
    assert answer.stderr == f"netdump: {crash}/missing: No such file or directory\n"
    assert (crash / "vmcore.10.99.0.2.0").read_bytes() == VMCORE


def test_a_directory_that_cannot_be_is_one_line(capture: Path) -> None:
    answer = netdump("recover", capture, "-o", capture / "below")
    assert answer.returncode == 1
    assert answer.stderr.count("\n") == 1
    assert "cannot be a dump directory" in answer.stderr


def test_an_interface_that_is_not_there_is_one_line(crash: Path) -> None:
    answer = netdump("recover", "-i", "nosuch0", "-o", crash)
    assert answer.returncode == 1
    assert answer.stderr.splitlines()[-1].startswith("netdump: nosuch0: ")


# --json


def test_json_is_a_list_with_an_object_a_dump(crash: Path) -> None:
    answer = netdump("recover", SERVER_SIDE, "--json", "-o", crash)
    assert answer.returncode == 3
    (dump,) = recovered(answer)
    assert dump["heralded"] is dump["finished"] is True
    assert dump["complete"] is False
    assert dump["bytes_expected"] - dump["bytes_received"] == 33_304
    assert dump["missing"][0] == [118_864, 120_312]
    assert len(dump["missing"]) == 23
    assert dump["kdh"]["dumplength"] == dump["bytes_expected"] == 3_145_728
    assert dump["conflicting_bytes"] == 0
    assert isinstance(dump["retransmitted"], int)
    assert isinstance(dump["path"], str)
    files = dump["files"]
    assert set(files) == {
        *("info", "kdh", "key", "vmcore", "map", "other", "kdh_other", "plain", "plain_map"),
    }
    assert files["key"] is None
    assert all(Path(path).is_file() for path in files.values() if path)
    assert files["map"] == f"{files['vmcore']}.map"


def test_json_has_the_c_names_of_the_header(capture: Path, crash: Path) -> None:
    (dump,) = recovered(netdump("recover", capture, "--json", "-o", crash))
    _, names = formats.KDH_LAYOUTS[4]
    assert set(dump["kdh"]) == set(names) - {"unused"}


def test_json_of_a_dump_without_a_header_has_null(tmp_path: Path, crash: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(pcap(Dump(vmcore=b"x" * 100).traffic()))
    answer = netdump("recover", path, "--json", "-o", crash)
    assert answer.returncode == 0
    assert recovered(answer)[0]["kdh"] is None


def test_json_of_nothing_is_an_empty_list(tmp_path: Path, crash: Path) -> None:
    path = tmp_path / "capture"
    path.write_bytes(pcap([]))
    assert recovered(netdump("recover", path, "--json", "-o", crash)) == []


# Where captures come from


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
@pytest.mark.parametrize("kind", [pcap, pcapng])
@pytest.mark.parametrize("way", ["file", "pipe", "redirection"])
def test_gzip_zstd_pcap_and_pcapng_are_told_by_content(
    pack, kind, way: str, tmp_path: Path, crash: Path
) -> None:
    path = tmp_path / "capture.txt"
    path.write_bytes(pack(kind(WHOLE.traffic())))
    arguments = "recover", path if way == "file" else "-", "-o", crash
    with path.open("rb") as file:
        options: dict[str, Any] = {
            "file": {},
            "pipe": {"input": path.read_bytes()},
            "redirection": {"stdin": file},
        }[way]
        answer = netdump(*arguments, **options)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert (crash / "vmcore.10.99.0.2.0").read_bytes() == VMCORE


def test_a_compressed_capture_that_is_cut_short_yields_what_it_holds(
    tmp_path: Path, crash: Path
) -> None:
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(pcap(WHOLE.traffic()))[:60_000])
    answer = netdump("recover", path, "--json", "-o", crash)
    assert answer.returncode == 3
    assert "the gzip data is cut short" in answer.stderr
    (dump,) = recovered(answer)
    assert 50_000 < dump["bytes_received"] < 100_000


def test_two_captures_fill_each_others_holes(tmp_path: Path, holed: Path, crash: Path) -> None:
    second = tmp_path / "second.pcapng"
    second.write_bytes(pcapng(WHOLE.traffic()[len(WHOLE.traffic()) // 3 :]))
    first = tmp_path / "first.pcap"
    first.write_bytes(pcap(WHOLE.traffic()[: len(WHOLE.traffic()) // 2]))
    answer = netdump("recover", first, second, "-o", crash)
    assert answer.returncode == 0
    assert (crash / "vmcore.10.99.0.2.0").read_bytes() == VMCORE


@pytest.mark.parametrize(
    ("options", "clients"),
    [
        (["--client", "10.99.0.3"], ["10.99.0.3"]),
        (["--client", "2001:db8::2"], ["2001:db8::2"]),
        (["--server", "10.99.0.1"], ["10.99.0.2", "10.99.0.3"]),
        (["--port", "4444"], ["10.99.0.3"]),
        (["--client", "10.99.0.2", "--port", "4444"], []),
    ],
)
def test_options_narrow_it_down(
    options: list[str], clients: list[str], tmp_path: Path, crash: Path
) -> None:
    path = tmp_path / "three.pcap"
    dumps = [
        Dump(vmcore=VMCORE[:5000]),
        Dump(vmcore=VMCORE[:6000], client="10.99.0.3", server_port=4444),
        Dump(vmcore=VMCORE[:7000], client="2001:db8::2", server="2001:db8::1"),
    ]
    path.write_bytes(pcap(interleaved(Random(2), *(dump.traffic() for dump in dumps))))
    answer = netdump("recover", path, *options, "--json", "-o", crash)
    assert answer.returncode == (0 if clients else 1)
    assert sorted(dump["client"] for dump in recovered(answer)) == clients
    described = json.loads(netdump("info", path, *options, "--json").stdout)
    assert sorted(dump["client"] for dump in described[0]["dumps"]) == clients


# Interrupted, starved, cut off


@contextlib.contextmanager
def reading_from_a_pipe(crash: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [*NETDUMP, "recover", "-", "--json", "-o", crash],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


def wait_for(path: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("pack", [bytes, zstandard.compress], ids=["plain", "zstd"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_a_writer_is_slow_keeps_what_came_and_says_so(
    pack, number: int, crash: Path
) -> None:
    data = pcap(WHOLE.traffic()[:100])
    if pack is not bytes:
        data = zstandard.ZstdCompressor().compressobj().compress(data) or pack(data)
    with reading_from_a_pipe(crash) as process:
        assert process.stdin is not None
        process.stdin.write(data)
        process.stdin.flush()
        wait_for(crash)
        time.sleep(0.7)
        process.send_signal(number)
        assert process.wait(PATIENCE) == 3
        assert process.stdout is not None
        assert process.stderr is not None
        (dump,) = json.loads(process.stdout.read())
        assert process.stderr.read() == b"netdump: standard input: interrupted\n"
    assert 0 < dump["bytes_received"] < 100_000
    content = Path(dump["files"]["vmcore"]).read_bytes()
    assert content == VMCORE[: len(content)]
    assert dump["verdict"] == "unknown"
    assert "Dump not known to be complete" in Path(dump["files"]["info"]).read_text()


def test_an_interrupt_before_the_first_byte_ends_it_at_once(crash: Path) -> None:
    with reading_from_a_pipe(crash) as process:
        wait_for(crash)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 1
        assert process.stderr is not None
        assert process.stderr.read() == b"netdump: -: interrupted before it was read\n"


def test_an_interrupt_that_ends_the_writer_too_loses_nothing_that_it_left(crash: Path) -> None:
    """As ^C does with ``tcpdump -w - | netdump recover -``: tcpdump writes out what it has."""
    data = pcap(WHOLE.traffic())
    with reading_from_a_pipe(crash) as process:
        assert process.stdin is not None
        process.stdin.write(data[:50_000])
        process.stdin.flush()
        wait_for(crash)
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        process.stdin.write(data[50_000:])
        process.stdin.close()
        assert process.wait(PATIENCE) == 0
    assert (crash / "vmcore.10.99.0.2.0").read_bytes() == VMCORE


def test_killed_in_the_middle_it_leaves_nothing_that_looks_whole(crash: Path) -> None:
    """The capture is larger than a window, so that writing has begun when the kill comes."""
    vmcore = Random(2).randbytes(1 << 20) * 12
    with reading_from_a_pipe(crash) as process:
        assert process.stdin is not None
        process.stdin.write(pcap(Dump(vmcore=vmcore, finished=False).traffic()))
        process.stdin.flush()
        wait_for(crash / "vmcore.10.99.0.2.0.part")
        process.kill()
        process.wait()
    names = {path.name for path in crash.iterdir()}
    assert names == {"info.10.99.0.2.0", "vmcore.10.99.0.2.0.part"}
    lines = (crash / "info.10.99.0.2.0").read_text().splitlines()
    assert lines[-1] == "Dump incomplete: being received"
    answer = netdump("info", crash)
    assert answer.returncode == 3
    assert "being received" in answer.stdout


def test_a_file_that_may_not_grow_is_one_line_and_nothing_looks_whole(
    capture: Path, crash: Path
) -> None:
    answer = netdump(
        "recover",
        capture,
        "-o",
        crash,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536)),
    )
    part = crash / "vmcore.10.99.0.2.0.part"
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert answer.stderr == f"netdump: {part}: cannot write: File too large\n"
    assert not (crash / "vmcore.10.99.0.2.0").exists()
    assert "incomplete" in (crash / "info.10.99.0.2.0").read_text()


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", directory], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("cannot mount a small file system")
    yield directory
    subprocess.run(["umount", directory], check=True)


@pytest.mark.root
def test_a_full_disk_is_one_line_and_nothing_looks_whole(capture: Path, full_disk: Path) -> None:
    answer = netdump("recover", capture, "-o", full_disk)
    part = full_disk / "vmcore.10.99.0.2.0.part"
    assert answer.returncode == 1
    assert answer.stderr == f"netdump: {part}: cannot write: No space left on device\n"
    assert not (full_disk / "vmcore.10.99.0.2.0").exists()
    assert "incomplete" in (full_disk / "info.10.99.0.2.0").read_text()


@pytest.mark.parametrize(
    "arguments", [["--help"], ["recover", "--help"], ["info", SERVER_SIDE, "--json"]]
)
def test_a_reader_that_has_seen_enough_is_no_error_worth_a_word(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    answer = netdump(*arguments, stdout=writing)
    os.close(writing)
    assert answer.stderr == ""


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_closed_standard_stream_is_no_traceback(
    closed: int, capture: Path, crash: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    command = " ".join(
        [*NETDUMP, f"recover {capture} {tmp_path}/none -o {crash} 2>{log} {closed}>&-"]
    )
    assert subprocess.run(["sh", "-c", command], stdout=subprocess.DEVNULL).returncode == 3
    assert "Traceback" not in log.read_text()
    assert (crash / "vmcore.10.99.0.2.0").read_bytes() == VMCORE


HOSTILE = "\x1b]0;owned\x07\n\u202eDump complete\r\u6f22 é"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_hostile_strings_reach_no_terminal(encoding: str, tmp_path: Path, crash: Path) -> None:
    path = tmp_path / "hostile.pcap"
    kdh = header(
        100, hostname=HOSTILE.encode(), panicstring=HOSTILE.encode(), versionstring=b"\x9b2J"
    )
    path.write_bytes(pcap(Dump(vmcore=b"x" * 50, kdh=kdh, path=HOSTILE.encode() + b"\0").traffic()))
    for arguments in (("recover", path, "-o", crash), ("info", path), ("info", crash)):
        answer = netdump(
            *arguments,
            env={**os.environ, "PYTHONIOENCODING": encoding},
            encoding=encoding,
        )
        assert answer.returncode == 3
        lines = (answer.stdout + answer.stderr).split("\n")
        assert all(line.isprintable() for line in lines)
        assert not any(line.strip().startswith("Dump complete") for line in lines)


# netdump info


def test_info_of_a_capture_writes_nothing(tmp_path: Path, capture: Path) -> None:
    before = sorted(tmp_path.iterdir())
    answer = netdump("info", capture, cwd=tmp_path)
    assert answer.returncode == 0
    assert "1 dump in" in answer.stdout
    assert 'panic "page fault"' in answer.stdout
    assert sorted(tmp_path.iterdir()) == before


def test_info_of_what_recovery_wrote(crash: Path) -> None:
    assert netdump("recover", ENCRYPTED, "-o", crash).returncode == 0
    kdh = netdump("info", crash / "kdh.10.99.0.2.0")
    key = netdump("info", crash / "key.10.99.0.2.0")
    directory = netdump("info", crash)
    assert kdh.returncode == key.returncode == directory.returncode == 0
    assert "kernel dump header" in kdh.stdout
    assert "cipher: chacha20" in key.stdout.lower()
    assert "RSA key of 2048 bits" in key.stdout
    assert "Dump complete" in directory.stdout
    assert "vmcore_encrypted.10.99.0.2.0" in directory.stdout


def test_info_as_json_tells_the_kind_of_each(crash: Path) -> None:
    netdump("recover", ENCRYPTED, SERVER_SIDE, "-o", crash)
    files = [ENCRYPTED, crash / "kdh.10.99.0.2.0", crash / "key.10.99.0.2.0", crash]
    answer = netdump("info", "--json", *files)
    described = json.loads(answer.stdout)
    assert [one["kind"] for one in described] == [
        "capture", "kernel dump header", "dump key", "dump directory",
    ]  # fmt: skip
    assert [one["file"] for one in described] == [str(file) for file in files]
    assert described[1]["kdh"] == described[0]["dumps"][0]["kdh"]
    statuses = {dump["host"]: dump["status"] for dump in described[3]["dumps"]}
    assert "Dump complete" in statuses.values()
    assert answer.returncode == 3


def test_info_goes_on_after_a_file_that_says_nothing(capture: Path, tmp_path: Path) -> None:
    answer = netdump("info", tmp_path / "nothing", capture)
    assert answer.returncode == 1
    assert answer.stderr.count("\n") == 1
    assert "page fault" in answer.stdout


@pytest.mark.parametrize("content", ["garbage", "0 ? 1\n0 10 +\n30 5 ?\n"])
def test_a_damaged_mapfile_does_not_hide_the_other_dumps(
    content: str, capture: Path, holed: Path, crash: Path
) -> None:
    netdump("recover", holed, "-o", crash)
    (map_,) = crash.glob("*.map")
    map_.write_text(content)
    netdump("recover", capture, "-o", crash)
    answer = netdump("info", crash)
    assert answer.returncode == 3
    assert "Dump complete" in answer.stdout
    assert "mapfile" in answer.stdout


def test_info_reads_standard_input(capture: Path) -> None:
    answer = netdump("info", "-", input=capture.read_bytes())
    assert answer.returncode == 0
    assert "page fault" in answer.stdout


# Progress and start


def test_progress_is_shown_on_a_terminal_and_gone_at_the_end(tmp_path: Path, crash: Path) -> None:
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*NETDUMP, "recover", "-", "-o", crash],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=follower,
    )
    os.close(follower)
    assert process.stdin is not None
    process.stdin.write(pcap(Dump(vmcore=VMCORE * 20).traffic()))
    process.stdin.close()
    shown = b""
    with contextlib.suppress(OSError):  # EIO is a terminal's end
        while piece := os.read(leader, 4096):
            shown += piece
    os.close(leader)
    assert process.wait(PATIENCE) == 0
    assert b"standard input  " in shown
    assert shown.endswith(b"\r\x1b[K")


def loaded_by(*arguments: str) -> tuple[str, str, set[str]]:
    """What a command that argparse ends printed, its status, and the modules that are loaded."""
    program = (
        "import sys\nfrom scapy_netdump.cli.main import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n"
        "    print(end.code, *sys.modules, file=sys.stderr)"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    status, *modules = answer.stderr.splitlines()[-1].split()
    return answer.stdout, status, set(modules)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], "0"),
        (["--version"], "0"),
        (["--version", "recover"], "0"),
        ([], "2"),
        (["no-such-command"], "2"),
        (["--no-such-option"], "2"),
    ],
)
def test_until_a_command_is_named_none_is_imported(arguments: list[str], status: str) -> None:
    output, ended, modules = loaded_by(*arguments)
    assert ended == status
    assert ("netdump" in output) == (status == "0")
    assert {"scapy", "numpy"}.isdisjoint(modules)
    parts = {name.split(".")[1] for name in modules if name.startswith("scapy_netdump.")}
    assert parts == {"cli", "errors", "text"}
    assert {name for name in modules if name.startswith("scapy_netdump.cli.")} == {
        "scapy_netdump.cli.main",
        "scapy_netdump.cli.common",
    }


COMMANDS = {"recover", "serve", "send", "service", "info", "dmesg", "decrypt", "report", "lua"}


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_of_a_command_imports_no_other_command_and_nothing_optional(command: str) -> None:
    output, status, modules = loaded_by(command, "--help")
    assert status == "0"
    assert output.startswith(f"usage: netdump {command} ")
    assert {"scapy", "cryptography", "matplotlib", "zstandard"}.isdisjoint(modules)
    imported = {name.removeprefix("scapy_netdump.cli.") for name in modules}
    assert imported & COMMANDS == {command}


def test_help_tells_of_every_command() -> None:
    lines = netdump("--help").stdout.splitlines()
    assert {line.split()[0] for line in lines if line.startswith("    ")} >= COMMANDS


def test_recovery_does_not_import_scapy(capture: Path, crash: Path) -> None:
    program = (
        "import sys\nfrom scapy_netdump.cli.main import main\n"
        f"main(['recover', {str(capture)!r}, '-o', {str(crash)!r}])\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "scapy" not in answer.stderr.split()
    assert "numpy" in answer.stderr.split()


def test_the_installed_command_is_the_same() -> None:
    command = shutil.which("netdump", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("the command netdump is not installed beside this Python")
    answer = subprocess.run([command, "--version"], capture_output=True, text=True)
    assert answer.stdout == netdump("--version").stdout
