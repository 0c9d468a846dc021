# SPDX-License-Identifier: GPL-2.0-or-later
"""The files that start the server at boot."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scapy_netdump.cli import serve_options
from scapy_netdump.server.service.units import rc_script, systemd_unit

COMMAND = [sys.executable, "-m", "scapy_netdump"]
STRANGE = ["/opt/a b/$x%y`'\"\\python", "-m", "scapy_netdump"]


def printed(kind: str) -> str:
    return subprocess.check_output([*COMMAND, "service", kind], text=True)


def test_the_command_prints_them_for_this_installation() -> None:
    assert printed("systemd") == systemd_unit(COMMAND)
    assert printed("rc.d") == rc_script(COMMAND)


def test_the_unit_starts_the_server_again_whatever_ended_it_and_spares_scripts() -> None:
    lines = set(systemd_unit(COMMAND).splitlines())
    assert {"Restart=always", "StartLimitIntervalSec=0", "KillMode=process"} <= lines
    assert "RestartPreventExitStatus=2" in lines  # wrong usage


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


#: What rc.subr(8) does of what matters here: it reads the settings, gives NAME_flags, or $flags
#: of the environment, to the command before its own arguments, and runs it as NAME_user.
SUBR = """
load_rc_config() { . "$RC_CONF"; }
checkyesno() {
    eval "_value=\\$$1"
    case $_value in [Yy][Ee][Ss]) return 0 ;; *) return 1 ;; esac
}
run_rc_command() {
    [ -d "$required_dirs" ] || exit 7
    eval "_flags=\\${flags:-\\$${name}_flags}" "_user=\\$${name}_user"
    eval "set -- ${_user:+su $_user -c} $command $_flags $command_args"
    printf "%s\\n" "$pidfile" "$@"
}
"""


def rc_runs(
    tmp_path: Path, command: list[str], settings: str = "", **environment: str
) -> tuple[str, list[str]]:
    """The pid file that rc(8) would look into, and what it would start, with these settings."""
    (tmp_path / "rc.subr").write_text(SUBR)
    (tmp_path / "rc.conf").write_text(f"netdump_dir={tmp_path}\n{settings}\n")
    script = tmp_path / "netdump"
    script.write_text(rc_script(command).replace("/etc/rc.subr", str(tmp_path / "rc.subr")))
    subprocess.run(["sh", "-n", script], check=True)
    pidfile, *words = subprocess.check_output(
        ["sh", script, "start"],
        text=True,
        env={**os.environ, "RC_CONF": str(tmp_path / "rc.conf"), **environment},
    ).splitlines()
    return pidfile, words


DAEMON = ["/usr/sbin/daemon", "-f", "-P"]


def test_the_rc_script_runs_the_server_under_daemon(tmp_path: Path) -> None:
    pidfile, words = rc_runs(tmp_path, COMMAND)
    assert pidfile == "/var/run/netdump.pid"
    assert words == [*DAEMON, pidfile, *COMMAND, "serve", "-d", str(tmp_path), "--syslog"]


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ("netdump_flags='-i /x --sync finish'", "--syslog -i /x --sync finish"),
        ("netdump_user=nobody", "--user nobody --syslog"),
        ("netdump_user=nobody netdump_group=operator", "--user nobody:operator --syslog"),
        ("netdump_names=YES", "--names --syslog"),
        ("netdump_runas=nobody netdump_args='-i /x'", "--user nobody --syslog -i /x"),
    ],
)
def test_the_rc_script_takes_its_variables(tmp_path: Path, settings: str, options: str) -> None:
    _, words = rc_runs(tmp_path, COMMAND, settings)
    assert words[0] == "/usr/sbin/daemon"  # as root, who may write the pid file
    assert shlex.join(words).endswith(f" {COMMAND[-1]} serve -d {tmp_path} {options}")
    parser = argparse.ArgumentParser()
    serve_options.add(parser)
    parser.parse_args(words[words.index("serve") + 1 :])


def test_flags_of_the_environment_stand_in_for_those_of_rc_conf(tmp_path: Path) -> None:
    _, words = rc_runs(tmp_path, COMMAND, "netdump_flags=--keep\\ 2", flags="--port 7")
    assert words[-2:] == ["--port", "7"]


def test_the_rc_script_logs_to_a_file_if_asked_and_has_its_pid_file_anywhere(
    tmp_path: Path,
) -> None:
    settings = "netdump_syslog=NO netdump_logfile='/var/log/a b' netdump_pidfile='/run/a b'"
    pidfile, words = rc_runs(tmp_path, COMMAND, settings)
    assert pidfile == "/run/a b"
    assert words == [
        *(*DAEMON, pidfile, "-H", "-o", "/var/log/a b", *COMMAND, "serve", "-d", str(tmp_path)),
    ]


def test_strange_places_survive_in_the_rc_script(tmp_path: Path) -> None:
    assert rc_runs(tmp_path, STRANGE)[1][4:7] == STRANGE


def test_strange_places_survive_in_the_unit() -> None:
    quoted = '"/opt/a b/$$x%%y`\'\\"\\\\python" -m scapy_netdump serve'
    assert f"ExecStart={quoted} " in systemd_unit(STRANGE)
