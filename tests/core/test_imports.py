# SPDX-License-Identifier: GPL-2.0-or-later
"""What is imported when: Scapy only for those who use packets."""

import builtins
import inspect
import pkgutil
import re
import subprocess
import sys

import pytest

import scapy_netdump

#: These and what is below them. net.raw is for commands that were given an interface.
NEEDS_SCAPY = ("contrib", "generate", "layers", "net.raw", "scapy_tools", "wireshark.generator")


def imported_by(code: str) -> set[str]:
    """The modules, by full name, that are loaded after `code` ran in a fresh interpreter."""
    report = f"{code}\nimport sys\nprint(*sys.modules)"
    return set(subprocess.check_output([sys.executable, "-c", report], text=True).split())


def needs_scapy(module: str) -> bool:
    below = f"{module.removeprefix('scapy_netdump.')}."
    return any(below.startswith(f"{name}.") for name in NEEDS_SCAPY)


def modules_without_scapy() -> list[str]:
    found = pkgutil.walk_packages(scapy_netdump.__path__, "scapy_netdump.")
    return [
        module.name
        for module in found
        if not needs_scapy(module.name) and not module.name.endswith("__main__")
    ]


def test_importing_the_package_imports_neither_scapy_nor_numpy_nor_its_own_modules() -> None:
    loaded = imported_by("import scapy_netdump")
    assert loaded.isdisjoint({"scapy", "numpy"})
    assert {name for name in loaded if name.startswith("scapy_netdump")} == {"scapy_netdump"}


def test_no_module_but_the_layers_and_their_helpers_imports_scapy() -> None:
    names = modules_without_scapy()
    assert {"scapy_netdump.wire", "scapy_netdump.kerneldump.header"} <= set(names)
    assert "scapy" not in imported_by("import " + ", ".join(names))


def test_the_codec_needs_no_numpy() -> None:
    assert "numpy" not in imported_by("import scapy_netdump.wire, scapy_netdump.kerneldump.info")


def test_a_layer_is_loaded_when_it_is_touched() -> None:
    assert "scapy" in imported_by("import scapy_netdump; scapy_netdump.Netdump")


@pytest.mark.parametrize("name", scapy_netdump.__all__)
def test_every_exported_name_exists(name: str) -> None:
    assert getattr(scapy_netdump, name).__name__ == name
    assert name in dir(scapy_netdump)


@pytest.mark.parametrize("name", scapy_netdump.__all__)
def test_the_errors_that_docstrings_tell_of_are_exported(name: str) -> None:
    exported = getattr(scapy_netdump, name)
    members = vars(exported).values() if exported.__module__.startswith("scapy_netdump") else ()
    texts = [inspect.getdoc(one) or "" for one in (exported, *members)]
    told = {error for text in texts for error in re.findall(r"\b[A-Z]\w+Error\b", text)}
    assert {error for error in told if not hasattr(builtins, error)} <= {*scapy_netdump.__all__}


def test_the_version_is_the_distributions() -> None:
    assert scapy_netdump.__version__.count(".") == 2


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = scapy_netdump.nothing_such
