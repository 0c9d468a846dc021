# SPDX-License-Identifier: GPL-2.0-or-later
"""`netdump lua`: prints, writes, installs and removes the dissector and the profile."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import wireshark
from helpers.wireshark import PCAPS, SCRIPT, needs_tshark

from scapy_netdump.cli.main import main
from scapy_netdump.wireshark import install

PROFILE = SCRIPT.parent / "profile"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "WIRESHARK_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def tshark(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["tshark", *arguments], capture_output=True, text=True, check=False)


def test_it_prints_the_dissector(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lua"]) == 0
    assert capsys.readouterr().out == SCRIPT.read_text()


def test_it_writes_the_dissector(tmp_path: Path) -> None:
    assert main(["lua", "-o", str(tmp_path / "deeper" / "some.lua")]) == 0
    assert (tmp_path / "deeper" / "some.lua").read_text() == SCRIPT.read_text()
    assert os.listdir(tmp_path / "deeper") == ["some.lua"]


def test_where_it_cannot_write_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["lua", "-o", str(tmp_path / "file" / "some.lua")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("netdump: ")
    assert "not written" in error
    assert error.count("\n") == 1


@needs_tshark
def test_what_is_installed_is_loaded(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sample = str(PCAPS / "path.pcap")
    assert "Netdump" not in tshark("-r", sample).stdout
    assert main(["lua", "--install"]) == 0
    path = Path(re.search(r"installed: (.*)", capsys.readouterr().out)[1])
    assert home in path.parents
    assert path.read_text() == SCRIPT.read_text()
    assert "\tfbsd_netdump\n" in tshark("-G", "protocols").stdout
    both = tshark("-X", f"lua_script:{SCRIPT}", "-r", sample)
    assert 'HERALD path "lab/rack-7"' in both.stdout
    assert "lua" not in both.stderr.lower()
    assert main(["lua", "--install"]) == 0  # over an older one
    assert main(["lua", "--uninstall"]) == 0
    assert f"removed: {path}" in capsys.readouterr().out
    assert not path.exists()
    assert main(["lua", "--uninstall"]) == 0
    assert "nothing to remove" in capsys.readouterr().out


def test_without_wireshark_it_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["lua", "--install"]) == 1
    assert "neither tshark nor wireshark is installed" in capsys.readouterr().err


def test_a_wireshark_without_lua_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "tshark"
    program.write_text("#!/bin/sh\necho 'Temp: /tmp'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert main(["lua", "--install"]) == 1
    assert "it may lack Lua" in capsys.readouterr().err


def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    install.write(path, "old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(install.WiresharkError, match="full"):
        install.write(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_two_ways_at_once_are_refused() -> None:
    with pytest.raises(SystemExit) as refused:
        main(["lua", "--install", "--uninstall"])
    assert refused.value.code == 2


@needs_tshark
def test_the_profile_has_the_columns(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lua", "--install", "--profile"]) == 0
    folder = Path(re.search(r"profile: (.*)", capsys.readouterr().out)[1])
    assert folder == home / ".config" / "wireshark" / "profiles" / "netdump"
    assert sorted(os.listdir(folder)) == ["colorfilters", "io_graphs", "preferences", "recent"]
    shown = tshark("-C", "netdump", "-n", "-2", "-r", str(PCAPS / "no-kdh.pcap"), "-T", "tabs")
    assert shown.stderr.count("\n") <= 1  # that root runs it
    *_, finished, _ = [line.split("\t") for line in shown.stdout.splitlines()]
    assert [finished[5], finished[8], finished[9]] == ["FINISHED", "", "0"]


@needs_tshark
def test_filters_of_the_profile_are_filters() -> None:
    lines = (PROFILE / "colorfilters").read_text().splitlines()
    filters = [line.split("@")[2] for line in lines if line.startswith("@")]
    graphs = (PROFILE / "io_graphs").read_text().splitlines()
    filters += [line.split('","')[2] for line in graphs if line.startswith('"')]
    assert len(filters) == 9
    for one in filters:
        wireshark.run("-r", PCAPS / "path.pcap", "-Y", one)
    columns = re.findall(r"%Cus:([a-z_.]+):", (PROFILE / "preferences").read_text())
    assert len(columns) == 5
    for one in columns:
        wireshark.run("-r", PCAPS / "path.pcap", "-Y", one)


def test_the_command_imports_neither_scapy_nor_numpy(tmp_path: Path) -> None:
    code = (
        "import sys; from scapy_netdump.cli.main import main; main(['lua', '-o', sys.argv[1]]); "
        "print('scapy' in sys.modules, 'numpy' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "lua")]
    assert subprocess.check_output(command, text=True) == "False False\n"
