# SPDX-License-Identifier: GPL-2.0-or-later
"""The transfer benchmark's programs in C, compiled when it runs. Standard library only."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
FLAGS = ("-O2", "-Wall", "-Wextra")


@dataclass(frozen=True, slots=True)
class Programs:
    """Where the compiled programs are; the comment in each .c file tells what it does."""

    server: Path
    generator: Path
    sink: Path
    without_offload: Path


def build(directory: Path) -> Programs:
    """Compiles all programs into a directory. Raises FileNotFoundError without a compiler,
    CalledProcessError, with the compiler's messages on standard error, if one is faulty."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        raise FileNotFoundError("no C compiler: install one that can be called as cc")

    def compiled(name: str, *flags: str) -> Path:
        target = directory / name
        source = str(HERE / f"{name}.c")
        subprocess.run([compiler, *FLAGS, *flags, "-o", str(target), source], check=True)
        return target

    return Programs(
        server=compiled("server"),
        generator=compiled("generator"),
        sink=compiled("sink"),
        without_offload=compiled("without_offload", "-shared", "-fPIC"),
    )
