# SPDX-License-Identifier: GPL-2.0-or-later
"""The log of a dump server: lines for people, lines for programs, and a terminal."""

from __future__ import annotations

import inspect
import io
import json
import os
import pty
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from scapy_netdump.cli.serve_log import ServeLog
from scapy_netdump.cli.serve_words import StatusLines, line_of, status_line
from scapy_netdump.core.receiving import events
from scapy_netdump.core.receiving.events import (
    Ended,
    Event,
    HeaderReceived,
    Heralded,
    Listening,
    OffLimits,
    Progress,
    Refused,
    Started,
    Stopped,
    WriteFailed,
)
from scapy_netdump.kerneldump.header import DumpHeader
from scapy_netdump.server.service import system_log

EVIL = "a\x1b[2J\nDump complete\u202e"


def ended(**changed: Any) -> Ended:
    values: dict[str, Any] = {
        "now": 9.0,
        "dump": 1,
        "client": "192.0.2.2",
        "client_port": 20024,
        "reason": "incomplete",
        "verdict": "incomplete",
        "status": "Dump incomplete: 10 of 100 bytes missing in 1 range",
        "complete": False,
        "files": {"info": "/c/info.192.0.2.2.0", "vmcore": "/c/vmcore.192.0.2.2.0", "map": None},
        "bytes_received": 90_000_000,
        "bytes_expected": 100_000_000,
        "missing": [(10, 20)],
        "messages": 9,
        "repeated": 1,
        "ignored": 0,
        "conflicting_bytes": 0,
        "seconds": 90.0,
    }
    return Ended(**{**values, **changed})


def header() -> DumpHeader:
    return DumpHeader.unpack(bytes(512))


SAMPLES: list[Event] = [
    Listening(1.0, "0.0.0.0", 20023, 4 << 20, True),
    Refused(1.0, "192.0.2.2", "not in a network that is allowed", 3),
    Started(1.0, 1, "192.0.2.2", 20024, "192.0.2.1", "/c/info.192.0.2.2.0", "lab", "no such path"),
    HeaderReceived(1.0, 1, "192.0.2.2", 20024, header(), "wrong parity"),
    HeaderReceived(1.0, 1, "192.0.2.2", 20024, None, "dump header of 7 bytes instead of 512"),
    Progress(1.0, 1, "192.0.2.2", 20024, 5 << 20, 10 << 20, 0, 2.0),
    OffLimits(1.0, 1, "192.0.2.2", 20024, 1 << 50, 1000, "the dump is too large"),
    WriteFailed(1.0, 1, "192.0.2.2", 20024, "vmcore", 4096, "No space left on device"),
    Heralded(1.0, "192.0.2.2", 20024, "192.0.2.1", "lab", 3),
    ended(),
    Stopped(1.0),
]


def test_the_samples_are_of_all_kinds() -> None:
    kinds = {
        kind
        for _, kind in inspect.getmembers(events, inspect.isclass)
        if issubclass(kind, Event) and "kind" in vars(kind)
    }
    assert {type(event) for event in SAMPLES} == kinds


@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: event.kind)
def test_each_event_but_progress_is_one_line(event: Event) -> None:
    line = line_of(event)
    if isinstance(event, Progress):
        assert line is None
        return
    assert line is not None
    assert line.isprintable()
    assert len(line) > 5
    if hasattr(event, "client"):
        assert line.startswith("192.0.2.2")


@pytest.mark.parametrize(
    "event",
    [
        Started(1.0, 1, "192.0.2.2", 20024, "192.0.2.1", "/c/info", EVIL, EVIL),
        Refused(1.0, "192.0.2.2", EVIL),
        WriteFailed(1.0, 1, "192.0.2.2", 20024, "vmcore", 4096, EVIL),
    ],
    ids=lambda event: event.kind,
)
def test_what_a_client_says_cannot_harm_a_terminal_or_forge_a_line(event: Event) -> None:
    line = line_of(event)
    assert line is not None
    assert line.isprintable()
    assert "\\x1b[2J\\nDump complete\\u202e" in line


def test_the_end_of_a_dump_says_what_there_is_and_what_is_missing() -> None:
    line = line_of(ended(conflicting_bytes=5))
    assert line == (
        "192.0.2.2 dump 1: incomplete: Dump incomplete: 10 of 100 bytes missing in 1 range; "
        "90000000 bytes in 1 min 30 s (1.0 MB/s); 1 message repeated; "
        "5 bytes came again with other values; /c/vmcore.192.0.2.2.0; /c/info.192.0.2.2.0"
    )


@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: event.kind)
def test_each_event_is_an_object_on_a_line_for_programs(
    event: Event, capsys: pytest.CaptureFixture[str]
) -> None:
    log = ServeLog(True)
    log.event(event)
    log.close()
    out, err = capsys.readouterr()
    assert err == ""
    (line,) = out.splitlines()
    values = json.loads(line)
    assert values["event"] == event.kind
    assert abs(values["time"] - time.time()) < 60


def test_lines_for_people_go_to_standard_error_with_the_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = ServeLog(False)
    log.note("confined\nto nothing")
    log.start()
    log.event(Stopped(1.0))
    log.close()
    out, err = capsys.readouterr()
    assert out == ""
    time_ = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.fullmatch(rf"{time_} confined\\nto nothing\n{time_} stopped\n", err)


def test_notes_have_their_values_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    log = ServeLog(True)
    log.note("script failed", "handler", problem="exit status 3", arguments=("a", "b"))
    log.close()
    values = json.loads(capsys.readouterr().out)
    del values["time"]
    assert values == {
        "event": "handler",
        "text": "script failed",
        "problem": "exit status 3",
        "arguments": ["a", "b"],
    }


ENDLESS = """
import sys, time
from scapy_netdump.cli.serve_log import ServeLog
log = ServeLog(True)
log.start()
began = time.monotonic()
for number in range(20_000):
    log.note("x" * 100)
print(time.monotonic() - began, file=sys.stderr, flush=True)
sys.stdin.readline()
log.close()
"""


@pytest.mark.parametrize("reader", ["slow", "gone"])
def test_who_reads_the_log_cannot_hold_up_the_server(reader: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS],
        text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    if reader == "gone":
        process.stdout.close()
        process.stdout = None
    assert float(process.stderr.readline()) < 20
    out, err = process.communicate("\n", 60)
    assert "Traceback" not in err
    if reader == "slow":
        lines = [json.loads(line) for line in out.splitlines()]
        assert len(lines) >= 10_000
        (lost,) = [line["lines"] for line in lines if line["event"] == "lost"]
        assert lost + len(lines) - 1 == 20_000


def progress(dump: int, received: int, now: float, expected: int | None = None) -> Progress:
    return Progress(now, dump, "192.0.2.2", 20024, received, expected, 4096 * (dump == 7), now)


def screen(written: str) -> list[str]:
    """What a terminal shows, as far as it knows the two sequences that are used."""
    lines = [""]
    row = 0
    for part in re.findall(r"\x1b\[\d*[AJ]|\n|[^\x1b\n]+", written):
        if part.endswith("A") and part[0] == "\x1b":
            row -= int(part[2:-1])
        elif part == "\x1b[J":
            lines[row:] = [""]
        elif part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        else:
            lines[row] += part
    return lines


def test_a_line_a_dump_follows_the_log_on_a_terminal() -> None:
    terminal = io.StringIO()
    status = StatusLines(terminal)
    for step, event in enumerate(
        [progress(1, 0, 1.0), progress(2, 9 << 20, 1.0), progress(1, 20_000_000, 2.0)]
    ):
        status.clear()
        status.take(event)
        terminal.write(f"log {step}\n")
        status.show()
    *log, one, two, rest = screen(terminal.getvalue())
    assert log == ["log 0", "log 1", "log 2"]
    assert one.startswith("192.0.2.2 dump 1: 19 MiB, ")
    assert two.startswith("192.0.2.2 dump 2: 9 MiB, ")
    assert rest == ""
    status.clear()
    status.take(ended())
    status.take(ended(dump=2))
    status.show()
    assert screen(terminal.getvalue()) == [*log, ""]


def test_a_dump_that_has_a_length_is_told_in_percent() -> None:
    line = status_line(progress(1, 25 << 20, 61.0, 100 << 20), 2.5e6)
    assert line == "192.0.2.2 dump 1: 25 MiB of 100, 25 %, 2.5 MB/s, 1 min 1 s"


def test_holes_are_told() -> None:
    line = status_line(progress(7, 1 << 20, 2.0), 0.0)
    assert line == "192.0.2.2 dump 7: 1 MiB, 0.0 MB/s, 2.0 s, 4096 bytes missing so far"


def test_more_dumps_than_fit_are_counted() -> None:
    terminal = io.StringIO()
    status = StatusLines(terminal)
    for number in range(30):
        status.take(progress(number, 0, 1.0))
    status.show()
    assert len(screen(terminal.getvalue())) == 11
    assert screen(terminal.getvalue())[-2] == "and 21 more"


ON_A_TERMINAL = """
from scapy_netdump.cli.serve_log import ServeLog
from scapy_netdump.core.receiving.events import Progress, Stopped
log = ServeLog(False)
log.start()
log.event(Progress(1.0, 1, "192.0.2.2", 20024, 5 << 20, None, 0, 1.0))
log.event(Stopped(2.0))
log.close()
"""


def test_a_real_terminal_is_found_out() -> None:
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", ON_A_TERMINAL], stderr=theirs, check=True, timeout=60)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    lines = screen(shown.replace("\r", ""))
    assert lines[0].endswith("stopped")
    assert lines[1].startswith("192.0.2.2 dump 1: 5 MiB")


@pytest.mark.parametrize(
    ("add", "priority", "text"),
    [
        (lambda log: log.note("all is well"), 6, "all is well"),
        (lambda log: log.note("no port", "error"), 3, "no port"),
        (lambda log: log.note("script failed", "handler", problem="exit status 1"), 4, "script"),
        (lambda log: log.note("script done", "handler", problem=None), 6, "script done"),
        (lambda log: log.event(Refused(1.0, "192.0.2.2", "too many")), 4, "192.0.2.2: 1 HERALD"),
        (lambda log: log.event(ended()), 4, "192.0.2.2 dump 1: incomplete: "),
        (lambda log: log.event(ended(complete=True)), 6, "192.0.2.2 dump 1: "),
        (
            lambda log: log.event(WriteFailed(1.0, 1, "192.0.2.2", 7, "vmcore", 0, EVIL)),
            3,
            "192.0.2.2 dump 1: vmcore: cannot write at 0: a\\x1b[2J\\nDump complete\\u202e",
        ),
    ],
)
def test_the_systems_log_gets_lines_with_their_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, add: Any, priority: int, text: str
) -> None:
    monkeypatch.setattr(system_log, "PLACES", (str(tmp_path / "log"),))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as system:
        system.bind(str(tmp_path / "log"))
        system.settimeout(10)
        log = ServeLog(syslog=True)
        add(log)
        log.close()
        line = system.recv(9000).decode()
    assert line.startswith(f"<{3 * 8 + priority}>")
    assert line.partition("]: ")[2].startswith(text)
