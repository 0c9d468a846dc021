# SPDX-License-Identifier: GPL-2.0-or-later
"""The package as a Scapy plugin, each time in a fresh interpreter with a home of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LOAD = "from scapy.all import *\nconf.exts.load('scapy-netdump')\nload_contrib('netdump')\n"
BINDINGS = "[cls for _, cls in UDP.payload_guess if cls.__module__.startswith('scapy_netdump')]"


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The environment of a user without any Scapy configuration."""
    cleared = {k: v for k, v in os.environ.items() if not k.startswith("XDG_")}
    return {**cleared, "HOME": str(tmp_path)}


def run(code: str, home: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env=home, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def test_the_shells_class_is_the_packages_only_one(home: dict[str, str]) -> None:
    run(
        LOAD + "import scapy_netdump\n"
        "assert Netdump is scapy_netdump.Netdump\n"
        "assert KernelDumpHeader is scapy_netdump.KernelDumpHeader\n"
        "assert [c for c in conf.layers if c.__name__ == 'Netdump'] == [Netdump]\n",
        home,
    )


def test_all_exported_names_are_in_the_shell(home: dict[str, str]) -> None:
    run(LOAD + "import scapy_netdump\nfor name in scapy_netdump.__all__: eval(name)", home)


@pytest.mark.parametrize(
    "again",
    [
        "",
        "load_contrib('netdump')",
        "conf.exts.load('scapy-netdump'); load_contrib('netdump')",
        "import importlib, scapy_netdump.layers; importlib.reload(scapy_netdump.layers.messages); "
        "importlib.reload(scapy_netdump.layers)",
    ],
    ids=["once", "contrib twice", "all twice", "reloaded"],
)
def test_ports_are_bound_once(again: str, home: dict[str, str]) -> None:
    assert run(f"{LOAD}{again}\nprint(len({BINDINGS}))", home) == "4\n"


def test_importing_first_and_loading_then_is_the_same(home: dict[str, str]) -> None:
    code = "from scapy_netdump import Netdump as first\n" + LOAD + "assert Netdump is first\n"
    assert run(f"{code}print(len({BINDINGS}))", home) == "4\n"


def test_layers_are_listed_with_the_contribs_description(home: dict[str, str]) -> None:
    listed = run(LOAD + "print(dict(conf.layers.layers())['scapy.contrib.netdump'])", home)
    assert listed.startswith("FreeBSD netdump(4)")


def test_layers_can_be_listed_without_the_plugin(home: dict[str, str]) -> None:
    run("from scapy.all import *\nimport scapy_netdump.layers\nconf.layers.layers()", home)


def test_explore_shows_the_layers(home: dict[str, str]) -> None:
    shown = run(LOAD + "explore('netdump')", home)
    assert all(name in shown for name in ("Netdump ", "NetdumpAck ", "KernelDumpKey "))


def test_ls_and_rfc_work_in_the_shell(home: dict[str, str]) -> None:
    shown = run(LOAD + "ls(Netdump)\nrfc(Netdump)\nls('netdump')", home)
    assert "seqno      : IntField" in shown
    assert "Fig. Netdump" in shown
    assert "FreeBSD kernel dump header" not in shown
    assert "NetdumpHerald" in shown


def test_the_extension_is_listed(home: dict[str, str]) -> None:
    assert "scapy-netdump" in run(LOAD + "print(conf.exts)", home)


def test_prestart_makes_it_part_of_every_shell(home: dict[str, str], tmp_path: Path) -> None:
    prestart = tmp_path / "prestart.py"
    prestart.write_text("conf.exts.load('scapy-netdump')\nload_contrib('netdump')\n")
    shell = subprocess.run(
        [sys.executable, "-m", "scapy", "-H", "-C", "-p", str(prestart)],
        input="print('class', Netdump)\nimport scapy_netdump\n"
        "print('same', Netdump is scapy_netdump.Netdump)\nexit()\n",
        env=home,
        text=True,
        capture_output=True,
        check=True,
    )
    assert "class <class 'scapy_netdump.layers.messages.Netdump'>" in shell.stdout
    assert "same True" in shell.stdout
