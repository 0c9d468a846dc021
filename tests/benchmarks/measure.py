# SPDX-License-Identifier: GPL-2.0-or-later
"""Times two shell commands against each other on a machine that others use too.

Absolute times on a shared machine swing by a factor of three within minutes, so commands run in
turns (A B, B A, A B, ...), the figure is the median of the ratios of neighbours, and a pair during
which the machine did something else is flagged and, where enough pairs are left, not counted.

Standard library only, so that this process stays small: a child's peak memory as Linux reports it
begins at that of the process that spawned it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

SYSTEM_JUMP = 1.5  # x the least system time of the same command; disturbance only ever adds
OTHER_LOAD = 0.15  # CPU seconds of other processes, and stolen by the hypervisor, per second
CLOCK = 0.05  # seconds; /proc/stat counts in steps of 0.01
ATTEMPTS = 3  # x the pairs wanted, until so many were undisturbed
BLOCK = 1 << 20
# In huge pages, because the page cache takes large pieces when it is written in large pieces.
TOUCH = """
import mmap, sys
memory = mmap.mmap(-1, int(sys.argv[1]), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
if hasattr(mmap, "MADV_HUGEPAGE"):
    memory.madvise(mmap.MADV_HUGEPAGE)
for page in range(0, len(memory), mmap.PAGESIZE):
    memory[page] = 1
"""


class CommandFailed(Exception):
    """A command ended with a status other than 0, or with a wrong result."""


@dataclass(frozen=True, slots=True)
class Task:
    """A shell command on a capture, to run in an empty directory; a check of what it left there.

    The check raises CommandFailed; it runs off the clock.
    """

    command: str
    capture: Path
    check: Callable[[Path], None] = lambda directory: None


@dataclass(frozen=True, slots=True)
class Run:
    """What one run cost: seconds of wall, user, system and other processes' time; peak bytes.

    The peak is that of the largest process, its resident pages of mapped files counted in.
    """

    seconds: float
    user: float
    system: float
    other: float
    peak_rss: int


@dataclass(frozen=True, slots=True)
class Pair:
    """A run and its neighbour: the run of the reference, or None for an absolute time."""

    run: Run
    reference: Run | None
    scale: float = 1.0

    @property
    def value(self) -> float:
        """Run time over reference time, scaled; or the run time in seconds."""
        if self.reference is None:
            return self.run.seconds
        return self.run.seconds / self.reference.seconds * self.scale

    @property
    def runs(self) -> list[Run]:
        return [self.run] if self.reference is None else [self.run, self.reference]


@dataclass(frozen=True, slots=True)
class Series:
    """All pairs of one comparison, and those that count."""

    pairs: list[Pair]
    wanted: int

    @property
    def undisturbed(self) -> list[Pair]:
        """The pairs in which no run shows another process's load or a jump in system time."""
        limits = [
            SYSTEM_JUMP * min(run.system for run in runs) + CLOCK
            for runs in zip(*(pair.runs for pair in self.pairs), strict=True)
        ]
        return [
            pair
            for pair in self.pairs
            if not any(
                run.system > limit or run.other > OTHER_LOAD * run.seconds + CLOCK
                for run, limit in zip(pair.runs, limits, strict=True)
            )
        ]

    @property
    def trusted(self) -> bool:
        """Whether at least half as many undisturbed pairs as wanted were found."""
        return 2 * len(self.undisturbed) >= self.wanted

    @property
    def counted(self) -> list[Pair]:
        return self.undisturbed if self.trusted else self.pairs

    @property
    def median(self) -> float:
        return median(pair.value for pair in self.counted)

    @property
    def range(self) -> tuple[float, float]:
        values = [pair.value for pair in self.counted]
        return min(values), max(values)

    @property
    def cpu(self) -> float:
        """Median user and system seconds of the command that is measured."""
        return median(pair.run.user + pair.run.system for pair in self.counted)

    @property
    def peak_rss(self) -> int:
        """The most memory that any run of the command took, in bytes."""
        return max(pair.run.peak_rss for pair in self.pairs)


def cpu_seconds() -> float:
    """CPU time that all processes have used, and that the hypervisor stole, since boot.

    The first line of /proc/stat, proc_stat(5); 0 where there is none.
    """
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    except OSError:
        return 0.0
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def blocks(path: Path) -> Iterator[bytes]:
    """The content of a file."""
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


def warm(capture: Path) -> None:
    """Brings a capture into the page cache, and twice its size of free memory into being.

    A virtual machine may hand free memory back to its host. Pages that were never used, or not
    for seconds, then cost several times what ``cp`` costs, and whichever command gets them pays.
    """
    for _ in blocks(capture):
        pass
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    size = min(2 * capture.stat().st_size, memory // 4)
    subprocess.run([sys.executable, "-c", TOUCH, str(size)], check=True)


def execute(task: Task, directory: Path) -> Run:
    """Runs a task in a new directory below ``directory``, and checks its result there.

    Raises CommandFailed.
    """
    warm(task.capture)
    with TemporaryDirectory(dir=directory) as place:
        before, start = cpu_seconds(), time.perf_counter()
        child = subprocess.Popen(["sh", "-c", task.command], cwd=place)
        _, status, usage = os.wait4(child.pid, 0)
        seconds, busy = time.perf_counter() - start, cpu_seconds() - before
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise CommandFailed(f"status {child.returncode}: {task.command}")
        task.check(Path(place))
    other = max(0.0, busy - usage.ru_utime - usage.ru_stime)
    return Run(seconds, usage.ru_utime, usage.ru_stime, other, usage.ru_maxrss * 1024)


def pairs(task: Task, reference: Task | None, scale: float, directory: Path) -> Iterator[Pair]:
    """Runs both in turns, the first to go alternating, without end. Raises CommandFailed."""
    while True:
        if reference is None:
            yield Pair(execute(task, directory), None)
            continue
        run = execute(task, directory)
        yield Pair(run, execute(reference, directory), scale)
        second = execute(reference, directory)
        yield Pair(execute(task, directory), second, scale)


def compare(task: Task, reference: Task | None, scale: float, runs: int, directory: Path) -> Series:
    """Runs pairs until ``runs`` of them were undisturbed, but at most ATTEMPTS times as many.

    ``scale`` corrects the ratio where both commands did not work on the same number of bytes.
    Raises CommandFailed.
    """
    found: list[Pair] = []
    for pair in pairs(task, reference, scale, directory):
        found.append(pair)
        series = Series(found, runs)
        if len(series.undisturbed) >= runs or len(found) == ATTEMPTS * runs:
            return series
    raise AssertionError("pairs() has no end")
