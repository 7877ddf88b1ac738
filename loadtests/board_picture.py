"""Draws a dashboard with matplotlib, from the series that Prometheus gave for its queries. It is not Grafana's page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COLUMNS = 24
_UNITS = {"percentunit": (100, " %"), "s": (1, " s"), "ops": (1, " /s"), "bytes": (1e-9, " GB"), "short": (1, "")}


@dataclass(frozen=True)
class Line:
    """One series of a panel: seconds and values."""

    legend: str
    times: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class Drawn:
    """A panel with what it shows."""

    title: str
    unit: str
    number: bool
    """Whether its last value is shown as a number."""
    width: int
    good_from: float = -math.inf
    lines: list[Line] = field(default_factory=list)


def draw_board(title: str, panels: Sequence[Drawn], file: Path) -> None:
    """A PNG of the dashboard."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    rows = _rows(panels)
    heights = [1.0 if all(panel.number for panel in row) else 2.0 for row in rows]
    figure = plt.figure(figsize=(11, 1.15 * sum(heights) + 0.6))
    grid = figure.add_gridspec(len(rows), COLUMNS, height_ratios=heights, hspace=0.55, wspace=3.2)
    figure.suptitle(title, x=0.125, y=0.92, ha="left", fontsize=13, fontweight="bold")
    for place, row in enumerate(rows):
        column = 0
        for panel in row:
            axes = figure.add_subplot(grid[place, column : column + panel.width])
            column += panel.width
            axes.set_title(panel.title, fontsize=8, loc="left")
            (_number if panel.number else _lines)(axes, panel)
    figure.savefig(file, dpi=90, bbox_inches="tight")
    plt.close(figure)


def _rows(panels: Sequence[Drawn]) -> list[list[Drawn]]:
    rows: list[list[Drawn]] = [[]]
    for panel in panels:
        if sum(one.width for one in rows[-1]) + panel.width > COLUMNS:
            rows.append([])
        rows[-1].append(panel)
    return rows


def _number(axes: Any, panel: Drawn) -> None:
    axes.axis("off")
    scale, unit = _UNITS[panel.unit]
    last = [line.values[-1] for line in panel.lines if line.values]
    text, good = (f"{last[0] * scale:.4g}{unit}", last[0] >= panel.good_from) if last else ("no data", False)
    axes.text(0.5, 0.4, text, ha="center", va="center", fontsize=22, color="tab:green" if good else "tab:red")


def _lines(axes: Any, panel: Drawn) -> None:
    scale, unit = _UNITS[panel.unit]
    latest = max((line.times[-1] for line in panel.lines if line.times), default=0.0)
    for line in panel.lines:
        along = [(at_s - latest) / 60 for at_s in line.times]
        axes.plot(along, [value * scale for value in line.values], linewidth=1.1, label=line.legend)
    shown = [value * scale for line in panel.lines for value in line.values] or [0.0]
    axes.set_ylim(1.1 * min(0.0, *shown), 1.15 * max(*shown, 1e-3))
    axes.tick_params(labelsize=6)
    axes.set_ylabel(unit.strip(), fontsize=7)
    axes.set_xlabel("minutes", fontsize=6, loc="right", labelpad=0)
    axes.grid(alpha=0.3)
    if panel.lines:
        axes.legend(fontsize=6, loc="upper left", frameon=False, ncols=3)
