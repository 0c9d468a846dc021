# SPDX-License-Identifier: GPL-2.0-or-later
"""`netdump serve` as a service: signals, its pid file, its rights, its environment, its logs."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.places import PCAPS
from helpers.serving import PATIENCE, Client, Serving

from scapy_netdump.formats import FINISHED, HERALD, VMCORE
from scapy_netdump.server.service.landlock import LandlockError, version

ADDRESS = "127.71.5.1"
HOST = ADDRESS
SERVE = [sys.executable, "-m", "scapy_netdump", "serve"]

try:
    LANDLOCK = version()
except LandlockError:
    LANDLOCK = 0


@pytest.fixture
def crash(tmp_path: Path) -> Path:
    path = tmp_path / "crash"
    path.mkdir()
    return path


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that other users may look into, unlike pytest's."""
    with TemporaryDirectory() as path:
        Path(path).chmod(0o755)
        yield Path(path)


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def appears(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def refusal(*options: object) -> str:
    """What a server says that does not start."""
    words = [*SERVE, "-a", ADDRESS, "--port", "0", *map(str, options)]
    done = subprocess.run(words, text=True, capture_output=True, timeout=PATIENCE)
    assert done.returncode == 1
    return done.stderr


# Signals

UNTIL_GO = "touch ../began; while [ ! -e ../go ]; do sleep 0.02; done; touch ../end"


def test_port_and_pid_file_are_free_at_once_while_a_script_runs_on(
    crash: Path, tmp_path: Path
) -> None:
    handler = script(tmp_path / "script", UNTIL_GO)
    options = ("-i", handler, "-P", tmp_path / "pid")
    with Serving(crash, *options, address=ADDRESS) as serving:
        with Client(serving) as client:
            client.dump(b"x" * 10)
        appears(tmp_path / "began")
        serving.process.terminate()
        assert serving.process.wait(PATIENCE) == 0
        assert not (tmp_path / "pid").exists()
        again = ("--port", serving.port, *options)
        with Serving(crash, *again, address=ADDRESS) as successor:
            assert successor.port == serving.port
            assert (tmp_path / "pid").read_text() == f"{successor.process.pid}\n"
            successor.process.terminate()
            assert successor.process.wait(PATIENCE) == 0
        assert not (tmp_path / "end").exists()
        (tmp_path / "go").touch()
        appears(tmp_path / "end")


def test_what_reads_the_servers_log_is_not_kept_waiting_by_a_script(
    crash: Path, tmp_path: Path
) -> None:
    handler = script(tmp_path / "script", UNTIL_GO)
    with Serving(crash, "-i", handler, address=ADDRESS) as serving:
        with Client(serving) as client:
            client.dump(b"x")
        appears(tmp_path / "began")
        serving.process.terminate()
        serving.wait_for("stopped")
        serving.wait_for_end()
        (tmp_path / "go").touch()


def test_a_script_has_its_time_limit_also_without_the_server(crash: Path, tmp_path: Path) -> None:
    handler = script(tmp_path / "script", "touch ../began; exec sleep 600")
    options = ("-i", handler, "--handler-timeout", "1")
    with Serving(crash, *options, address=ADDRESS) as serving:
        with Client(serving) as client:
            client.dump(b"x")
        appears(tmp_path / "began")
        errors = serving.stop()  # to the end of the script
    assert f"{ADDRESS}: script for reason success: killed after 1 seconds" in errors


def test_scripts_that_wait_for_their_turn_run_without_the_server(
    crash: Path, tmp_path: Path
) -> None:
    handler = script(tmp_path / "script", 'sleep 0.3; touch "../$2"')
    clients = [f"127.71.5.{number}" for number in range(11, 19)]
    with Serving(crash, "-i", handler, address=ADDRESS) as serving:
        for address in clients:
            with Client(serving, address) as client:
                client.dump(b"x", finish=False)
        assert serving.stop().count("done in") == len(clients)
    assert {path.name for path in tmp_path.glob("127.*")} == set(clients)


def test_a_hangup_ends_nothing_and_costs_nothing(crash: Path) -> None:
    with Serving(crash, address=ADDRESS) as serving, Client(serving) as client:
        client.send(HERALD)
        for offset in range(3):
            serving.process.send_signal(signal.SIGHUP)
            client.send(VMCORE, offset, b"x")
        client.send(FINISHED)
        assert serving.wait_for("ended")["bytes_received"] == 3
        serving.stop()


def test_a_hangup_right_at_the_start_ends_nothing(crash: Path, tmp_path: Path) -> None:
    with Serving(crash, "-P", tmp_path / "pid", address=ADDRESS) as serving:
        for _ in range(20):
            serving.process.send_signal(signal.SIGHUP)
        serving.stop()
    assert not (tmp_path / "pid").exists()


def test_a_terminal_that_goes_away_ends_nothing(crash: Path) -> None:
    terminal, theirs = os.openpty()
    command = [*SERVE, "-d", crash, "-a", ADDRESS, "--port", "0"]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        said = b""
        while b"listening" not in said:
            said += os.read(terminal, 1000)
        os.close(terminal)
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.terminate()
        assert process.wait(PATIENCE) == 0


# The pid file


def test_the_pid_file_comes_and_goes_and_keeps_a_second_server_away(
    crash: Path, tmp_path: Path
) -> None:
    pidfile = tmp_path / "pid"
    with Serving(crash, "-P", pidfile, address=ADDRESS) as serving:
        assert pidfile.read_text() == f"{serving.process.pid}\n"
        error = refusal("-d", crash, "-P", pidfile)
        assert (
            error
            == f"netdump: {pidfile}: process {serving.process.pid} runs already; stop it first\n"
        )
        assert pidfile.read_text() == f"{serving.process.pid}\n"
        serving.stop()
    assert not pidfile.exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_pid_file_is_left_however_the_server_ends(
    crash: Path, tmp_path: Path, number: int
) -> None:
    pidfile = tmp_path / "pid"
    with Serving(crash, "-P", pidfile, address=ADDRESS) as serving:
        serving.process.send_signal(number)
        serving.process.wait(PATIENCE)
        with Serving(crash, "-P", pidfile, address=ADDRESS) as successor:
            assert pidfile.read_text() == f"{successor.process.pid}\n"
            successor.stop()
    assert not pidfile.exists()


def test_a_server_that_cannot_start_leaves_no_pid_file(crash: Path, tmp_path: Path) -> None:
    refusal("-d", crash, "-P", tmp_path / "pid", "-i", tmp_path / "no script")
    assert not (tmp_path / "pid").exists()


# Rights


def status_of(process: int) -> dict[str, str]:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines)


@pytest.mark.root
def test_root_is_given_up_after_all_is_open(public: Path) -> None:
    handler = script(public / "script", "id -u > id; printf '%s\\n' \"$HOME\" >> id")
    above = public / "of" / "several"
    crash, pidfile, capture = above / "crash", public / "pid", public / "capture"
    options = ("--user", "nobody:12345", "--mkdir", "-p", "lab/new", "-P", pidfile)
    user = subprocess.check_output(["id", "-u", "nobody"], text=True).strip()
    home = subprocess.check_output(["sh", "-c", "echo ~nobody"], text=True).strip()
    with Serving(crash, *options, "--capture", capture, "-i", handler, address=ADDRESS) as serving:
        assert pidfile.read_text() == f"{serving.process.pid}\n"
        fields = status_of(serving.process.pid)
        assert fields["Uid"].split() == [user] * 4
        assert fields["Gid"].split() == ["12345"] * 4
        assert fields["Groups"].split() == ["12345"]
        assert int(fields["CapEff"], 16) == 0
        with Client(serving) as client:
            client.dump(b"x")
        assert serving.wait_for("handler")["problem"] is None
        serving.stop()
    made = [above.parent, above, crash, crash / "lab", crash / "lab" / "new", capture]
    made += [path for path in crash.rglob("*") if not path.is_symlink()]
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in made}
    assert owners == {(int(user), 12345)}
    assert (crash / "lab" / "new" / f"vmcore.{HOST}.0").read_bytes() == b"x"
    assert (crash / "id").read_text().splitlines() == [user, home]
    assert not pidfile.exists()
    assert capture.stat().st_size > 100


@pytest.mark.root
def test_what_a_killed_server_left_is_mended_as_the_user(public: Path) -> None:
    """Else files of root were in the way of the next dump, and of --keep."""
    crash = public / "crash"
    options = ("--user", "54321:12345", "--mkdir")
    with Serving(crash, *options, address=ADDRESS) as serving, Client(serving) as client:
        client.send(HERALD)
        client.send(VMCORE, 0, b"x" * 1000)
        serving.process.kill()
        serving.process.wait()
    with Serving(crash, *options, address=ADDRESS) as serving:
        serving.stop()
    (info,) = crash.glob("info.*")
    assert "being received" not in info.read_text()
    assert {path.stat().st_uid for path in crash.iterdir()} == {54321}


@pytest.mark.root
def test_a_directory_that_the_user_may_not_write_to_is_told_at_once(public: Path) -> None:
    line = refusal("-d", public, "--user", "54321:12345")
    assert line.startswith(f"netdump: {public}: user 54321 may not write there")


@pytest.mark.root
@pytest.mark.skipif(sys.platform != "linux", reason="capabilities")
def test_root_keeps_what_it_needs_for_files_alone_and_scripts_keep_all(
    crash: Path, tmp_path: Path
) -> None:
    os.chown(crash, 54321, 12345)
    crash.chmod(0o700)  # which is why CAP_DAC_OVERRIDE is needed
    handler = script(tmp_path / "script", "grep Cap /proc/self/status > ../script.caps")
    before = status_of(os.getpid())
    with Serving(crash, "-i", handler, address=ADDRESS) as serving:
        confinement = serving.told[0]
        assert confinement["capabilities"] == ["dac_override", "fowner"]
        assert "capabilities: dac_override, fowner" in confinement["text"]
        left = 1 << 1 | 1 << 3
        for thread in Path(f"/proc/{serving.process.pid}/task").iterdir():
            fields = status_of(int(thread.name))
            assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == left
            assert int(fields["CapBnd"], 16) == left
            assert int(fields["CapInh"], 16) == int(fields["CapAmb"], 16) == 0
        with Client(serving) as client:
            client.dump(b"x")
        assert serving.wait_for("handler")["problem"] is None
        serving.stop()
    assert (crash / f"vmcore.{HOST}.0").read_bytes() == b"x"
    assert before["CapEff"] in (tmp_path / "script.caps").read_text()
    with Serving(crash, "--no-sandbox", address=ADDRESS) as serving:
        assert serving.told[0]["capabilities"] is None
        assert status_of(serving.process.pid)["CapEff"] == before["CapEff"]
        serving.stop()


@pytest.mark.skipif(not LANDLOCK, reason="this kernel has no Landlock")
def test_it_says_what_is_confined(crash: Path) -> None:
    with Serving(crash, address=ADDRESS) as serving:
        text = serving.told[0]["text"]
        assert text.startswith(f"confined to {crash} (Landlock {LANDLOCK}): files, programs")
        assert (", TCP" in text) == (LANDLOCK >= 4)
        serving.stop()


# Environment


def test_a_script_gets_none_of_the_servers_secrets(crash: Path, tmp_path: Path) -> None:
    handler = script(tmp_path / "script", "env > ../environment")
    environment = {
        **dict.fromkeys(("NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "SECRET", "LCD"), "/nowhere"),
        "LC_TIME": "C",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
    }
    options = ("-i", handler)
    with Serving(crash, *options, address=ADDRESS, environment=environment) as serving:
        with Client(serving) as client:
            client.dump(b"x")
        assert serving.wait_for("handler")["problem"] is None
        serving.stop()
    lines = (tmp_path / "environment").read_text().splitlines()
    seen = dict(line.split("=", 1) for line in lines)
    assert (seen["LC_TIME"], seen["LANG"], seen["TZ"]) == ("C", "C.UTF-8", "UTC")
    assert seen["PATH"] == os.environ["PATH"]
    of_the_shell = {"PWD", "OLDPWD", "SHLVL", "_"}
    known = {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR"),
        *of_the_shell,
    }
    assert {name for name in seen if not name.startswith("LC_")} <= known


# Standard descriptors


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
def test_closed_standard_descriptors_do_not_become_files_of_dumps(
    crash: Path, tmp_path: Path, closed: str
) -> None:
    handler = script(
        tmp_path / "script", "echo of the script; echo of the script >&2; touch ../ran"
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((ADDRESS, 0))
        there: Any = SimpleNamespace(address=ADDRESS, port=probe.getsockname()[1])
    words = [*SERVE, "-d", crash, "-a", ADDRESS, "--port", there.port, "--ack-port", "source"]
    command = f'exec "$@" {closed}'
    process = subprocess.Popen(
        ["sh", "-c", command, "sh", *map(str, words), "-i", str(handler)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with Client(there) as client:
            client.dump(b"x" * 1000)
        appears(tmp_path / "ran")
        for number in range(3):
            assert os.readlink(f"/proc/{process.pid}/fd/{number}") == "/dev/null"
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
    assert (crash / f"vmcore.{HOST}.0").read_bytes() == b"x" * 1000
    (info,) = (path for path in crash.glob("info.*") if not path.is_symlink())
    assert info.read_text().startswith("Dump from ")
    assert b"listening" not in b"".join(p.read_bytes() for p in crash.iterdir() if p.is_file())


def test_other_commands_have_standard_descriptors_too(tmp_path: Path) -> None:
    capture = str(PCAPS / "kernel-lossy-client-side.pcap.gz")
    command = [sys.executable, "-m", "scapy_netdump", "recover", capture, "-o"]
    for out, closed in (("open", ""), ("closed", "<&- >&- 2>&-")):
        words = ["sh", "-c", f'exec "$@" {closed}', "sh", *command, str(tmp_path / out)]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    names = sorted(path.name for path in (tmp_path / "open").iterdir())
    assert names
    for name in names:
        assert (tmp_path / "closed" / name).read_bytes() == (tmp_path / "open" / name).read_bytes()


# The system's log

#: Runs a command where /dev is a directory of our own, with a log in it that a test can read.
OWN_DEV = """
set -e
mkdir dev
for name in null urandom random; do
    touch dev/$name
    mount --bind /dev/$name dev/$name
done
"$1" -c '
import os, socket, sys, time
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind("dev/log")
os.write(1, b"ready\\n")
while True:
    os.write(1, log.recv(9000) + b"\\n")
' &
log=$!
while [ ! -S dev/log ]; do sleep 0.05; done
mount --rbind dev /dev
shift
"$@" &
serve=$!
read line
kill $serve
wait $serve
kill $log
"""


@pytest.mark.root
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare(1)")
@pytest.mark.parametrize("also", [(), ("-D",)])
def test_it_logs_to_the_systems_log(tmp_path: Path, crash: Path, also: tuple[str, ...]) -> None:
    words = [*SERVE, "-d", str(crash), "-a", ADDRESS, "--port", "0", "--syslog", *also]
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", OWN_DEV, "sh", sys.executable, *words],
        cwd=tmp_path, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdin is not None
    lines: list[str] = []
    if process.stdout.readline() != "ready\n":
        process.stdin.close()
        pytest.skip(f"no mounts here: {process.stderr.read()}")
    stream = process.stderr if also else process.stdout
    while not any("listening on" in line for line in lines):
        lines.append(stream.readline())
        assert lines[-1]
    process.stdin.write("end\n")
    process.stdin.close()
    rest, errors = process.stdout.read(), process.stderr.read()
    process.wait(PATIENCE)
    if also:  # as netdumpd has it: the terminal instead
        assert (rest, "stopped" in errors) == ("", True)
        return
    assert errors == ""
    lines += rest.splitlines(keepends=True)
    (line,) = (line for line in lines if "listening on" in line)
    assert line.startswith("<30>")  # facility daemon, priority info: 3 * 8 + 6
    stamp, _, text = line[4:].partition(" netdump[")
    assert time.strptime(stamp, "%b %d %H:%M:%S")
    assert text.partition("]: ")[2].startswith(f"listening on {ADDRESS} port ")
    assert lines[-1].endswith(": stopped\n")


@pytest.mark.skipif(os.path.exists("/dev/log"), reason="this system has a log")
def test_without_a_system_log_it_says_so(crash: Path) -> None:
    line = refusal("-d", crash, "--syslog")
    assert line.startswith("netdump: no system log to write to: /dev/log: No such file")


def test_two_ways_to_log_are_wrong_usage(crash: Path) -> None:
    done = subprocess.run([*SERVE, "-d", crash, "--syslog", "--json"], capture_output=True)
    assert done.returncode == 2
