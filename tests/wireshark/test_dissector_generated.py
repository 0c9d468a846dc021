# SPDX-License-Identifier: GPL-2.0-or-later
"""The dissector follows the layers by itself, and is Lua that every version takes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import wireshark
from helpers.places import ROOT
from helpers.wireshark import SCRIPT, capture_of, needs_tshark
from scapy.all import IP, UDP, Raw
from scapy.fields import AnyField, StrField

from scapy_netdump.layers import Netdump
from scapy_netdump.wireshark import generator

GLOBALS = (
    *("Proto", "ProtoField", "ProtoExpert", "Pref", "Dissector", "DissectorTable", "NSTime"),
    *("Struct", "UInt64", "ENC_UTF_8", "base", "expert", "frametype", "bit"),
)

NEW_FIELD = '(IntField("novelty", 7), "What nobody had before."),'


@pytest.mark.parametrize("version", ["5.1", "5.2", "5.4"])
def test_every_lua_compiles_it(version: str) -> None:
    compiler = shutil.which(f"luac{version}")
    if compiler is None:
        pytest.skip(f"luac{version} is not installed")
    ended = subprocess.run([compiler, "-p", str(SCRIPT)], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_luacheck_finds_nothing() -> None:
    if shutil.which("luacheck") is None:
        pytest.skip("luacheck is not installed")
    options = ["--no-color", "--std", "max", "--no-max-line-length", "--read-globals", *GLOBALS]
    ended = subprocess.run(
        ["luacheck", *options, "--", str(SCRIPT)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout


def code() -> str:
    """The script without its comments and strings."""
    text = re.sub(r'"(\\.|[^"\\])*"|\'(\\.|[^\'\\])*\'', '""', SCRIPT.read_text())
    return re.sub(r"--[^\n]*", "", text)


@pytest.mark.parametrize(
    "banned",
    [r"[&|]", r"~(?!=)", r"//", r">>", r"<<", r"\bbit32\b", r"(?<!Struct\.)\bunpack\b",
     r"\bloadstring\b", r"ProtoField\.stringz", r"\bgoto\b", r"\bnetdump\."],
)  # fmt: skip
def test_it_keeps_to_what_all_versions_have(banned: str) -> None:
    assert not re.search(banned, code())


def test_a_kind_of_field_that_is_not_known_is_told() -> None:
    field: AnyField = StrField("odd", b"")
    with pytest.raises(TypeError, match="odd: no way to show a StrField"):
        generator.kind(field)


def test_every_field_of_the_layers_is_in_it() -> None:
    for field in Netdump.fields_desc:
        assert f'{{ "{field.name}", "' in SCRIPT.read_text()


@needs_tshark
def test_a_new_field_changes_the_dissector_and_the_readme_by_itself(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    shutil.copytree(ROOT / "scapy_netdump", scratch / "scapy_netdump")
    shutil.copy(ROOT / "README.md", scratch)
    layer = scratch / "scapy_netdump" / "layers" / "messages.py"
    source = layer.read_text()
    last = '"Unused by netdump; some clients leave rubbish in it."),'
    assert last in source
    layer.write_text(source.replace(last, f"{last}\n        {NEW_FIELD}"))
    generate = [sys.executable, "-m", "scapy_netdump.generate"]
    ended = subprocess.run(generate, cwd=scratch, capture_output=True, text=True, check=True)
    assert "fbsd_netdump.lua written" in ended.stdout
    assert "`novelty` | 24 | 4 | What nobody had before." in (scratch / "README.md").read_text()
    message = b"".join(n.to_bytes(4, "big") for n in (3, 2, 0, 0, 5, 0, 99)) + b"bytes"
    packet = IP(src="192.0.2.2", dst="192.0.2.1") / UDP(sport=20024, dport=41885) / Raw(message)
    capture = capture_of(tmp_path / "c.pcap", [packet])
    shown = ("-T", "fields", "-e", "fbsd_netdump.novelty", "-e", "fbsd_netdump.data")
    script = scratch / "scapy_netdump" / "wireshark" / "fbsd_netdump.lua"
    assert wireshark.run("-r", capture, *shown, script=script) == "99\t6279746573\n"
