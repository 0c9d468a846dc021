# SPDX-License-Identifier: GPL-2.0-or-later
"""What the project's documents say of its code, and the code of its documents, is true."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from helpers.places import ROOT, TESTS

import scapy_netdump

PACKAGE = Path(scapy_netdump.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
CITING = [path for path in (*SOURCES, *sorted(TESTS.rglob("*.py"))) if path != Path(__file__)]
PROTOCOL = (PACKAGE / "PROTOCOL.md").read_text()
README = (ROOT / "README.md").read_text()
PYPROJECT = (ROOT / "pyproject.toml").read_text()

HEADINGS = set(re.findall(r"^#+ (.+)$", PROTOCOL, re.MULTILINE))
_SECTION = re.compile(r'PROTOCOL\.md,? "([^"]+)"|"([^"]+)" of PROTOCOL\.md')
_FAULT = re.compile(r"PROTOCOL\.md, (?:its )?fault (\d+)")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(source: Path) -> str:
    """A file's text on one line, so that a sentence may go on in the next line of a comment."""
    return re.sub(r"\s*\n\s*(?:#:? )?", " ", source.read_text())


def citing(pattern: re.Pattern[str]) -> list[tuple[str, str]]:
    """Which file cites what of PROTOCOL.md."""
    return [
        (relative(source), next(filter(None, match.groups())))
        for source in CITING
        for match in pattern.finditer(prose(source))
    ]


# PROTOCOL.md


@pytest.mark.parametrize(("source", "section"), citing(_SECTION))
def test_sections_of_protocol_md_that_code_cites_are_there(source: str, section: str) -> None:
    assert section in HEADINGS


@pytest.mark.parametrize(("source", "number"), citing(_FAULT))
def test_faults_of_the_reference_server_that_code_cites_are_there(source: str, number: str) -> None:
    faults = PROTOCOL.partition("## Faults of the reference server\n")[2].partition("\n## ")[0]
    assert f"\n{number}. " in faults


def test_code_cites_sections_of_protocol_md() -> None:
    assert {"The key blob", "One dump by the kernel client", "Observed answers"} <= {
        section for _, section in citing(_SECTION)
    }


def test_files_that_protocol_md_names_are_there() -> None:
    named = set(re.findall(r"\b[a-z_]+/[\w/]+\.py\b", PROTOCOL))
    assert named
    assert {name for name in named if not (PACKAGE / name).is_file()} == set()


def test_all_files_of_the_package_are_in_the_wheel() -> None:
    table = re.search(r"package-data\]\nscapy_netdump = (\[.*?\n\])", PYPROJECT, re.DOTALL)
    assert table is not None
    packed = {path for pattern in ast.literal_eval(table[1]) for path in PACKAGE.glob(pattern)}
    others = {
        path
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    }
    assert PACKAGE / "PROTOCOL.md" in others
    assert others - packed == set()
