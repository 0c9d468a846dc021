# SPDX-License-Identifier: GPL-2.0-or-later
"""``netdump serve``: the dump server as a program.

The order of things is what makes it safe: all that needs a privilege is opened, then the
privilege is given up; then the process that runs scripts is forked; then this one is
confined; and only then do threads start, as what came before binds those that come after.
"""

from __future__ import annotations

import argparse
import codecs
import os
import signal
from contextlib import ExitStack
from pathlib import Path

from ..capture.write import CaptureTap, PcapngWriter
from ..core.receiving.events import Ended, Event, Started
from ..core.receiving.limits import Limits, networks
from ..errors import StoreError, UsageError
from ..server.loop import ServeOptions, ServerLoop
from ..server.names import Names
from ..server.service.handler import Handler, Outcome
from ..server.service.landlock import LandlockError, confine
from ..server.service.notify import Notifier
from ..server.service.pidfile import PidFile
from ..server.service.privileges import User, become, find_user
from ..store.hosts import host_name
from ..store.live_dumps import LiveDumps
from ..text import counted
from .common import GOOD, stopped_by_signals
from .serve_log import ServeLog
from .serve_options import add

__all__ = ["add", "handler_arguments", "run"]

_TICK = 1.0  # seconds between two reports of how far a dump is

#: What is loaded when it is first used, which may be when this process can no longer read it:
#: text.printable needs the one, socket.gethostbyaddr the other.
_CODECS = ("unicode_escape", "idna")

#: What Python and the C library may want to read later, if it is there: modules and libraries
#: that are loaded when they are first used.
_LIBRARIES = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"),
    *(os.path.dirname(os.__file__), str(Path(__file__).parents[1])),
)
#: What the system's resolver reads.
_RESOLVER = (
    *("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf"),
    *("/run/systemd/resolve", "/run/resolvconf", "/run/nscd", "/var/run/nscd"),
)


def run(options: argparse.Namespace) -> int:
    """Serve until a signal, and return the exit status."""
    log = ServeLog(options.json)
    try:
        with ExitStack() as cleanup:
            _Service(options, log, cleanup).run()
    finally:
        log.close()
    return GOOD


class _Service:
    """A server and what belongs to it as a program."""

    def __init__(self, options: argparse.Namespace, log: ServeLog, cleanup: ExitStack) -> None:
        """Open everything. NetdumpError if something cannot be had."""
        self._log = log
        self._running = 0
        self._ended = 0
        self._directory = Path(os.path.abspath(options.directory))
        user = find_user(options.user) if options.user is not None else None
        self._notifier = Notifier(os.environ if options.notify else {})
        cleanup.callback(self._notifier.close)
        names = Names(host_name) if options.names else None
        dumps = self._open_directory(options, names, user)
        cleanup.callback(dumps.close)
        self._capture = _capture(options)
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
        self._server.start()
        if options.pidfile is not None:
            cleanup.callback(PidFile(Path(options.pidfile)).remove)
        for codec in _CODECS:
            codecs.lookup(codec)
        if user is not None:
            become(user)
        self._check_directory()
        self._handler = _handler(options, self._directory)
        self._confine(options)

    def run(self) -> None:
        """Serve until a signal. A second one does not wait for scripts."""
        self._log.start()
        if self._handler is not None:
            self._handler.start(self._script_ended)
        with stopped_by_signals(self._server.stop, _stopping_signals()):
            self._notifier.ready("waiting for dumps")
            self._server.run()
            self._notifier.stopping("waiting for scripts")
            if self._handler is not None:
                self._handler.close()

    def _open_directory(
        self, options: argparse.Namespace, names: Names | None, user: User | None
    ) -> LiveDumps:
        """The dump directory. What had to be made for it belongs to whom it is for."""
        places = [self._directory, self._directory / options.path]
        made = [place for place in places if not place.exists()]
        dumps = LiveDumps(
            self._directory,
            options.path,
            mkdir=options.mkdir,
            host_of=names.name_of if names is not None else None,
            keep=options.keep,
            min_free=options.min_free,
            tell=self._log.note,
        )
        if user is not None:
            for place in made:
                os.chown(place, user.uid, user.gid, follow_symlinks=False)
        return dumps

    def _serve_options(self, options: argparse.Namespace, names: Names | None) -> ServeOptions:
        return ServeOptions(
            ack_port=options.ack_port,
            limits=_limits(options),
            progress=min(_TICK, self._notifier.watchdog or _TICK),
            resolve=names.resolve if names is not None else None,
        )

    def _check_directory(self) -> None:
        """Better now than when a kernel panics."""
        if not os.access(self._directory, os.W_OK | os.X_OK):
            raise StoreError(
                f"{self._directory}: user {os.getuid()} may not write there: chown it, or start "
                "the server as another user"
            )

    def _confine(self, options: argparse.Namespace) -> None:
        """Reach nothing but the dump directory from now on, and say whether that is so."""
        readable = _LIBRARIES + (_RESOLVER if options.names else ())
        text, version = "not confined to the dump directory: --no-sandbox", None
        if options.sandbox:
            try:
                version = confine([self._directory], readable, tcp=options.names)
                text = f"confined to {self._directory} (Landlock {version})"
                text += "; the script is not" if self._handler is not None else ""
            except LandlockError as error:
                text = f"not confined to the dump directory: {error}"
        self._log.note(text, "confinement", confined=version is not None, landlock=version)

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
        reason, client, *_ = outcome.arguments
        self._log.note(
            f"{client}: script for reason {reason}: "
            + (outcome.problem or f"done in {outcome.seconds:.1f} s"),
            "handler",
            arguments=outcome.arguments,
            seconds=outcome.seconds,
            problem=outcome.problem,
        )


def _stopping_signals() -> list[int]:
    """A terminal that goes away ends the server in good order, unless nohup(1) is used."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [signal.SIGINT, signal.SIGTERM, *([] if ignored else [signal.SIGHUP])]


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


def _capture(options: argparse.Namespace) -> PcapngWriter | None:
    if options.capture is None:
        return None
    return PcapngWriter(Path(options.capture), "scapy-netdump", "netdump serve")


def _handler(options: argparse.Namespace, directory: Path) -> Handler | None:
    if options.handler is None:
        return None
    return Handler(Path(options.handler), directory, options.handler_timeout)


def _limits(options: argparse.Namespace) -> Limits:
    """The limits that were asked for, and their usual values for the rest."""
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
