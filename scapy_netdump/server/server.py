# SPDX-License-Identifier: GPL-2.0-or-later
"""A dump server inside a program, in a thread of its own.

with Server("/var/crash", address="192.0.2.1") as server:
    ended = server.wait(timeout=3600)
    print(ended.client, ended.status, ended.files["vmcore"])
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from ..core.receiving.events import Ended, Event
from ..errors import NetdumpError, UsageError, WaitTimeoutError
from ..formats import HERALD_PORT
from ..net.ends import End
from ..store.hosts import address_bytes, address_text
from ..store.live_dumps import LiveDumps
from .loop import ServeOptions, ServerLoop

#: Where an address stands for all of a host, the one that reaches it from the host itself.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}

#: Dumps that have ended are kept for `Server.wait`; of more than these, if nobody waits, the
#: oldest are forgotten (their files stay).
_MOST_ENDED = 1024


class Server:
    """Receives dumps into a directory from the moment its ``with`` is entered until it is left.

    Entering raises a NetdumpError if it cannot listen or cannot use the directory. Leaving ends
    all dumps, waits until their files have their names, and raises what has ended the thread
    early, such as an exception of ``on_event``; where an exception leaves the ``with`` already,
    that one comes out, with the thread's as its context. A Server serves once.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        *,
        address: str | Sequence[str] | None = None,
        port: int = HERALD_PORT,
        options: ServeOptions | None = None,
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        """``address``: one of this host's, or several; None for all of them, IPv4 and IPv6.
        ``port``: where HERALDs come to; 0 for any free one. ``on_event`` is called in the
        server's thread with all that happens, and must not wait."""
        self._directory = Path(directory)
        self._listen_on = (address,) if isinstance(address, str) else tuple(address or ())
        self._port = port
        self._options = options
        self._on_event = on_event
        self._loop: ServerLoop | None = None
        self._thread = threading.Thread(target=self._run, name="netdump-server")
        self._cleanup = ExitStack()
        self._changed = threading.Condition()
        self._ended: deque[Ended] = deque(maxlen=_MOST_ENDED)
        self._over = False
        self._telling = 0  # the thread that is in on_event
        self._failure: BaseException | None = None

    def __enter__(self) -> Server:
        if self._loop is not None:
            raise NetdumpError("a Server serves once; make another one")
        with ExitStack() as opened:
            dumps = opened.enter_context(closing(LiveDumps(self._directory)))
            loop = ServerLoop(
                dumps, self._listen_on, self._port, self._options, on_event=self._tell
            )
            self._loop = opened.enter_context(loop)
            self._cleanup = opened.pop_all()
        self._thread.start()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        self.stop()
        self._thread.join()
        if self._failure is None or self._failure is error:
            return
        if error is None:
            raise self._failure
        _add_context(error, self._failure)

    @property
    def address(self) -> tuple[str, int]:
        """Where programs of this host reach it, address and port: the first of ``addresses``,
        or the loopback address if that one stands for all of the host's."""
        address, port = self.addresses[0]
        return _LOOPBACK.get(address, address), port

    @property
    def addresses(self) -> list[End]:
        """All addresses that it listens on, each with the port, which is the same."""
        return self._started().addresses

    def stop(self) -> None:
        """Begin to end, and return at once: dumps that run end as interrupted. Any thread, a
        signal handler and ``on_event`` may call this, more than once."""
        self._started().stop()

    def wait(self, client: str | None = None, timeout: float | None = None) -> Ended:
        """Wait for a dump to end, and say how it did; its files are in place by then.

        Each dump is returned once, those that ended before the call included: the oldest first,
        or the oldest that came from the address ``client``. WaitTimeoutError after ``timeout``
        seconds, None for any time; NetdumpError if the server has stopped and no such dump is
        left. What has ended the server's thread early is raised here too.
        """
        self._started()
        if threading.get_ident() == self._telling:
            raise UsageError("on_event cannot wait for a dump: the server would wait for itself")
        address = None if client is None else _usual_form(client)
        with self._changed:
            limit = None if timeout is None else min(timeout, threading.TIMEOUT_MAX / 2)
            self._changed.wait_for(lambda: self._over or self._oldest(address), limit)
            ended = self._oldest(address)
            if ended is not None:
                self._ended.remove(ended)
                return ended
            if self._failure is not None:
                raise self._failure
        what = "no dump" if client is None else f"no dump from {client}"
        if self._over:
            raise NetdumpError(f"the server has stopped, and there is {what} left to wait for")
        raise WaitTimeoutError(f"{what} has ended within {timeout} seconds")

    def _started(self) -> ServerLoop:
        if self._loop is None:
            raise NetdumpError("the server is not started: use it in `with`")
        return self._loop

    def _oldest(self, client: str | None) -> Ended | None:
        """The oldest dump that nobody was told of, from this client if there is one given."""
        return next((ended for ended in self._ended if client in (None, ended.client)), None)

    def _run(self) -> None:
        try:
            with self._cleanup:
                self._started().run()
        except BaseException as error:
            self._failure = error
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()

    def _tell(self, event: Event) -> None:
        if isinstance(event, Ended):
            with self._changed:
                self._ended.append(event)
                self._changed.notify_all()
        if self._on_event is not None:
            self._telling = threading.get_ident()
            try:
                self._on_event(event)
            finally:
                self._telling = 0

    def _wait_until_over(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._over)


def serve(
    directory: str | os.PathLike[str],
    *,
    address: str | Sequence[str] | None = None,
    port: int = HERALD_PORT,
    options: ServeOptions | None = None,
    on_event: Callable[[Event], object] | None = None,
) -> None:
    """Receive dumps into a directory until Ctrl-C: a `Server`, with its parameters.

    NetdumpError if it cannot listen or cannot use the directory.
    """
    server = Server(directory, address=address, port=port, options=options, on_event=on_event)
    with server, suppress(KeyboardInterrupt):
        server._wait_until_over()


def _usual_form(address: str) -> str:
    """An address as events have it; UsageError if it is none."""
    plain, percent, zone = address.partition("%")
    try:
        return f"{address_text(address_bytes(plain))}{percent}{zone}"
    except ValueError as error:
        raise UsageError(str(error)) from None


def _add_context(error: BaseException, other: BaseException) -> None:
    """Have another exception told of behind all that one comes with."""
    while error.__context__ is not None:
        error = error.__context__
        if error is other:
            return
    error.__context__ = other
