# SPDX-License-Identifier: GPL-2.0-or-later
"""``netdump serve``: the dump server as a program.

The order of things is what makes it safe: all that needs a privilege is opened, then the
privilege is given up; then the process that runs scripts is forked; then this one is
confined; and only then do threads start, as what came before binds those that come after.
Files and directories that are made before are the user's that this process becomes.

A signal ends it in good order: dumps that run are ended and filed, the port and the pid file are
given back, and the process is gone. Scripts run on without it (server/service/handler.py).
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

from ..capture.write import CaptureTap, PcapngWriter
from ..core.receiving.events import Ended, Event, Started
from ..core.receiving.limits import Limits, networks
from ..errors import NetdumpError, StoreError, UsageError
from ..server.loop import ServeOptions, ServerLoop
from ..server.names import Names
from ..server.service.handler import Handler, Outcome
from ..server.service.notify import Notifier
from ..server.service.pidfile import PidFile
from ..server.service.privileges import User, acting_as, become, find_user, make_directory
from ..store.hosts import host_name
from ..store.live_dumps import LiveDumps, Sync
from ..store.retention import LEAST_AGE
from ..text import counted
from .common import GOOD, stopped_by_signals
from .serve_confined import Confinement, confine_to, load_what_is_needed_later
from .serve_log import ServeLog, write_alone
from .serve_options import add

__all__ = ["add", "handler_arguments", "run"]

#: Descriptors that are asked for.
_MOST_FILES = 1 << 14

_TICK = 1.0  # seconds between two reports of how far a dump is


def run(options: argparse.Namespace) -> int:
    """Serve until a signal, and return the exit status."""
    log = ServeLog(options.json, _to_syslog(options))
    with _deaf_to_hangups():
        try:
            with ExitStack() as cleanup:
                _Service(options, log, cleanup).run()
        except NetdumpError as error:
            if _to_syslog(options):  # where people look for what became of a service
                log.note(str(error), "error")
            raise
        finally:
            log.close()
    return GOOD


def _to_syslog(options: argparse.Namespace) -> bool:
    """As netdumpd, whose -D is for the terminal."""
    return bool(options.syslog and not options.debug)


@contextmanager
def _deaf_to_hangups() -> Iterator[None]:
    """A terminal that goes away, or whoever thinks that SIGHUP reads settings anew, ends nothing.
    A function that does nothing, unlike SIG_IGN, is not passed on to scripts."""
    before = signal.signal(signal.SIGHUP, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


class _Service:
    """A server and what belongs to it as a program."""

    def __init__(self, options: argparse.Namespace, log: ServeLog, cleanup: ExitStack) -> None:
        """Open everything. NetdumpError if something cannot be had."""
        self._log = log
        self._running = 0
        self._ended = 0
        self._directory = Path(os.path.abspath(options.directory))
        load_what_is_needed_later()
        user = find_user(options.user) if options.user is not None else None
        self._notifier = Notifier(os.environ if options.notify else {})
        cleanup.callback(self._notifier.close)
        names = Names(host_name) if options.names else None
        _raise_file_limit()
        dumps = self._open_directory(options, names, user)
        cleanup.callback(dumps.close)
        self._capture = self._open_capture(options, user)
        if self._capture is not None:
            cleanup.callback(self._capture.close)
        self._server = ServerLoop(
            dumps,
            options.addresses,
            options.port,
            self._serve_options(options, names),
            on_event=self._event,
            on_tick=self._tick,
            tap=CaptureTap(self._capture) if self._capture is not None else None,
        )
        cleanup.callback(self._server.close)
        cleanup.enter_context(stopped_by_signals(self._server.stop))
        self._server.start()
        if options.pidfile is not None:
            cleanup.callback(PidFile(Path(options.pidfile)).remove)
        if user is not None:
            become(user)
        self._handler = _handler(options, self._directory)
        if self._handler is not None:
            cleanup.callback(self._handler.close)
        self._confine(options)

    def run(self) -> None:
        """Serve until a signal."""
        self._log.start()
        if self._handler is not None:
            self._handler.start(self._script_ended)
        self._notifier.ready("waiting for dumps")
        self._server.run()
        self._notifier.stopping("all dumps are filed")

    def _open_directory(
        self, options: argparse.Namespace, names: Names | None, user: User | None
    ) -> LiveDumps:
        """The dump directory: made, if need be, with root's rights, and used with the user's."""
        if user is not None and options.mkdir:
            make_directory(self._directory, user)
        with acting_as(user) if user is not None else nullcontext():
            dumps = LiveDumps(
                self._directory,
                options.path,
                mkdir=options.mkdir,
                host_of=names.name_of if names is not None else None,
                keep=options.keep,
                least_age=0.0 if options.keep_younger else LEAST_AGE,
                min_free=options.min_free,
                sync=Sync(options.sync),
                tell=self._log.note,
            )
            self._check_directory(options.min_free)
        return dumps

    def _open_capture(self, options: argparse.Namespace, user: User | None) -> PcapngWriter | None:
        if options.capture is None:
            return None
        asked = Path(options.capture)
        capture = PcapngWriter(asked, "scapy-netdump", "netdump serve")
        if user is not None:
            capture.give_to(user.uid, user.gid)
        if capture.path != asked:
            self._log.note(
                f"{asked} is there already: the capture goes to {capture.path}", "capture"
            )
        return capture

    def _serve_options(self, options: argparse.Namespace, names: Names | None) -> ServeOptions:
        return ServeOptions(
            ack_port=options.ack_port,
            coalescing=options.coalescing,
            limits=_limits(options),
            progress=min(_TICK, self._notifier.watchdog or _TICK),
            resolve=names.resolve if names is not None else None,
            note_heralds=options.note_heralds,
        )

    def _check_directory(self, min_free: int) -> None:
        """Better now than when a kernel panics."""
        if not os.access(self._directory, os.W_OK | os.X_OK, effective_ids=True):
            raise StoreError(
                f"{self._directory}: user {os.geteuid()} may not write there: chown it, or start "
                "the server as another user"
            )
        disk = os.statvfs(self._directory)
        if min_free >= disk.f_blocks * disk.f_frsize > 0:
            raise UsageError(
                f"--min-free {min_free}: the disk of {self._directory} has "
                f"{disk.f_blocks * disk.f_frsize} bytes in all, so that no dump would be taken"
            )

    def _confine(self, options: argparse.Namespace) -> None:
        """Reach nothing but the dump directory from now on, and say whether that is so."""
        if options.sandbox:
            confinement = confine_to(self._directory, names=options.names)
        else:
            confinement = Confinement("not confined to the dump directory: --no-sandbox")
        text = confinement.text
        if options.sandbox and self._handler is not None:
            text += "; the script is not confined"
        self._log.note(
            text,
            "confinement",
            confined=confinement.landlock is not None,
            landlock=confinement.landlock,
            capabilities=confinement.capabilities,
        )

    def _event(self, event: Event) -> None:
        self._flush_capture()
        self._log.event(event)
        if isinstance(event, Started):
            self._running += 1
        elif isinstance(event, Ended):
            self._running -= 1
        if isinstance(event, Ended):
            self._ended += 1
            if self._handler is not None:
                self._handler.run(*handler_arguments(event, self._directory))
        if isinstance(event, Started | Ended):
            running = counted(self._running, "dump")
            self._notifier.status(f"{running} running, {self._ended} received")

    def _tick(self) -> None:
        """Called about once a second."""
        if self._notifier.watchdog is not None:
            self._notifier.alive()
        self._flush_capture()

    def _flush_capture(self) -> None:
        capture = self._capture
        if capture is not None:
            capture.flush()
            if capture.problem is not None:
                self._log.note(capture.problem, "capture")
                self._capture = None

    def _script_ended(self, outcome: Outcome) -> None:
        self._log.note(
            _script_line(outcome),
            "handler",
            arguments=outcome.arguments,
            seconds=outcome.seconds,
            problem=outcome.problem,
        )


def _script_line(outcome: Outcome) -> str:
    reason, client, *_ = outcome.arguments
    how = outcome.problem or f"done in {outcome.seconds:.1f} s"
    return f"{client}: script for reason {reason}: {how}"


def handler_arguments(event: Ended, directory: Path) -> tuple[str, str, str, str, str]:
    """The arguments of netdumpd's handler script: why, address, HOST, info file, vmcore file.

    Files are named from the dump directory, where the script runs.
    """
    info, vmcore = (
        f"./{os.path.relpath(path, directory)}" if path else ""
        for path in (event.files.get("info"), event.files.get("vmcore"))
    )
    host = os.path.basename(info).removeprefix("info.").rpartition(".")[0]
    return event.reason, event.client, host or event.client, info, vmcore


def _handler(options: argparse.Namespace, directory: Path) -> Handler | None:
    if options.handler is None:
        return None

    def report_alone(outcome: Outcome) -> None:
        write_alone(_script_line(outcome), outcome.problem is not None, _to_syslog(options))

    return Handler(Path(options.handler), directory, options.handler_timeout, report_alone)


def _raise_file_limit() -> None:
    """Have as many descriptors as there may be: a dump needs some, up to its very end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _limits(options: argparse.Namespace) -> Limits:
    """The limits that were asked for, and their usual values for the rest."""
    if options.max_size == 0:
        raise UsageError("--max-size 0: no dump would be taken")
    try:
        allow = networks(options.allow)
    except ValueError as error:
        raise UsageError(f"--allow {error}") from None
    asked = {
        "dump_size": options.max_size,
        "clients": options.max_clients,
        "heralds": options.herald_rate,
        "expiry": options.timeout,
        "linger": options.linger,
    }
    return Limits(allow=allow, **{k: v for k, v in asked.items() if v is not None})
