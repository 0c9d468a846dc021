# SPDX-License-Identifier: GPL-2.0-or-later
"""The files that start the server at boot."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scapy_netdump.server.service.units import rc_script, systemd_unit

COMMAND = [sys.executable, "-m", "scapy_netdump"]
STRANGE = ["/opt/a b/$x%y`'\"\\python", "-m", "scapy_netdump"]


def printed(kind: str) -> str:
    return subprocess.check_output([*COMMAND, "service", kind], text=True)


def test_the_command_prints_them_for_this_installation() -> None:
    assert printed("systemd") == systemd_unit(COMMAND)
    assert printed("rc.d") == rc_script(COMMAND)


def test_the_unit_runs_the_server_without_root_and_waits_until_it_is_ready() -> None:
    lines = systemd_unit(COMMAND).splitlines()
    (start,) = [line for line in lines if line.startswith("ExecStart=")]
    assert start == f"ExecStart={' '.join(COMMAND)} serve --notify -d ${{STATE_DIRECTORY}}"
    assert {"Type=notify", "DynamicUser=yes", "CapabilityBoundingSet="} <= set(lines)


@pytest.mark.parametrize("command", [COMMAND, ["/bin/sh", "a b$c%d\"e'f\\g"]])
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path, command: list[str]) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    unit = tmp_path / "netdump.service"
    unit.write_text(systemd_unit(command))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], text=True, capture_output=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def rc_runs(tmp_path: Path, command: list[str], **variables: str) -> list[str]:
    """What the script would have rc(8) start: with an rc.subr that does the part of it that
    matters here, which is to evaluate the command line."""
    subr = tmp_path / "rc.subr"
    subr.write_text(
        "load_rc_config() { :; }\n"
        'run_rc_command() { eval "set -- $command $command_args"; printf "%s\\n" "$@"; }\n'
    )
    script = tmp_path / "netdump"
    script.write_text(rc_script(command).replace("/etc/rc.subr", str(subr)))
    environment = {**os.environ, **variables}
    output = subprocess.check_output(["sh", script, "start"], text=True, env=environment)
    return output.splitlines()


def test_the_rc_script_runs_the_server_under_daemon(tmp_path: Path) -> None:
    daemon = ["/usr/sbin/daemon", "-f", "-S", "-T", "netdump", "-P", "/var/run/netdump.pid"]
    assert rc_runs(tmp_path, COMMAND) == [*daemon, *COMMAND, "serve", "-d", "/var/crash"]


def test_the_rc_script_takes_its_variables(tmp_path: Path) -> None:
    variables = {"netdump_runas": "nobody", "netdump_args": "-i /x --json", "netdump_dir": "/d"}
    words = rc_runs(tmp_path, COMMAND, **variables)
    assert shlex.join(words).endswith("serve -d /d --user nobody -i /x --json")


def test_strange_places_survive_in_the_rc_script(tmp_path: Path) -> None:
    assert rc_runs(tmp_path, STRANGE)[7:10] == STRANGE


def test_strange_places_survive_in_the_unit() -> None:
    quoted = '"/opt/a b/$$x%%y`\'\\"\\\\python" -m scapy_netdump serve'
    assert f"ExecStart={quoted} " in systemd_unit(STRANGE)
