# SPDX-License-Identifier: GPL-2.0-or-later
"""The handler script's process: real scripts, run by a real fork."""

from __future__ import annotations

import os
import pwd
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scapy_netdump.server.service.handler import Handler, HandlerError, Outcome, script_environment

PATIENCE = 20.0
Make = Callable[..., tuple[Handler, "queue.SimpleQueue[Outcome]"]]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes a handler of the text of a shell script, and the queue of its outcomes."""
    handlers: list[Handler] = []
    crash = tmp_path / "crash"
    crash.mkdir()

    def new(text: str, timeout: float = PATIENCE) -> tuple[Handler, queue.SimpleQueue[Outcome]]:
        script = tmp_path / "script"
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
        handler = Handler(script, crash, timeout)
        handlers.append(handler)
        outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        handler.start(outcomes.put)
        return handler, outcomes

    yield new
    for handler in handlers:
        handler.close()  # twice does no harm


def test_the_script_runs_in_the_directory_with_its_arguments_as_they_are(
    make: Make, tmp_path: Path
) -> None:
    handler, outcomes = make('pwd > where\nprintf "%s\\n" "$#" "$@" > arguments')
    strange = ("success", "$(id)", "`id`", "a b  c", "", "'; id; '", "line\nbreak", "*")
    handler.run(*strange)
    outcome = outcomes.get(timeout=PATIENCE)
    assert outcome.problem is None
    assert outcome.arguments == strange
    crash = tmp_path / "crash"
    assert (crash / "where").read_text() == f"{crash}\n"
    assert (crash / "arguments").read_text() == "\n".join([str(len(strange)), *strange]) + "\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [("exit 3", "exit status 3"), ("kill -9 $$", "killed by signal 9"), ("exit 0", None)],
)
def test_how_it_ends_is_told(make: Make, text: str, problem: str | None) -> None:
    handler, outcomes = make(text)
    handler.run("success")
    assert outcomes.get(timeout=PATIENCE).problem == problem


def test_a_script_that_is_gone_is_told_too(make: Make, tmp_path: Path) -> None:
    handler, outcomes = make("exit 0")
    (tmp_path / "script").unlink()
    handler.run("success")
    problem = outcomes.get(timeout=PATIENCE).problem
    assert problem is not None
    assert problem.startswith("cannot be run")


def test_after_its_time_it_is_killed_with_all_that_it_started(make: Make, tmp_path: Path) -> None:
    handler, outcomes = make("sleep 60 & echo $! > ../child; wait", timeout=0.5)
    handler.run("success")
    assert outcomes.get(timeout=PATIENCE).problem == "killed after 0.5 seconds"
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + PATIENCE
    while Path(f"/proc/{child}/cmdline").exists() and time.monotonic() < deadline:
        if not Path(f"/proc/{child}/cmdline").read_bytes():
            break  # dead, and not yet taken leave of
        time.sleep(0.01)
    assert time.monotonic() < deadline


def test_running_does_not_wait_and_four_run_at_a_time(make: Make, tmp_path: Path) -> None:
    handler, outcomes = make("touch began.$1; while [ ! -e go ]; do sleep 0.02; done")
    began = time.monotonic()
    for number in range(6):
        handler.run(str(number))
    assert time.monotonic() - began < PATIENCE / 2
    crash = tmp_path / "crash"
    while len(list(crash.glob("began.*"))) < 4:
        time.sleep(0.01)
    time.sleep(0.2)
    assert len(list(crash.glob("began.*"))) == 4
    (crash / "go").touch()
    ended = {outcomes.get(timeout=PATIENCE).arguments for _ in range(6)}
    assert ended == {(str(number),) for number in range(6)}


def test_what_is_no_program_is_refused_at_once(tmp_path: Path) -> None:
    script = tmp_path / "script"
    with pytest.raises(HandlerError, match="no program"):
        Handler(script, tmp_path, 1.0)
    script.write_text("#!/bin/sh\n")
    with pytest.raises(HandlerError, match="chmod"):
        Handler(script, tmp_path, 1.0)


def test_closing_does_not_wait_for_scripts_and_they_all_run(make: Make, tmp_path: Path) -> None:
    handler, outcomes = make("while [ ! -e go ]; do sleep 0.02; done; touch done.$1")
    for number in range(6):
        handler.run(str(number))
    handler.close()
    assert outcomes.empty()
    crash = tmp_path / "crash"
    assert not list(crash.glob("done.*"))
    (crash / "go").touch()
    wait_for(lambda: len(list(crash.glob("done.*"))) == 6)


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_ends_when_the_other_process_is_alone_is_told_there(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\nread line < fifo; exit 5\n")
    script.chmod(0o755)
    os.mkfifo(tmp_path / "fifo")
    told = tmp_path / "told"
    report = lambda outcome: told.write_text(f"{outcome.arguments} {outcome.problem}")  # noqa: E731
    handler = Handler(script, tmp_path, PATIENCE, report)
    handler.start(lambda outcome: None)
    handler.run("success")
    handler.close()
    (tmp_path / "fifo").write_text("go\n")
    wait_for(lambda: told.exists() and told.read_text() == "('success',) exit status 5")


def test_the_environment_is_what_a_script_needs() -> None:
    given = {"LANG": "C", "LC_ALL": "C", "TZ": "UTC", "PATH": "/p", "SECRET": "s", "HOME": "/h"}
    kept = script_environment(given)
    user = pwd.getpwuid(os.getuid())
    home = {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name}
    assert kept == {"LANG": "C", "LC_ALL": "C", "TZ": "UTC", "PATH": "/p", **home}
    assert "/usr/bin" in script_environment({})["PATH"].split(":")


SERVER = """
import os, signal, sys, threading, time
from pathlib import Path
from scapy_netdump.server.service.handler import Handler
held = os.open(sys.argv[2], os.O_RDWR)
handler = Handler(Path(sys.argv[1]), Path("."), 30.0)
os.close(held)
ended = threading.Event()
handler.start(lambda outcome: (print(outcome.problem, flush=True), ended.set()))
print(handler._child, flush=True)
handler.run("success", "client", "host", "info", "vmcore")
sys.stdin.readline()
ended.wait(30)
handler.close()
"""


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts a program that has a handler, in a process group of its own."""
    started = []

    def start(text: str) -> subprocess.Popen[str]:
        script = tmp_path / "script"
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
        (tmp_path / "held").touch()
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, script, tmp_path / "held"],
            cwd=tmp_path, text=True, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_its_output_goes_to_standard_error_alone(
    program: Callable[[str], subprocess.Popen[str]],
) -> None:
    process = program("echo out; echo err >&2; cat")
    out, err = process.communicate("\n", PATIENCE)
    assert out.splitlines()[1:] == ["None"]
    assert sorted(err.split()) == ["err", "out"]


def test_signals_to_all_reach_neither_the_script_nor_its_process(
    program: Callable[[str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    """As ^C in a terminal does: the server decides what is to happen, it may be in the midst of
    its last dump."""
    process = program("touch began; while [ ! -e go ]; do sleep 0.02; done")
    assert process.stdout is not None
    child = int(process.stdout.readline())
    while not (tmp_path / "began").exists():
        time.sleep(0.01)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(child, number)
    (tmp_path / "go").touch()
    out, _ = process.communicate("\n", PATIENCE)
    assert out == "None\n"
    assert process.returncode == 0


def test_a_script_has_signals_as_usual_and_no_files_of_the_server(
    program: Callable[[str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = program(
        "grep SigIgn /proc/self/status > ../ignored.$$; ls -l /proc/$$/fd > files; "
        "ls -l /proc/$PPID/fd > files.parent; mv ../ignored.$$ ignored"
    )
    process.communicate("\n", PATIENCE)
    # Python ignores SIGPIPE and SIGXFSZ; subprocess sets them right
    assert int((tmp_path / "ignored").read_text().split()[1], 16) == 0
    assert "held" not in (tmp_path / "files").read_text()
    assert "held" not in (tmp_path / "files.parent").read_text()


def test_killing_the_server_lets_the_script_finish(
    program: Callable[[str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = program("touch began; while [ ! -e go ]; do sleep 0.02; done; touch end")
    while not (tmp_path / "began").exists():
        time.sleep(0.01)
    process.kill()
    process.wait(PATIENCE)
    (tmp_path / "go").touch()
    wait_for(lambda: (tmp_path / "end").exists())
