# SPDX-License-Identifier: GPL-2.0-or-later
"""For tests of receiving: files in memory, a client by hand, and a server in a thread."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scapy_netdump import wire
from scapy_netdump.core.account import Account
from scapy_netdump.core.extents import Range
from scapy_netdump.core.receiving.events import Event
from scapy_netdump.core.receiving.receiver import Receiver
from scapy_netdump.core.receiving.session import Session
from scapy_netdump.core.receiving.sinks import Sinks
from scapy_netdump.core.verdict import Verdict
from scapy_netdump.errors import StoreError
from scapy_netdump.formats import ACK_PORT, EKCD_KEY, FINISHED, HERALD, KDH, VMCORE
from scapy_netdump.server.loop import ServeOptions, ServerLoop
from scapy_netdump.store.live_dumps import LiveDumps
from scapy_netdump.wire import Buffer

#: Seconds that a test waits for what is to come. Nothing takes that long.
PATIENCE = 20.0

#: Seconds in which what is not to come would have come.
QUIET = 0.2


class MemoryFiles:
    """What a finished dump in memory has for files."""

    def as_dict(self) -> dict[str, str | None]:
        return {"info": "info", "kdh": None, "key": None, "vmcore": "vmcore", "map": None}


class MemorySink:
    """A Sink in memory. ``fail`` is asked before each write, and raises.

    ``others`` are second versions of bytes: type of message, offset, bytes. ``log`` has what was
    called, in order.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.note = ""
        self.files: dict[int, bytearray] = {
            VMCORE: bytearray(),
            KDH: bytearray(),
            EKCD_KEY: bytearray(),
        }
        self.written: dict[int, list[tuple[int, int]]] = {kind: [] for kind in self.files}
        self.others: list[tuple[int, int, bytes]] = []
        self.log: list[str] = []
        self.status = "begun"
        self.here: tuple[list[Range], int] = [], 0
        self.finished = self.closed = False
        self.fail: Callable[[int, int], None] = lambda kind, offset: None

    def write(self, kind: int, pieces: Sequence[Buffer], offset: int) -> None:
        self.fail(kind, offset)
        data = b"".join(pieces)
        file = self.files[kind]
        file.extend(bytes(max(0, offset + len(data) - len(file))))
        file[offset : offset + len(data)] = data
        self.written[kind].append((offset, offset + len(data)))
        self.log.append("write")

    def read(self, kind: int, start: int, end: int) -> bytes:
        return bytes(self.files[kind][start:end])

    def keep_other(self, kind: int, offset: int, data: Buffer) -> None:
        self.fail(kind, offset)
        self.others.append((kind, offset, bytes(data)))
        self.log.append("other")

    def update(self, account: Account, verdict: Verdict) -> None:
        self.log.append("update")
        self.status = str(verdict)

    def note_here(self, missing: Sequence[Range], end: int) -> None:
        self.here = [*missing], end

    def note_finished(self, missing: Sequence[Range], end: int) -> None:
        self.here = [*missing], end
        self.finished = True

    def sync(self) -> None:
        self.log.append("sync")

    def finish(self, account: Account, verdict: Verdict) -> MemoryFiles:
        self.log.append("finish")
        self.status = str(verdict)
        return MemoryFiles()

    def close(self) -> None:
        self.closed = True

    def discard(self) -> None:
        self.log.append("discard")


class MemorySinks:
    """Dumps in memory, in the order they began. ``full`` refuses more; ``fail`` is that of dumps
    that begin."""

    def __init__(self) -> None:
        self.fail: Callable[[int, int], None] = lambda kind, offset: None
        self.dumps: list[MemorySink] = []
        self.asked: list[tuple[str, bytes]] = []
        self.full = False

    def vmcores(self) -> list[bytes]:
        """What came of each dump that began."""
        begun = [dump for dump in self.dumps if "discard" not in dump.log]
        return [bytes(dump.files[VMCORE]) for dump in begun]

    def begin(self, client: str, path: bytes) -> MemorySink:
        if self.full:
            raise StoreError("no room")
        self.asked.append((client, path))
        self.dumps.append(MemorySink(f"info.{client}.{len(self.dumps)}"))
        self.dumps[-1].fail = self.fail
        return self.dumps[-1]


def message(kind: int, seqno: int, offset: int = 0, payload: bytes = b"") -> bytes:
    """A message as it travels."""
    return wire.header(kind, seqno, offset, len(payload)) + payload


class DataPort:
    """Where a HERALD led a client: what it sends there, a receiver takes. What else is asked of
    it, is asked of the last session that took anything."""

    def __init__(self, receiver: Receiver, client: tuple[str, int], local: str, slot: int) -> None:
        self.slot = slot
        self.session: Session | None = None
        self._receiver = receiver
        self._client = client
        self._local = local

    def receive(self, data: Buffer, now: float, sizes: Sequence[int] | None = None) -> bytes:
        """The acks."""
        session = self._receiver.session(
            self._client, self._local, self.slot, bytes(data)[: sizes[0]] if sizes else data, now
        )
        if session is None:
            return b""
        self.session = session
        return self._receiver.receive(session, data, now, sizes)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)


class DataPorts:
    """The data ports of a receiver, as far as HERALDs led there."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._ports: dict[tuple[str, int], DataPort] = {}

    def herald(
        self, client: tuple[str, int], local: str, datagram: bytes, now: float
    ) -> tuple[DataPort, bytes] | None:
        """Have the receiver take a HERALD: where it leads, and the ack."""
        answer = self._receiver.herald(client, local, datagram, now)
        if answer is None:
            return None
        slot, ack = answer
        new = DataPort(self._receiver, client, local, slot)
        return self._ports.setdefault((client[0], slot), new), ack


class Client:
    """A client by hand, on a real socket. Its HERALD finds out the server's data port."""

    def __init__(self, address: str, port: int = ACK_PORT) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind((address, port))
        self.seqno = 0
        self.server: Any = None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def hear(self, patience: float = PATIENCE) -> bytes | None:
        """The next answer; None if there is none. ``heard_from`` sent it."""
        self.socket.settimeout(patience)
        try:
            data, self.heard_from = self.socket.recvfrom(1 << 16)
        except TimeoutError:
            return None
        return data

    def herald(
        self, server: tuple[str, int], path: bytes = b"", patience: float = PATIENCE
    ) -> bool:
        """Say HERALD until it is answered; False if it is not."""
        self.seqno += 1
        end = time.monotonic() + patience
        while time.monotonic() < end:
            self.socket.sendto(message(HERALD, self.seqno, 0, path), server)
            if self.hear(min(1.0, patience)) == wire.ack(self.seqno):
                self.server = self.heard_from
                return True
        return False

    def tell(self, datagram: bytes, patience: float = PATIENCE) -> bytes | None:
        """Send any datagram to the data port; the answer, or None."""
        self.socket.sendto(datagram, self.server)
        return self.hear(patience)

    def say(
        self, kind: int, offset: int = 0, payload: bytes = b"", patience: float = PATIENCE
    ) -> bool:
        """Send a message to the data port; whether it was acked."""
        self.seqno += 1
        return self.tell(message(kind, self.seqno, offset, payload), patience) == wire.ack(
            self.seqno
        )

    def dump(self, data: bytes, kdh: bytes = b"", size: int = 1448) -> None:
        """Send a vmcore, a header if there is one, and FINISHED."""
        for offset in range(0, len(data), size):
            assert self.say(VMCORE, offset, data[offset : offset + size])
        assert not kdh or self.say(KDH, 0, kdh)
        assert self.say(FINISHED)


class Watched:
    """A server that runs in a thread, and what it told. ``address`` is its first one."""

    def __init__(
        self, server: ServerLoop, events: list[Event], changed: threading.Condition
    ) -> None:
        self.server = server
        self.events = events
        self._changed = changed

    @property
    def address(self) -> tuple[str, int]:
        return self.server.addresses[0]

    def told(self, kind: type[Event], count: int = 1) -> list[Any]:
        """The events of a kind, once there are so many."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._of(kind)) >= count, PATIENCE)
            found = self._of(kind)
        assert len(found) >= count, f"{len(found)} of {count} {kind.__name__} in {self.events}"
        return found

    def _of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


@contextmanager
def serving(where: Path | Sinks, address: str | Sequence[str], **options: Any) -> Iterator[Watched]:
    """A server that runs as long as the ``with``, on a free port of its own."""
    sinks = LiveDumps(where) if isinstance(where, Path) else where
    addresses = (address,) if isinstance(address, str) else tuple(address)
    events: list[Event] = []
    changed = threading.Condition()

    def tell(event: Event) -> None:
        with changed:
            events.append(event)
            changed.notify_all()

    tap = options.pop("tap", None)
    server = ServerLoop(sinks, addresses, 0, ServeOptions(**options), on_event=tell, tap=tap)
    server.start()
    watched = Watched(server, events, changed)
    failures: list[BaseException] = []

    def run() -> None:
        try:
            server.run()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield watched
    finally:
        server.stop()
        thread.join(PATIENCE)
        if isinstance(sinks, LiveDumps):
            sinks.close()
    assert not thread.is_alive()
    assert not failures, failures
