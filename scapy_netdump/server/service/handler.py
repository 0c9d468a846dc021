# SPDX-License-Identifier: GPL-2.0-or-later
"""A script that is run when a dump is over, by a process of its own.

That process is forked before the server confines itself and starts threads: scripts run with
the rights that the server had then, and nothing they do delays a client. It outlives a server
that ends, or is killed: what was handed over is run, and no script runs longer than it may.
Neither end of the conversation is ever interpreted by a shell.
"""

from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ...errors import NetdumpError

#: Scripts that run at a time; more wait for their turn.
_AT_ONCE = 4

#: Seconds from the friendly signal to the one that cannot be ignored.
_GRACE = 5.0

#: What a script gets of the server's environment. The rest is the business of whoever started the
#: server, and may be secret.
_PASSED_ON = {"LANG", "LANGUAGE", "TZ", "TMPDIR", "PATH", "HOME", "USER", "LOGNAME"}
_PASSED_ON_PREFIX = "LC_"

#: If there is no other: that of a service of systemd (systemd.exec(5)).
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


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

    def __init__(
        self,
        script: Path,
        directory: Path,
        timeout: float,
        report_alone: Callable[[Outcome], None] = lambda outcome: None,
    ) -> None:
        """``timeout``: seconds after which a script is killed. ``report_alone`` is called, in the
        other process, for what ends when this one is gone. HandlerError if it cannot run."""
        if not script.is_file() or not os.access(script, os.X_OK):
            raise HandlerError(f"{script}: is no program that can be run (chmod +x?)")
        self._report: Callable[[Outcome], None] | None = None
        self._one_at_a_time = threading.Lock()
        self._socket, theirs = socket.socketpair()
        self._child = os.fork()
        if self._child == 0:
            _Supervisor(script.absolute(), directory.absolute(), timeout, report_alone).run(theirs)
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
        """Hand over no more; does not wait for scripts, which run on. Harmless when repeated."""
        with suppress(OSError), self._one_at_a_time:
            self._socket.shutdown(socket.SHUT_RDWR)  # which also ends the thread
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        with self._socket.makefile("r", encoding="utf-8") as answers:
            for line in answers:
                arguments, seconds, problem = json.loads(line)
                self._end(Outcome(tuple(arguments), seconds, problem))

    def _end(self, outcome: Outcome) -> None:
        if self._report is not None:
            self._report(outcome)


class _Supervisor:
    """The other process: runs scripts until the server hangs up, and those that it has by then."""

    def __init__(
        self, script: Path, directory: Path, timeout: float, report_alone: Callable[[Outcome], None]
    ) -> None:
        self._script = script
        self._directory = directory
        self._timeout = timeout
        self._report_alone = report_alone
        self._environment = script_environment(os.environ)
        self._one_at_a_time = threading.Lock()

    def run(self, talk: socket.socket) -> NoReturn:
        """Signals from a terminal, or from whoever stops the server, are left to the server: it
        may have a last dump to hand over. A handler that does nothing, unlike SIG_IGN, is not
        passed on to the scripts. A session of its own has no terminal that could go away."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, lambda *_: None)
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 0)
            os.dup2(null, 1)  # whoever reads the server's output is not kept waiting
            descriptor = talk.detach()
            os.closerange(3, descriptor)
            os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX"))
            os.set_inheritable(descriptor, False)
            self._work(socket.socket(fileno=descriptor))
            status = 0
        finally:
            os._exit(status)

    def _work(self, talk: socket.socket) -> None:
        with ThreadPoolExecutor(_AT_ONCE) as pool, talk.makefile("r", encoding="utf-8") as requests:
            for line in requests:
                pool.submit(self._do, talk, tuple(json.loads(line)))

    def _do(self, talk: socket.socket, arguments: tuple[str, ...]) -> None:
        began = time.monotonic()
        problem = self._run_script([str(self._script), *arguments])
        outcome = Outcome(arguments, round(time.monotonic() - began, 3), problem)
        answer = json.dumps([outcome.arguments, outcome.seconds, outcome.problem])
        with self._one_at_a_time:
            try:
                talk.sendall(answer.encode() + b"\n")
            except OSError:  # the server is gone
                self._report_alone(outcome)

    def _run_script(self, command: list[str]) -> str | None:
        """Run a program; what is wrong with how it ended. It writes to standard error only, as
        standard output may be a log of JSON lines."""
        try:
            process: subprocess.Popen[bytes] = subprocess.Popen(
                command,
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=2,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            return f"cannot be run: {error}"
        try:
            return _explain(process.wait(self._timeout))
        except subprocess.TimeoutExpired:
            _kill(process)
            return f"killed after {self._timeout:g} seconds"


def script_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """What a script needs of an environment, and the home of the user that this process is."""
    kept = {
        name: value
        for name, value in environment.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIX)
    }
    with suppress(KeyError):  # a number that is in no list of users
        user = pwd.getpwuid(os.getuid())
        kept |= {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name}
    return {"PATH": _PATH, **kept}


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
