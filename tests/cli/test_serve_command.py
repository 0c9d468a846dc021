# SPDX-License-Identifier: GPL-2.0-or-later
"""`netdump serve` as a program: real processes, real sockets, real signals."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from helpers.serving import PATIENCE, Client, Serving
from helpers.traffic import header as kernel_dump_header

from scapy_netdump.cli import serve_options
from scapy_netdump.cli.serve import handler_arguments
from scapy_netdump.core.receiving import events
from scapy_netdump.core.receiving.events import Ended
from scapy_netdump.formats import FINISHED, HERALD, KDH, VMCORE
from scapy_netdump.recovery.recoverer import recover
from scapy_netdump.server.service.landlock import LandlockError, version
from scapy_netdump.store.mapfile import parse_mapfile
from scapy_netdump.wire import header

ADDRESS = "127.71.4.1"
HOST = ADDRESS
VMCORE_BYTES = Random(3).randbytes(20_500)

try:
    LANDLOCK = version()
except LandlockError:
    LANDLOCK = 0


@pytest.fixture
def crash(tmp_path: Path) -> Path:
    path = tmp_path / "crash"
    path.mkdir()
    return path


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def fails(*options: object, status: int = 1) -> str:
    """The one line with which the server refuses to start, without its first word."""
    done = subprocess.run(
        [sys.executable, "-m", "scapy_netdump", "serve", *map(str, options)],
        text=True,
        capture_output=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout) == (status, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("netdump: ")
    return line.removeprefix("netdump: ")


def test_a_dump_is_received_filed_handed_over_and_told_of(crash: Path, tmp_path: Path) -> None:
    handler = script(tmp_path / "script", 'pwd > ../seen; printf "%s\\n" "$@" >> ../seen')
    (crash / "lab").mkdir()
    with Serving(crash, "-i", handler, address=ADDRESS) as serving:
        with Client(serving) as client:
            client.dump(VMCORE_BYTES, b"lab\0")
        ended = serving.wait_for("ended")
        outcome = serving.wait_for("handler")
        serving.stop()
    assert serving.kinds() == [
        *("confinement", "listening", "heralded", "started", "ended", "handler", "stopped"),
    ]
    files = {name: str(crash / "lab" / f"{name}.{HOST}.0") for name in ("info", "vmcore")}
    assert ended["reason"] == "success"
    assert ended["files"] == {
        **dict.fromkeys(("kdh", "key", "map", "other", "kdh_other")),
        **files,
    }
    assert Path(files["vmcore"]).read_bytes() == VMCORE_BYTES
    assert Path(files["info"]).read_text().endswith("\nDump complete\n")
    arguments = ["success", ADDRESS, HOST, f"./lab/info.{HOST}.0", f"./lab/vmcore.{HOST}.0"]
    assert (tmp_path / "seen").read_text().splitlines() == [str(crash), *arguments]
    assert (outcome["arguments"], outcome["problem"]) == (arguments, None)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_files_what_is_here_and_runs_the_script(
    crash: Path, tmp_path: Path, number: int
) -> None:
    handler = script(tmp_path / "script", 'sleep 0.2; echo "$@" > ../seen')
    with Serving(crash, "-i", handler, address=ADDRESS) as serving, Client(serving) as client:
        client.send(HERALD)
        client.send(VMCORE, 3000, VMCORE_BYTES[:1000])
        errors = serving.stop(number)  # to its end, which is that of the script
    vmcore = crash / f"vmcore.{HOST}.0"
    assert vmcore.read_bytes() == bytes(3000) + VMCORE_BYTES[:1000]
    assert parse_mapfile((crash / f"{vmcore.name}.map").read_text())[0] == [(0, 3000)]
    assert (crash / f"info.{HOST}.0").read_text().splitlines()[-1].startswith("Dump incomplete")
    seen = (tmp_path / "seen").read_text().split()
    assert seen == ["interrupted", ADDRESS, HOST, f"./info.{HOST}.0", f"./{vmcore.name}"]
    assert serving.kinds()[-2:] == ["ended", "stopped"]
    assert f" {ADDRESS}: script for reason interrupted: done in " in errors  # when it was gone


def test_a_script_that_fails_is_told_of(crash: Path, tmp_path: Path) -> None:
    handler = script(tmp_path / "script", "echo to stdout; exit 7")
    with Serving(crash, "-i", handler, address=ADDRESS) as serving:
        with Client(serving) as client:
            client.dump(b"x")
        assert serving.wait_for("handler")["problem"] == "exit status 7"
        assert serving.stop() == "to stdout\n"


def test_a_script_that_hangs_is_killed(crash: Path, tmp_path: Path) -> None:
    handler = script(tmp_path / "script", "sleep 600")
    options = ("-i", handler, "--handler-timeout", "0.2")
    with Serving(crash, *options, address=ADDRESS) as serving:
        with Client(serving) as client:
            client.dump(b"x")
        assert serving.wait_for("handler")["problem"] == "killed after 0.2 seconds"
        serving.stop()


def test_a_port_that_is_taken(crash: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind((ADDRESS, 0))
        port = other.getsockname()[1]
        line = fails("-d", crash, "-a", ADDRESS, "--port", port)
    assert line.startswith(f"{ADDRESS} port {port}: cannot listen: Address already in use")
    assert list(crash.iterdir()) == []


def test_directories_are_made_only_when_asked(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "crash"
    options = ("-a", ADDRESS, "--port", 0)
    assert "No such file or directory" in fails("-d", directory, *options)
    assert not directory.exists()
    with Serving(directory, "--mkdir", "-p", "lab", address=ADDRESS) as serving:
        with Client(serving) as client:
            client.dump(b"x", b"of/client\0")
            client.dump(b"y")
        serving.stop()
    assert (directory / "of" / "client" / f"vmcore.{HOST}.0").read_bytes() == b"x"
    assert (directory / "lab" / f"vmcore.{HOST}.0").read_bytes() == b"y"


def test_what_makes_it_refuse_to_start(crash: Path, tmp_path: Path) -> None:
    start = ("-d", crash, "-a", ADDRESS, "--port", 0)
    (tmp_path / "file").touch()
    assert "no program that can be run" in fails(*start, "-i", tmp_path / "file")
    assert "is there already" in fails(*start, "--capture", tmp_path)
    assert "no user 'no-such-user'" in fails(*start, "--user", "no-such-user")
    assert "not an address" in fails("-d", crash, "-a", "nowhere.invalid", "--port", 0)
    assert "cannot be a pid file" in fails(*start, "-P", tmp_path)
    assert list(crash.iterdir()) == []


@pytest.mark.parametrize(
    "options",
    [
        ("--min-free", "many"),
        ("--keep", "0"),
        ("--port", "65536"),
        ("--ack-port", "none"),
        ("--timeout", "-1"),
        ("--herald-rate", "nan"),
        ("--allow", "192.0.2.0/33"),
        ("--allow", "example"),
        ("--sync", "sometimes"),
    ],
)
def test_wrong_usage(crash: Path, options: tuple[str, str]) -> None:
    command = [sys.executable, "-m", "scapy_netdump", "serve", "-d", crash, *options]
    done = subprocess.run(command, text=True, capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (2, "")
    assert options[0] in done.stderr
    assert "Traceback" not in done.stderr


def test_people_get_lines_on_standard_error(crash: Path) -> None:
    command = [sys.executable, "-m", "scapy_netdump", "serve", "-D", "-d", crash, "-a", ADDRESS]
    with subprocess.Popen(
        [*command, "--port", "0"], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        lines = [process.stderr.readline() for _ in range(2)]
        process.terminate()
        out, rest = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert out == ""
    assert f"confined to {crash}" in lines[0] or not LANDLOCK
    assert f"listening on {ADDRESS} port " in lines[1]
    assert rest.endswith(" stopped\n")


@pytest.mark.skipif(not LANDLOCK, reason="this kernel has no Landlock")
def test_it_says_whether_it_is_confined_and_scripts_are_not(crash: Path, tmp_path: Path) -> None:
    handler = script(tmp_path / "script", "touch ../outside")
    with Serving(crash, "-i", handler, address=ADDRESS) as serving:
        assert serving.told[0]["confined"] is True
        assert serving.told[0]["landlock"] == LANDLOCK
        with Client(serving) as client:
            client.dump(b"x")
        assert serving.wait_for("handler")["problem"] is None
        threads = list(Path(f"/proc/{serving.process.pid}/task").iterdir())
        assert len(threads) > 1
        for thread in threads:  # what comes with being confined, and only to threads that are
            assert "NoNewPrivs:\t1" in (thread / "status").read_text()
        serving.stop()
    assert (tmp_path / "outside").exists()
    with Serving(crash, "--no-sandbox", address=ADDRESS) as serving:
        assert serving.told[0]["confined"] is False
        serving.stop()


def test_systemd_is_told_when_it_is_ready_and_when_it_stops(crash: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
        with Serving(crash, "--notify", address=ADDRESS, environment=environment) as serving:
            assert manager.recv(1000) == b"READY=1\nSTATUS=waiting for dumps"
            assert manager.recv(1000) == b"WATCHDOG=1"
            assert manager.recv(1000) == b"WATCHDOG=1"
            with Client(serving) as client:
                client.dump(b"x")
            serving.wait_for("ended")
            serving.stop()
            manager.setblocking(False)
            rest = []
            while True:
                try:
                    rest.append(manager.recv(1000))
                except BlockingIOError:
                    break
    told = [message for message in rest if message != b"WATCHDOG=1"]
    assert told[0] == b"STATUS=1 dump running, 0 received"
    assert told[1] == b"STATUS=0 dumps running, 1 received"
    assert told[-1].startswith(b"STOPPING=1")


def test_without_being_asked_systemd_is_told_nothing(crash: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        environment = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        with Serving(crash, address=ADDRESS, environment=environment) as serving:
            serving.stop()
        with pytest.raises(BlockingIOError):
            manager.recv(1000)


def test_a_capture_of_it_holds_the_dump(crash: Path, tmp_path: Path) -> None:
    capture = tmp_path / "capture.pcapng"
    # the port tells whoever reads the capture that it is netdump
    options = ("--capture", capture, "--port", "20023")
    with Serving(crash, *options, address=ADDRESS) as serving:
        with Client(serving, "127.71.4.2") as client:
            client.dump(VMCORE_BYTES)
        serving.wait_for("ended")
        (dump,) = recover([str(capture)], tmp_path / "out").dumps  # while the server runs
        serving.stop()
    assert (dump.transfer.client, dump.transfer.server, dump.complete) == (
        "127.71.4.2",
        ADDRESS,
        True,
    )
    assert dump.files.vmcore is not None
    assert dump.files.vmcore.read_bytes() == VMCORE_BYTES
    if shutil.which("tshark") is not None:
        command = ["tshark", "-r", capture, "-T", "fields", "-e", "udp.length"]
        sizes = subprocess.check_output(command, text=True).split()
        assert sizes.count("12") == 23
        assert len(sizes) == 46


def test_where_there_is_a_capture_already_the_next_name_is_taken(
    crash: Path, tmp_path: Path
) -> None:
    """As after a server was killed, and started again with the same options."""
    capture = tmp_path / "dumps.of.may.pcapng"
    sizes = []
    for name in ("dumps.of.may.pcapng", "dumps.of.may-1.pcapng", "dumps.of.may-2.pcapng"):
        with Serving(crash, "--capture", capture, address=ADDRESS) as serving:
            with Client(serving) as client:
                client.dump(b"x" * 1000)
            serving.wait_for("ended")
            said = [event["text"] for event in serving.told if event["event"] == "capture"]
            serving.process.kill()
        assert (
            said
            == ([f"{capture} is there already: the capture goes to {tmp_path / name}"])[
                : bool(sizes)
            ]
        )
        sizes.append((tmp_path / name).stat().st_size)
    assert min(sizes) > 1000
    assert capture.stat().st_size == sizes[0]  # what was there stays


@pytest.mark.skipif(sys.platform != "linux", reason="UDP GRO")
def test_datagrams_are_joined_unless_that_is_switched_off(crash: Path) -> None:
    for options, joined in (((), True), (("--no-coalescing",), False)):
        with Serving(crash, *options, address=ADDRESS) as serving:
            assert serving.told[-1]["coalescing"] is joined
            serving.stop()


@pytest.mark.parametrize(("network", "allowed"), [("127.71.0.0/16", True), ("192.0.2.0/24", False)])
def test_only_clients_of_some_networks(crash: Path, network: str, allowed: bool) -> None:
    with Serving(crash, "--allow", network, address=ADDRESS) as serving:
        with Client(serving) as client:
            client.socket.sendto(header(HERALD, 1, 0, 0), (serving.address, serving.port))
            event = serving.wait_for("heralded" if allowed else "refused")
        assert event["client"] == ADDRESS
        serving.stop()


def test_names_are_used_when_asked_for(crash: Path) -> None:
    """Also checks that a confined process reaches what the resolver reads."""
    try:
        name = socket.gethostbyaddr("127.0.0.1")[0].partition(".")[0]
    except OSError:
        pytest.skip("127.0.0.1 has no name here")
    with Serving(crash, "--names") as serving:
        with Client(serving) as client:
            client.dump(b"x")
        serving.wait_for("ended")
        serving.stop()
    assert (crash / f"vmcore.{name}.0").read_bytes() == b"x"


def test_old_dumps_are_removed_when_asked(crash: Path) -> None:
    """Those that are complete by a sound header, and a day old."""
    with Serving(crash, "--keep", "1", address=ADDRESS) as serving:
        for number in range(4):
            with Client(serving) as client:
                client.dump(str(number).encode(), finish=False)
                client.send(KDH, 0, kernel_dump_header(1))
                client.send(FINISHED)
            serving.wait_for("ended")
            if number != 1:
                os.utime(crash / f"info.{ADDRESS}.{number}", (0, 0))
        serving.stop()
    assert {path.read_bytes() for path in crash.glob("vmcore.*[0-9]")} == {b"1", b"3"}


def test_limits_that_leave_room_for_no_dump_are_refused_at_once(crash: Path) -> None:
    start = ("-d", crash, "-a", ADDRESS, "--port", 0)
    assert fails(*start, "--max-size", "0", status=2).startswith("--max-size 0: no dump")
    assert f"the disk of {crash} has " in fails(*start, "--min-free", "1000T", status=2)


def test_no_room_is_no_dump(crash: Path) -> None:
    disk = os.statvfs(crash)
    if disk.f_bavail == disk.f_blocks:
        pytest.skip("needs a disk that is not empty")
    most = disk.f_blocks * disk.f_frsize - 1
    with Serving(crash, "--min-free", most, address=ADDRESS) as serving:
        with Client(serving) as client:
            client.send(HERALD)
            client.socket.sendto(header(VMCORE, 2, 0, 4) + b"data", client.end)
            assert "free" in serving.wait_for("refused")["reason"]
        serving.stop()


def test_a_herald_and_nothing_more_leaves_nothing(crash: Path, tmp_path: Path) -> None:
    handler = script(tmp_path / "script", "touch ../seen")
    with Serving(crash, "--timeout", "0.3", "-i", handler, address=ADDRESS) as serving:
        with Client(serving) as client:
            client.send(HERALD)
        serving.wait_for("heralded")
        time.sleep(0.5)
        serving.stop()
    assert not (tmp_path / "seen").exists()
    assert not list(crash.glob("info.*"))


def test_a_herald_and_nothing_more_is_noted_if_that_is_asked_for(
    crash: Path, tmp_path: Path
) -> None:
    handler = script(tmp_path / "script", 'echo "$@" > ../seen')
    options = ("--timeout", "0.3", "--note-heralds", "-i", handler)
    with Serving(crash, *options, address=ADDRESS) as serving:
        with Client(serving) as client:
            client.send(HERALD)
        ended = serving.wait_for("ended")
        serving.wait_for("handler")
        serving.stop()
    assert (ended["reason"], ended["files"]["vmcore"]) == ("timeout", None)
    assert (tmp_path / "seen").read_text().split() == ["timeout", ADDRESS, HOST, f"./info.{HOST}.0"]
    last = (crash / f"info.{HOST}.0").read_text().splitlines()[-1]
    assert "nothing came but HERALDs" in last


def test_a_silent_client_is_given_up(crash: Path, tmp_path: Path) -> None:
    handler = script(tmp_path / "script", 'echo "$1" > ../seen')
    options = ("--timeout", "0.3", "-i", handler)
    with Serving(crash, *options, address=ADDRESS) as serving:
        with Client(serving) as client:
            client.dump(b"x", finish=False)
        assert serving.wait_for("ended")["reason"] == "timeout"
        serving.wait_for("handler")
        serving.stop()
    assert (tmp_path / "seen").read_text() == "timeout\n"


def test_help_names_netdumpds_letters() -> None:
    command = [sys.executable, "-m", "scapy_netdump", "serve", "--help"]
    text = subprocess.check_output(command, text=True)
    for letter in "aDdiPp":
        assert f"  -{letter} " in text or f"  -{letter}," in text


def test_help_tells_all_reasons_that_a_script_may_be_told() -> None:
    command = [sys.executable, "-m", "scapy_netdump", "serve", "--help"]
    told = "".join(subprocess.check_output(command, text=True).split())
    reasons = [value for name, value in vars(events).items() if name.isupper()]
    assert len(reasons) >= 6
    assert f"reason({','.join(reasons)})" in told


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("", "sync", "none"),
        ("--sync finish", "sync", "finish"),
        ("--sync always", "sync", "always"),
        ("", "keep_younger", False),
        ("--keep-younger", "keep_younger", True),
        ("", "note_heralds", False),
        ("--note-heralds", "note_heralds", True),
    ],
)
def test_what_options_are_called_in_the_program(words: str, name: str, value: object) -> None:
    parser = argparse.ArgumentParser()
    serve_options.add(parser)
    assert getattr(parser.parse_args(words.split()), name) == value


def test_arguments_when_there_is_no_vmcore(tmp_path: Path) -> None:
    event = Ended(
        1.0, 1, "192.0.2.2", 20024, "timeout", "incomplete", "", False,
        {"info": f"{tmp_path}/info.ws.12"},
        0, 0, [], 0, 0, 0, 0, 1.0,
    )  # fmt: skip
    expected = ("timeout", "192.0.2.2", "ws", "./info.ws.12", "")
    assert handler_arguments(event, tmp_path) == expected
