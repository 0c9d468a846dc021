# SPDX-License-Identifier: GPL-2.0-or-later
"""What the project's documents say of its code, and the code of its documents, is true."""

from __future__ import annotations

import ast
import importlib.util
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

FOLDERS = {path.name for path in (*PACKAGE.iterdir(), TESTS) if path.is_dir()}
HEADINGS = set(re.findall(r"^#+ (.+)$", PROTOCOL, re.MULTILINE))
_SECTION = re.compile(r'PROTOCOL\.md,? "([^"]+)"|"([^"]+)" of PROTOCOL\.md')
_FAULT = re.compile(r"PROTOCOL\.md, (?:its )?fault (\d+)")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def is_there(name: str) -> bool:
    """Whether a file or folder of that name is in the package or in the project."""
    return (PACKAGE / name).exists() or (ROOT / name).exists()


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
    assert [name for name in named if not is_there(name)] == []


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


# Docstrings

#: What a module imports, and who imports it, is the business of the test of the floors: it knows.
_SPEAKS_OF_IMPORTS = re.compile(
    r"\bImports\b|[Tt]hey import\b|[Ss]tandard library|Wiring only"
    r"|[Nn]othing imports this|modules? that imports?|\.py imports"
)


@pytest.mark.parametrize("source", SOURCES, ids=relative)
def test_no_docstring_of_a_module_speaks_of_imports(source: Path) -> None:
    docstring = " ".join((ast.get_docstring(ast.parse(source.read_text())) or "").split())
    assert _SPEAKS_OF_IMPORTS.findall(docstring) == []


_FILE = re.compile(r"\b(?:\w+/)+\w+\.py\b")


@pytest.mark.parametrize("source", CITING, ids=relative)
def test_files_of_the_project_that_comments_name_are_there(source: Path) -> None:
    named = {name for name in _FILE.findall(source.read_text()) if name.split("/")[0] in FOLDERS}
    assert [name for name in named if not is_there(name)] == []


# CONTRIBUTING.md

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
PLACES = set(re.findall(r"`([\w./-]*(?:/|\.(?:py|md)))`", CONTRIBUTING))
COMMANDS = [
    command.strip()
    for block in re.findall(r"```sh\n(.*?)```", CONTRIBUTING, re.DOTALL)
    for line in block.splitlines()
    for command in line.partition("#")[0].split("&&")
]
ROWS = re.findall(r"^\| (\d?) ?\| (`.+?`) \| .+ \|$", CONTRIBUTING, re.MULTILINE)


def floors_of_the_test() -> list[set[str]]:
    """FLOORS of tests/core/test_core_is_pure.py."""
    for node in ast.parse((TESTS / "core" / "test_core_is_pure.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FLOORS":
            return list(ast.literal_eval(node.value))
    raise AssertionError("no FLOORS")


@pytest.mark.parametrize("place", sorted(PLACES))
def test_files_and_folders_that_contributing_md_names_are_there(place: str) -> None:
    assert is_there(place)


def test_the_map_has_the_floors_that_imports_are_held_to() -> None:
    floors = floors_of_the_test()
    shown = [
        {part.strip("`/") for number, part in ROWS if number == str(floor)}
        for floor in range(1, len(floors) + 1)
    ]
    assert shown == floors
    assert max(int(number) for number, _ in ROWS if number) == len(floors)


def test_every_folder_of_the_package_is_on_the_map() -> None:
    shown = {name for _, part in ROWS for name in re.findall(r"`(.+?)/`", part)}
    folders = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*")
        if path.is_dir() and path.name != "__pycache__"
    }
    assert shown == folders


def test_what_stands_outside_the_floors_is_told() -> None:
    on_floors = set().union(*floors_of_the_test())
    loose = {path.name for path in PACKAGE.glob("*.py") if path.stem not in on_floors}
    told = CONTRIBUTING.partition("Outside the floors:")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+\.py)`", told)) == loose


def test_attributes_and_functions_that_contributing_md_names_are_in_their_files() -> None:
    named = re.findall(r"`(?:(\w+)\.)?(\w+)`(?: and `(\w+)`)? in `([\w/]+\.py)`", CONTRIBUTING)
    assert named
    for *names, file in named:
        source = (PACKAGE / file).read_text()
        for name in filter(None, names):
            assert re.search(rf"^ *(?:def|class) {name}\b", source, re.MULTILINE), (name, file)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_contributing_md_exist(command: str) -> None:
    words = re.sub(r"^\.venv/bin/", "", command).split()
    program, *arguments = words
    if program == "python" and arguments[0] == "-m":
        assert importlib.util.find_spec(arguments.pop(1)) is not None
    elif program == "netdump":
        assert f'"{arguments[0]}": "' in (PACKAGE / "cli" / "main.py").read_text()
    elif program == ".ci/run":
        assert (ROOT / program).is_file()
    elif program == "pip":
        for extra in re.findall(r"\w+", arguments[-1]):
            assert re.search(rf"^{extra} = \[", PYPROJECT, re.MULTILINE)
    else:
        assert program in {"python", "python3", "pytest", "ruff", "mypy"}
    for path in (word for word in arguments if "/" in word):
        assert (ROOT / path).exists()
    if program == "pytest" and "-m" in arguments:
        assert f'"{arguments[-1]}: ' in PYPROJECT
