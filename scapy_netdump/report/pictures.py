# SPDX-License-Identifier: GPL-2.0-or-later
"""The pictures of a report, as PNG, drawn by matplotlib, which is an extra.

However long a dump is, a picture is drawn from at most a few thousand numbers. The colours are
those of Okabe and Ito, which people with any kind of colour vision can tell apart.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from ..core.observing.batch import Floats, Ints
from ..errors import NetdumpError
from ..kerneldump.regions import Range, Region
from .bins import BINS, NOTHING_HIGH
from .coverage import missing_share
from .numbers import share_text, size_text, time_text
from .timeline import Phase, Timeline, delay_edges

try:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.ticker import EngFormatter, MaxNLocator
except ImportError:
    raise NetdumpError(
        "pictures need the Python package matplotlib: pip install 'scapy-netdump[report]'"
    ) from None

_BLUE, _SKY, _GREEN, _ORANGE, _RED, _GREY = (
    *("#0072B2", "#56B4E9", "#009E73", "#E69F00", "#D55E00", "#8A8A8A"),
)
_INK, _FAINT = "#222222", "#E2E2E2"

#: Each phase: its colour, and what it is called.
_PHASES = {
    Phase.START: (_GREY, "HERALD not answered yet"),
    Phase.SENDING: (_GREEN, "client sends"),
    Phase.FIRST_ACK: (_BLUE, "waits for the first ack"),
    Phase.MORE_ACKS: (_SKY, "waits for more acks"),
    Phase.BETWEEN: (_ORANGE, "all acked, client pauses"),
    Phase.RESEND: (_RED, "waits, then sends again"),
}
_WIDTH, _DPI = 10.0, 110
_COLUMNS = 256  # in pictures of what happened a second: more would be noise
_CELLS = 1000
_MAX_REGIONS = 24
_HEADROOM = 1.4  # above the bars, for the legend
_LEAST_STALL = 0.002  # of the picture's width, so that each can be seen


def transfer_picture(timeline: Timeline) -> bytes:
    """Offset, throughput, messages in flight and the client's waiting, over time."""
    figure = Figure((_WIDTH, 8.6), _DPI, layout="constrained")
    axes: Sequence[Axes] = figure.subplots(
        4, 1, sharex=True, gridspec_kw={"height_ratios": (3.2, 1.3, 1.1, 1.1)}
    )
    span = max(timeline.end / 1e9, 1e-6)
    _draw_offset(axes[0], timeline, span)
    _draw_throughput(axes[1], timeline)
    _draw_in_flight(axes[2], timeline)
    _draw_phases(axes[3], timeline)
    for part in axes:
        _plain(part)
        part.yaxis.set_label_coords(-0.065, 0.5)
    axes[3].set_xlim(0, span)
    axes[3].xaxis.set_major_formatter(EngFormatter("s"))
    begin = "the HERALD" if timeline.heralded else "the first message that was captured"
    axes[3].set_xlabel(f"time since {begin}")
    spent = [phase for phase in Phase if timeline.totals.phases[phase]]
    handles = [Patch(color=_PHASES[phase][0], label=_PHASES[phase][1]) for phase in spent]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9,
    )  # fmt: skip
    return _png(figure)


def waiting_picture(timeline: Timeline) -> bytes:
    """Where the time went, and how long acks took."""
    figure = Figure((_WIDTH, 3.4), _DPI, layout="constrained")
    shares, delays = figure.subplots(1, 2, gridspec_kw={"width_ratios": (1, 1.15)})
    _draw_shares(shares, timeline)
    _draw_delays(delays, timeline)
    _plain(delays)
    _plain(shares)
    shares.grid(visible=False)
    return _png(figure)


def coverage_picture(regions: Sequence[Region], missing: Sequence[Range]) -> bytes:
    """What of each region of the file is here, and where the holes are."""
    shown = [region for region in regions if region.size][:_MAX_REGIONS]
    whole = Region("whole file", 0, max((region.end for region in regions), default=0))
    rows = [whole, *shown] if whole.size and len(shown) > 1 else shown
    figure = Figure((_WIDTH, 1.1 + 0.36 * len(rows)), _DPI, layout="constrained")
    axes = figure.subplots()
    for number, region in enumerate(rows):
        _draw_region(axes, number, region, missing)
    axes.set_yticks(range(len(rows)), [_cut(row.name) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 1.0)
    axes.set_xticks(np.linspace(0, 1, 5), ["start", "25 %", "50 %", "75 %", "end"])
    axes.set_xlabel("place within the region; each row is scaled to its own size")
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.legend(
        handles=[Patch(color=_SKY, label="here"), Patch(color=_RED, label="missing")],
        loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False, fontsize=9,
    )  # fmt: skip
    return _png(figure)


# ---------------------------------------------------------------- panels


def _draw_offset(axes: Axes, timeline: Timeline, span: float) -> None:
    seconds = _edges(timeline)[:-1]
    bins = timeline.bins
    for stall in timeline.stalls:
        begin, end = stall.begin / 1e9, stall.end / 1e9
        middle, half = (begin + end) / 2, max(end - begin, span * _LEAST_STALL) / 2
        colour = _PHASES[stall.phase][0]
        axes.axvspan(middle - half, middle + half, fc=colour, ec="white", alpha=0.2, lw=1)
    scale, unit = _scale(int(max(bins["offset_high"].max(), 1)))
    width = bins.width / 1e9
    used = np.flatnonzero(bins["offset_high"] != NOTHING_HIGH)
    low, high = (bins[name][used] / scale for name in ("offset_low", "offset_high"))
    height = np.maximum(high - low, 0)
    axes.vlines(seconds[used] + width / 2, low, low + height, color=_BLUE, lw=1.6)
    reached = np.append(np.maximum.accumulate(high), high.max(initial=0))
    places = np.append(seconds[used] + width / 2, span)
    axes.plot(places, reached, color=_BLUE, lw=1.6, drawstyle="steps-post", label="new data")
    again = np.flatnonzero(bins["again_high"] != NOTHING_HIGH)
    if len(again):
        places = (bins["again_low"][again] + bins["again_high"][again]) / 2 / scale
        axes.plot(
            seconds[again] + width / 2, places, ls="", marker="v", ms=5, color=_INK,
            mfc=_ORANGE, mew=0.7, label="sent again, or late",
        )  # fmt: skip
    handles = axes.get_legend_handles_labels()[0]
    for phase in dict.fromkeys(stall.phase for stall in timeline.stalls):
        colour, name = _PHASES[phase]
        handles.append(Patch(color=colour, alpha=0.3, label=f"stall: {name}"))
    axes.legend(handles=handles, loc="upper left", fontsize=9, framealpha=0.9)
    axes.set_ylabel(f"offset ({unit})")
    axes.set_ylim(bottom=0)


def _draw_throughput(axes: Axes, timeline: Timeline) -> None:
    edges, (new, again) = _columns(timeline, np.add, "new_bytes", "again_bytes")
    width = np.diff(edges)
    scale, unit = _rate_scale(float(((new + again) / width).max(initial=0)))
    axes.stairs(new / width / scale, edges, fill=True, color=_BLUE, label="new")
    if again.any():
        total = (new + again) / width / scale
        axes.stairs(total, edges, baseline=new / width / scale, fill=True, color=_ORANGE,
                    label="again")  # fmt: skip
        axes.legend(loc="upper right", fontsize=9, framealpha=0.9, ncols=2)
    axes.set_ylabel(unit)
    highest = float(((new + again) / width / scale).max(initial=0))
    axes.set_ylim(0, max(highest, 1.0) * _HEADROOM)


def _draw_in_flight(axes: Axes, timeline: Timeline) -> None:
    edges, (spent,) = _columns(timeline, np.add, "flight_time")
    _, (most,) = _columns(timeline, np.maximum, "in_flight")
    mean = spent / 1e9 / np.diff(edges)
    axes.stairs(np.maximum(most, mean), edges, fill=True, color=_GREEN, alpha=0.4, label="most")
    axes.stairs(mean, edges, fill=True, color=_GREEN, label="on average")
    axes.legend(loc="upper right", fontsize=9, framealpha=0.9, ncols=2)
    axes.set_ylabel("messages\nin flight")
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_ylim(0, max(float(np.maximum(most, mean).max(initial=0)), 1.0) * _HEADROOM)


def _draw_phases(axes: Axes, timeline: Timeline) -> None:
    edges, columns = _columns(timeline, np.add, *(phase.name for phase in Phase))
    total = np.maximum(sum(columns), 1)
    base = np.zeros(len(edges) - 1)
    for phase, column in zip(Phase, columns, strict=True):
        top = base + column / total * 100
        if column.any():
            axes.stairs(top, edges, baseline=base, fill=True, color=_PHASES[phase][0])
        base = top
    axes.set_ylabel("time spent\n(%)")
    axes.set_ylim(0, 100)


def _draw_shares(axes: Axes, timeline: Timeline) -> None:
    spent = timeline.totals.phases
    whole = max(timeline.end, 1)
    for row, phase in enumerate(Phase):
        colour, _ = _PHASES[phase]
        percent = spent[phase] / whole * 100
        axes.barh(row, percent, color=colour, height=0.7)
        told = f"{share_text(spent[phase], whole)}, {time_text(spent[phase] / 1e9)}"
        axes.text(percent + 1.5, row, told if spent[phase] else "none", va="center", fontsize=9)
    axes.set_yticks(range(len(Phase)), [name for _, name in _PHASES.values()])
    axes.set_ylim(len(Phase) - 0.5, -0.5)
    axes.set_xlim(0, 140)
    axes.set_xticks(range(0, 101, 25))
    axes.set_xlabel("share of the time (%)")
    axes.set_title("Where the time went", fontsize=10, loc="left")


def _draw_delays(axes: Axes, timeline: Timeline) -> None:
    once, late = timeline.delays, timeline.late_delays
    axes.set_title("From a message to its ack", fontsize=10, loc="left")
    axes.set_ylabel("messages")
    used = np.flatnonzero(once + late)
    if not len(used):
        axes.text(0.5, 0.5, "no acks seen", ha="center", transform=axes.transAxes)
        axes.set_xticks([])
        axes.set_yticks([])
        return
    low, high = max(int(used[0]) // 4 * 4 - 4, 1), int(used[-1]) + 5
    edges = delay_edges()[low : high + 1]
    counts = {"sent once": (once, _BLUE), "sent again": (late, _ORANGE)}
    base = np.zeros(high - low)
    for name, (count, colour) in counts.items():
        if count.any():
            top = base + count[low:high]
            axes.stairs(top, edges, baseline=base, fill=True, color=colour, label=name)
            base = top
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(EngFormatter("s"))
    axes.set_xlabel("time from its first copy to its first ack")
    axes.yaxis.set_major_formatter(EngFormatter())
    if late.any():
        axes.legend(loc="upper right", fontsize=9, framealpha=0.9)


def _draw_region(axes: Axes, row: int, region: Region, missing: Sequence[Range]) -> None:
    share = missing_share(region, missing, _CELLS)
    axes.barh(row, 1, color=_SKY, height=0.62)
    edges = np.linspace(0, 1, len(share) + 1)
    holes = np.flatnonzero(share)
    middle = (edges[holes] + edges[holes + 1]) / 2
    width = np.maximum(np.diff(edges)[holes], 1 / 500)
    axes.barh(np.full(len(holes), row), width, left=middle - width / 2, color=_RED, height=0.62)
    lost = sum(end - start for start, end in region.missing(missing))
    told = f"{size_text(lost)} missing" if lost else "whole"
    axes.text(1.01, row, f"{size_text(region.size)}, {told}", va="center", fontsize=9)


# ---------------------------------------------------------------- what panels have in common


def _edges(timeline: Timeline) -> Floats:
    """The bounds of the bins that are in use, in seconds."""
    width = timeline.bins.width
    used = min(BINS, timeline.end // width + 1)
    return np.asarray(np.arange(used + 1) * (width / 1e9), np.float64)


def _columns(timeline: Timeline, join: np.ufunc, *names: str) -> tuple[Floats, list[Ints]]:
    """Some rows of the bins with neighbours joined, so that _COLUMNS are left at most."""
    edges = _edges(timeline)
    joined = -(-(len(edges) - 1) // _COLUMNS)
    starts = np.arange(0, len(edges) - 1, joined)
    rows = [join.reduceat(timeline.bins[name][: len(edges) - 1], starts) for name in names]
    return np.append(edges[starts], edges[-1]), rows


def _scale(size: int) -> tuple[float, str]:
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >= 1 << power:
            return float(1 << power), unit
    return 1.0, "bytes"


def _rate_scale(rate: float) -> tuple[float, str]:
    for factor, unit in ((1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s")):
        if rate >= factor:
            return factor, unit
    return 1.0, "B/s"


def _cut(name: str) -> str:
    return name if len(name) <= 32 else f"{name[:29]}..."


def _plain(axes: Axes) -> None:
    axes.grid(color=_FAINT, lw=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, colors=_INK)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _png(figure: Figure) -> bytes:
    figure.set_facecolor("white")
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
