# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may import what: the core nothing that touches the world, and nobody anything above.

Read from the source by ast, so that an import counts wherever it stands.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import scapy_netdump

PACKAGE = Path(scapy_netdump.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
CORE = sorted((PACKAGE / "core").rglob("*.py"))
SERVICE = sorted((PACKAGE / "server" / "service").rglob("*.py"))

#: All that the core may import from outside. None of it opens, waits or looks at a clock.
PURE = {
    "__future__",
    "array",
    "bisect",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "hashlib",
    "ipaddress",
    "itertools",
    "math",
    "numpy",
    "operator",
    "re",
    "struct",
    "typing",
    "zlib",
}
PURE_IN_PLACES = {"text.py": {"time"}}  # for gmtime and asctime: the calendar, not the clock

#: What the core may import of the package; each of these is held to PURE as well.
BELOW_CORE = {"core", "errors", "formats", "kerneldump", "text", "wire"}

#: What Python offers without an import, and what the modules above offer to reach files
#: or clocks with.
IMPURE_NAMES = {"open", "print", "input", "exec", "eval", "__import__", "breakpoint"}
IMPURE_ATTRIBUTES = {
    *("fromfile", "tofile", "load", "loadtxt", "memmap", "save", "savetxt", "savez"),
    *("monotonic", "now", "perf_counter", "sleep", "time_ns"),
}

#: The floors of the package, the lowest first: a part imports from its own floor's folder and from
#: lower floors only. Parts on one floor do not know each other.
FLOORS = (
    {"errors", "text", "formats"},
    {"wire", "kerneldump"},
    {"layers"},
    {"core"},
    {"capture", "net", "store"},
    {"dump"},
    {"recovery", "server", "client", "report", "scapy_tools", "wireshark"},
    {"cli"},
)

#: Functions that import, each with its reason.
MAY_IMPORT_INSIDE = {
    "dump/dump.py": "most recoveries look into no dump and copy none, and start faster without",
    "cli/recover.py": "cryptography is an extra, and most recoveries make no plain copies",
    "recovery/recoverer.py": "cryptography is an extra, and most recoveries make no plain copies",
    "cli/report.py": "matplotlib is an extra, and the help is there without it",
    "capture/compressed.py": "zstandard is an extra that only zstd captures need",
    "cli/send.py": "Scapy, which only -i needs, takes a second to load",
    "dump/compression.py": "zstandard is an extra that only dumps sent with it need",
    "dump/open.py": "cryptography is an extra that only encrypted dumps need",
    "client/prepare.py": "cryptography is an extra that only dumps sent encrypted need",
}


def tree(source: Path) -> ast.Module:
    return ast.parse(source.read_text(), source.name)


def imports(node: ast.AST, source: Path) -> Iterator[str]:
    """The full name of everything imported anywhere under a node, relative ones resolved."""
    package = ["scapy_netdump", *source.relative_to(PACKAGE).parent.parts]
    for found in ast.walk(node):
        if isinstance(found, ast.Import):
            yield from (alias.name for alias in found.names)
        elif isinstance(found, ast.ImportFrom):
            above = package[: len(package) + 1 - found.level] if found.level else []
            base = ".".join([*above, *filter(None, [found.module])])
            yield from (f"{base}.{alias.name}" for alias in found.names)


def parts(source: Path) -> set[str]:
    """The parts of the package that a file imports from: the names right below it."""
    found = (name.split(".") for name in imports(tree(source), source))
    return {name[1] for name in found if name[0] == "scapy_netdump" and len(name) > 1}


def part_of(source: Path) -> str:
    return source.relative_to(PACKAGE).parts[0].removesuffix(".py")


def pure_sources() -> list[Path]:
    return [source for source in SOURCES if part_of(source) in BELOW_CORE]


def relative(source: Path) -> str:
    return str(source.relative_to(PACKAGE))


@pytest.mark.parametrize("source", pure_sources(), ids=relative)
def test_the_core_and_what_it_stands_on_import_nothing_that_touches_the_world(source):
    outside = {
        name.split(".")[0]
        for name in imports(tree(source), source)
        if not name.startswith("scapy_netdump.")
    }
    assert outside <= PURE | PURE_IN_PLACES.get(relative(source), set())


@pytest.mark.parametrize("source", CORE, ids=relative)
def test_the_core_stands_on_nothing_else_of_the_package(source):
    assert parts(source) <= BELOW_CORE


@pytest.mark.parametrize("source", pure_sources(), ids=relative)
def test_the_core_calls_nothing_that_reads_or_writes_by_itself(source):
    nodes = list(ast.walk(tree(source)))
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert names.isdisjoint(IMPURE_NAMES)
    assert attributes.isdisjoint(IMPURE_ATTRIBUTES)


def floor_of(part: str) -> int | None:
    return next((number for number, floor in enumerate(FLOORS) if part in floor), None)


@pytest.mark.parametrize("source", SOURCES, ids=relative)
def test_imports_point_one_way(source):
    part = part_of(source)
    floor = floor_of(part)
    if floor is None:
        assert relative(source) in {"__init__.py", "__main__.py", "contrib.py", "generate.py"}
        return
    others = parts(source) - {part}
    too_high = {other for other in others if (floor_of(other) or 0) >= floor}
    assert not too_high


def module_of(source: Path) -> str:
    names = source.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(("scapy_netdump", *names)).removesuffix(".__init__")


def test_no_modules_import_each_other_in_a_circle():
    modules = {module_of(source): source for source in SOURCES}
    wanted = {
        module: {
            known
            for name in imports(tree(source), source)
            for known in (name, name.rpartition(".")[0])
            if known in modules and known != module
        }
        for module, source in modules.items()
    }
    wanted = {
        module: {n for n in names if n != "scapy_netdump"} for module, names in wanted.items()
    }
    while free := {module for module, names in wanted.items() if not names & wanted.keys()}:
        wanted = {module: names for module, names in wanted.items() if module not in free}
    assert wanted == {}


@pytest.mark.parametrize("source", SOURCES, ids=relative)
def test_nothing_but_the_entry_point_imports_the_command_line(source):
    if part_of(source) != "cli" and relative(source) != "__main__.py":
        assert "cli" not in parts(source)


@pytest.mark.parametrize("source", SERVICE, ids=relative)
def test_the_pieces_of_the_service_know_the_errors_only_and_not_each_other(source):
    assert parts(source) <= {"errors"}


def functions_that_import(source: Path) -> list[str]:
    return [
        node.name
        for node in ast.walk(tree(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(imports(node, source))
    ]


@pytest.mark.parametrize("source", SOURCES, ids=relative)
def test_no_function_imports_without_a_reason(source):
    if relative(source) not in MAY_IMPORT_INSIDE:
        assert functions_that_import(source) == []


@pytest.mark.parametrize("name", MAY_IMPORT_INSIDE)
def test_every_reason_to_import_inside_a_function_is_still_one(name):
    assert functions_that_import(PACKAGE / name)


# numpy imports much for itself, and not the same in each version.
LOADED_BY_THE_CORE = """
import sys, numpy
before = set(sys.modules)
import scapy_netdump.core.observing.observer
print(*set(sys.modules) - before)
"""


def test_importing_the_core_imports_neither_scapy_nor_sockets():
    code = [sys.executable, "-c", LOADED_BY_THE_CORE]
    loaded = set(subprocess.check_output(code, text=True).split())
    assert "scapy_netdump.core.observing.observer" in loaded
    assert loaded.isdisjoint({"scapy", "socket", "asyncio", "subprocess"})
