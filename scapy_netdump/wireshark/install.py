# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts the dissector and the profile where Wireshark looks for them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from ..errors import NetdumpError

_HERE = Path(__file__).parent
SCRIPT_NAME = "fbsd_netdump.lua"
PROFILE_NAME = "netdump"

#: What `-G folders` calls them; all versions since 2.x print these lines.
_PLUGINS = "Personal Lua Plugins"
_CONFIGURATION = "Personal configuration"
_PATIENCE = 60  # seconds


class WiresharkError(NetdumpError):
    """Wireshark is not here, does not say where its files go, or they cannot be written."""


def dissector() -> str:
    """The text of the dissector."""
    return _HERE.joinpath(SCRIPT_NAME).read_text()


def install() -> Path:
    """Put the dissector into the personal plugin folder; where it is now."""
    path = _folder(_PLUGINS) / SCRIPT_NAME
    write(path, dissector())
    return path


def uninstall() -> Path | None:
    """Take the dissector out of the personal plugin folder: where it was, None if it was not."""
    path = _folder(_PLUGINS) / SCRIPT_NAME
    try:
        path.unlink()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise WiresharkError(f"{path}: not removed: {error.strerror}") from None
    return path


def install_profile() -> Path:
    """Put the profile among Wireshark's; where it is now."""
    folder = _folder(_CONFIGURATION) / "profiles" / PROFILE_NAME
    for source in sorted(_HERE.joinpath("profile").iterdir()):
        write(folder / source.name, source.read_text())
    return folder


def write(path: Path, text: str) -> None:
    """Make a file, folders above it included, whole or not at all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "w") as file:
                file.write(text)
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise WiresharkError(f"{path}: not written: {error.strerror}") from None


def _folder(name: str) -> Path:
    """A folder of Wireshark's, as the installed tshark or wireshark itself tells."""
    program = shutil.which("tshark") or shutil.which("wireshark")
    if program is None:
        raise WiresharkError(
            "neither tshark nor wireshark is installed: install one, or write the script "
            "where you want it with `netdump lua -o FILE`"
        )
    try:
        listed = subprocess.run(
            [program, "-G", "folders"], capture_output=True, text=True, timeout=_PATIENCE
        ).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WiresharkError(f"{program} -G folders: {error}") from None
    for line in listed.splitlines():
        key, _, folder = line.partition(":")
        if key.strip() == name and folder.strip():
            return Path(folder.strip())
    raise WiresharkError(
        f"{program} -G folders names no folder for {name}: it may lack Lua; "
        "`netdump lua -o FILE` writes the script anywhere"
    )
