# SPDX-License-Identifier: GPL-2.0-or-later
"""Lines to a log like the system's: a real socket at another place."""

from __future__ import annotations

import os
import socket
import time
from contextlib import closing
from pathlib import Path

import pytest

from scapy_netdump.server.service import system_log
from scapy_netdump.server.service.system_log import ERROR, INFO, SystemLog, SystemLogError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(system_log, "PLACES", (str(tmp_path / "no"), str(tmp_path / "log")))
    return tmp_path / "log"


def listening(place: Path) -> socket.socket:
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind(str(place))
    log.settimeout(10)
    return log


def test_a_line_is_as_rfc_3164_has_it(place: Path) -> None:
    with listening(place) as log, closing(SystemLog("name")) as writing:
        writing.write(1_700_000_000, INFO, "what\u2026 happened")
        clock = time.strftime("%b %d %H:%M:%S", time.localtime(1_700_000_000))
        expected = f"<30>{clock} name[{os.getpid()}]: what\u2026 happened"
        assert log.recv(9000).decode() == expected
        writing.write(1_701_600_000, ERROR, "x" * 10_000)
        line = log.recv(20_000)
        assert line.startswith(b"<27>Dec  3 ")  # a day has two places
        assert len(line) == 8000


def test_a_log_that_is_started_anew_is_found_again(place: Path) -> None:
    with listening(place):
        writing = SystemLog("name")
    place.unlink()
    with closing(writing):
        with pytest.raises(OSError, match=r"."):
            writing.write(0, INFO, "lost")
        with listening(place) as log:
            writing.write(0, INFO, "here")
            assert log.recv(9000).endswith(b": here")


def test_no_log_is_a_reason(place: Path) -> None:
    with pytest.raises(SystemLogError, match=r"no system log to write to: .*no: No such file"):
        SystemLog("name")
