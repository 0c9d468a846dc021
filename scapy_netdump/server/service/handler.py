# SPDX-License-Identifier: GPL-2.0-or-later
"""A script that is run when a dump is over, by a process of its own.

That process is forked before the server confines itself and starts threads: scripts run with
the rights that the server had then, and nothing they do delays a client. Neither end of the
conversation is ever interpreted by a shell.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ...errors import NetdumpError

#: Scripts that run at a time; more wait for their turn.
_AT_ONCE = 4

#: Seconds from the friendly signal to the one that cannot be ignored.
_GRACE = 5.0


class HandlerError(NetdumpError):
    """The script cannot be a handler."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a script ended: ``problem`` is None if its exit status was 0."""

    arguments: tuple[str, ...]
    seconds: float
    problem: str | None


class Handler:
    """Runs ``script`` in ``directory``. To be made while there is but one thread."""

    def __init__(self, script: Path, directory: Path, timeout: float) -> None:
        """``timeout``: seconds after which a script is killed. HandlerError if it cannot run."""
        if not script.is_file() or not os.access(script, os.X_OK):
            raise HandlerError(f"{script}: is no program that can be run (chmod +x?)")
        self._report: Callable[[Outcome], None] | None = None
        self._one_at_a_time = threading.Lock()
        self._socket, theirs = socket.socketpair()
        self._child = os.fork()
        if self._child == 0:
            _serve(theirs, script.absolute(), directory.absolute(), timeout)
        theirs.close()
        self._thread = threading.Thread(target=self._listen, name="handler", daemon=True)

    def start(self, report: Callable[[Outcome], None]) -> None:
        """From now on call ``report``, from a thread, whenever a script has ended."""
        self._report = report
        self._thread.start()

    def run(self, *arguments: str) -> None:
        """Run the script with these arguments, soon. Does not wait for it."""
        try:
            with self._one_at_a_time:
                self._socket.sendall(json.dumps(arguments).encode() + b"\n")
        except OSError as error:
            self._end(Outcome(arguments, 0.0, f"cannot be run: {error.strerror}"))

    def close(self) -> None:
        """Wait until all scripts have ended, and report them; harmless when repeated."""
        if self._socket.fileno() < 0:
            return
        self._socket.shutdown(socket.SHUT_WR)
        if self._report is not None:
            self._thread.join()
        self._socket.close()
        os.waitpid(self._child, 0)

    def _listen(self) -> None:
        with self._socket.makefile("r", encoding="utf-8") as answers:
            for line in answers:
                arguments, seconds, problem = json.loads(line)
                self._end(Outcome(tuple(arguments), seconds, problem))

    def _end(self, outcome: Outcome) -> None:
        if self._report is not None:
            self._report(outcome)


def _serve(talk: socket.socket, script: Path, directory: Path, timeout: float) -> None:
    """The other process: runs scripts until the server hangs up. Does not return.

    Signals from a terminal, or from whoever stops the server, are left to the server: it may
    have a last dump to hand over. A handler that does nothing, unlike SIG_IGN, is not passed
    on to the scripts.
    """
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        descriptor = talk.detach()
        os.closerange(3, descriptor)
        os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))
        os.set_inheritable(descriptor, False)
        _work(socket.socket(fileno=descriptor), script, directory, timeout)
        status = 0
    finally:
        os._exit(status)


def _work(talk: socket.socket, script: Path, directory: Path, timeout: float) -> None:
    one_at_a_time = threading.Lock()

    def do(line: str) -> None:
        arguments: list[str] = json.loads(line)
        began = time.monotonic()
        problem = _run([str(script), *arguments], directory, timeout)
        answer = json.dumps([arguments, round(time.monotonic() - began, 3), problem])
        with one_at_a_time:
            _answer(talk, answer)

    with ThreadPoolExecutor(_AT_ONCE) as pool, talk.makefile("r", encoding="utf-8") as requests:
        for line in requests:
            pool.submit(do, line)


def _answer(talk: socket.socket, answer: str) -> None:
    with suppress(OSError):  # the server is gone; the scripts run on
        talk.sendall(answer.encode() + b"\n")


def _run(command: list[str], directory: Path, timeout: float) -> str | None:
    """Run a program; what is wrong with how it ended. It writes to standard error only, as
    standard output may be a log of JSON lines."""
    try:
        process: subprocess.Popen[bytes] = subprocess.Popen(
            command, cwd=directory, stdin=subprocess.DEVNULL, stdout=2, start_new_session=True
        )
    except (OSError, ValueError) as error:
        return f"cannot be run: {error}"
    try:
        return _explain(process.wait(timeout))
    except subprocess.TimeoutExpired:
        _kill(process)
        return f"killed after {timeout:g} seconds"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a script and whatever it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(_GRACE)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def _explain(status: int) -> str | None:
    if status < 0:
        return f"killed by signal {-status}"
    return f"exit status {status}" if status else None
