"""The report as one picture. The one module that imports matplotlib, which is optional."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from evals.report import Report
from proto.errors import Broken

_SHOWN = ("R@1", "R@10", "mAP")


def draw(report: Report, path: Path) -> None:
    """Write the picture: figures with intervals, and the reliability of confidences. Broken without matplotlib."""
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise Broken("the picture needs matplotlib", todo="pip install 'watchword[evals]'") from error

    with mpl.rc_context({"font.size": 8}):
        height = max(3.5, 0.42 * len(report.rows) + 1.2)
        figure = Figure(figsize=(11, height), layout="constrained")
        bars, line = figure.subplots(1, 2, width_ratios=(2, 1))
        _draw_figures(report, bars)
        _draw_reliability(report, line)
        figure.suptitle(f"{report.title}, {report.part} part", fontsize=9)
        path.parent.mkdir(parents=True, exist_ok=True)
        canvas: Any = FigureCanvasAgg(figure)
        canvas.print_png(str(path))


def _draw_figures(report: Report, axes: Any) -> None:
    """A group of bars for each slice, each with its interval."""
    names = [f"{row.name} (n={row.questions})" for row in report.rows]
    step = 0.8 / len(_SHOWN)
    for place, name in enumerate(_SHOWN):
        told = [
            (at, row.figures[name]) for at, row in enumerate(report.rows) if not math.isnan(row.figures[name].value)
        ]
        values = [one.value for _, one in told]
        below = [max(0.0, one.value - one.low) for _, one in told]
        above = [max(0.0, one.high - one.value) for _, one in told]
        heights = [at + (place - (len(_SHOWN) - 1) / 2) * step for at, _ in told]
        axes.barh(heights, values, step * 0.9, xerr=[below, above], label=name, error_kw={"elinewidth": 0.8})
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.legend(loc="lower right")


def _draw_reliability(report: Report, axes: Any) -> None:
    """Share of right hits against confidence; the area of a point is its number of hits."""
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle="--")
    bins = [one for one in report.bins if one.hits]
    if bins:
        most = max(one.hits for one in bins)
        sizes = [20 + 180 * one.hits / most for one in bins]
        axes.scatter([one.confidence for one in bins], [one.right for one in bins], s=sizes, alpha=0.6)
        for one in bins:
            axes.annotate(str(one.hits), (one.confidence, one.right), ha="center", va="center", fontsize=6)
    else:
        axes.text(0.5, 0.5, "no confidence given", ha="center")
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence told", ylabel="share of right hits", title="Reliability")
