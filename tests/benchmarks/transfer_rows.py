# SPDX-License-Identifier: GPL-2.0-or-later
"""What the transfer benchmark measures, and what is asked for. Standard library only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeAlias

from trials import Bench, Load, Run

Trial: TypeAlias = Callable[[Bench], Run]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a run, or of a run and its reference's; more is better, or less is.

    ``pick`` makes one of the figures of all runs.
    """

    name: str
    value: Callable[[Run, Run], float]
    must: float
    aim: float | None = None
    more: bool = True
    pick: Callable[[Sequence[float]], float] = median

    def verdict(self, value: float) -> str:
        """How a value stands to what was asked for."""
        sign = 1 if self.more else -1
        if sign * value < sign * self.must:
            return "MISSED"
        return "aim" if self.aim is not None and sign * value >= sign * self.aim else "ok"


@dataclass(frozen=True, slots=True)
class Row:
    """A transfer, the one it is measured against, and the figures that come of it.

    Without a reference, a run is its own.
    """

    name: str
    trial: Trial
    reference: Trial | None
    figures: tuple[Figure, ...]


def ours(load: Load, offload: bool = True) -> Trial:
    return lambda bench: bench.receive(bench.server(offload), load)


def c_server(load: Load) -> Trial:
    return lambda bench: bench.receive(bench.c_server(), load)


def client(options: str = "", link: str = "", share: float = 1.0) -> Trial:
    return lambda bench: bench.send(bench.client(options), link, share)


def c_client(options: str, share: float) -> Trial:
    return lambda bench: bench.send(bench.c_client(options), "", share)


def both(bench: Bench) -> Run:
    return bench.send_to_server(bench.client(""), 4.0)


def speed(must: float, aim: float) -> Figure:
    return Figure("speed ratio", lambda run, other: run.speed / other.speed, must, aim)


def cpu(must: float, aim: float) -> Figure:
    return Figure(
        "CPU ratio", lambda run, other: run.cpu_per_gb / other.cpu_per_gb, must, aim, more=False
    )


NO_RESENDS = Figure("resends", lambda run, _: run.resent, 0, more=False, pick=max)
RESENT_PER_LOST = Figure(
    "resent / lost", lambda run, _: run.resent / max(1, run.lost), 1.2, 1.0, more=False
)
MEMORY = Figure("peak MB", lambda run, _: run.peak / 1e6, 64, more=False, pick=max)
LONGEST_DELAY = Figure("longest ack, ms", lambda run, _: run.longest, 100, more=False, pick=max)
MB_PER_SECOND = Figure("MB/s", lambda run, _: run.speed, 300, 500)

ONE, FOUR = Load(), Load(clients=4)
COALESCED = Load("-g", clients=4)
KERNEL = Load("-k")
ONE_BY_ONE = Load("-w 1", share=0.25)
WINDOW_256, JUMBO = Load("-w 256"), Load("-n 8948")
MANY = Load(clients=64)
BESIDE_SLOW = Load("-w 256", slow=8)
FAR = "-d 1000"  # microseconds of round trip
LOSSY = "-l 1"

ROWS = (
    Row("server: 1 dump", ours(ONE), c_server(ONE), (speed(1.0, 1.4), cpu(1.0, 0.7))),
    Row("server: 4 dumps", ours(FOUR), c_server(FOUR), (speed(1.0, 1.4), cpu(1.0, 0.7))),
    Row("server: 4 dumps coalesced", ours(COALESCED), c_server(COALESCED), (speed(1.5, 2.5),)),
    Row("server: kernel discipline", ours(KERNEL), c_server(KERNEL), (speed(1.0, 1.25),)),
    Row("server: stop-and-wait", ours(ONE_BY_ONE), c_server(ONE_BY_ONE), (speed(0.7, 0.8),)),
    Row("server: window 256", ours(WINDOW_256), None, (NO_RESENDS,)),
    Row("server: jumbo", ours(JUMBO), None, (NO_RESENDS,)),
    Row("server: no GRO/GSO", ours(ONE, offload=False), c_server(ONE), (speed(0.7, 0.85),)),
    Row("server: 8 slow dumps beside a fast one", ours(BESIDE_SLOW), None, (LONGEST_DELAY,)),
    Row("server: 64 dumps", ours(MANY), None, (MEMORY,)),
    Row("client / stop-and-wait", client(), c_client("-w 1", 0.25), (speed(10, 17),)),
    Row("client / --kernel", client(), client("--kernel"), (speed(1.5, 1.8),)),
    Row(
        "client / --kernel at 1 ms",
        client("", FAR), client("--kernel", FAR, 0.25), (speed(3, 5),)
    ),
    Row(
        "client: 1 % loss / none",
        client("", LOSSY), client(), (speed(0.7, 0.85), RESENT_PER_LOST)
    ),
    Row("client to server", both, None, (MB_PER_SECOND,)),
)  # fmt: skip
