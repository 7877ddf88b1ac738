"""What a course of questions came to: a table, a CSV file, a picture."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadtests.course import Course, Phase

_QUANTILES = (0.5, 0.95, 0.99)


def told(course: Course) -> str:
    """What is printed at the end."""
    names = sorted({name for phase in course.phases for name in phase.cpu_s}, key=lambda name: (name != "Locust", name))
    lines = [
        f"{'phase':<13}{'asked/s':>8}{'begun/s':>8}{'good/s':>8}{'good':>8}{'failed':>7}"
        f"{'p50 ms':>8}{'p95 ms':>8}{'p99 ms':>8}   processors: {', '.join(names)}"
    ]
    for one in course.phases:
        times = "".join(f"{1000 * one.quantile(share):8.0f}" for share in _QUANTILES)
        lines.append(
            f"{one.name:<13}{one.due / one.length_s:8.1f}{one.begun / one.length_s:8.1f}{one.goodput:8.1f}"
            f"{one.good_share:8.1%}{one.failed:7d}{times}   "
            + "  ".join(f"{one.cpu_s.get(name, math.nan) / one.length_s:.2f}" for name in names)
            + ("" if one.valid else "  INVALID: Locust was too slow")
        )
    lines.append("no knee" if course.knee is None else f"knee: {course.knee} questions a second")
    for verdict in course.verdicts():
        reached = "reached" if verdict.reached else "NOT REACHED"
        lines.append(f"{verdict.what}: {verdict.measured:.3f} (goal {verdict.goal:g}: {reached})")
    return "\n".join(lines)


def exit_code(course: Course) -> int:
    return 0 if all(one.reached for one in course.verdicts()) else 1


def write_csv(course: Course, file: Path) -> None:
    """One line a phase."""
    rows = [_row(phase) for phase in course.phases]
    with file.open("w", newline="") as out:
        writer = csv.DictWriter(out, fieldnames=list(dict.fromkeys(key for row in rows for key in row)))
        writer.writeheader()
        writer.writerows(rows)


def _row(phase: Phase) -> dict[str, Any]:
    return {
        "phase": phase.name,
        "cameras": phase.cameras,
        "asked_per_s": round(phase.due / phase.length_s, 2),
        "begun_share": round(phase.achieved, 4),
        "good_per_s": round(phase.goodput, 2),
        "good_share": round(phase.good_share, 4),
        "failed": phase.failed,
        **{f"p{share * 100:g}_ms": round(1000 * phase.quantile(share), 1) for share in _QUANTILES},
        **{f"cores_{name}": round(seconds / phase.length_s, 3) for name, seconds in phase.cpu_s.items()},
    }


def draw(course: Course, file: Path) -> None:
    """Goodput and p99 by the asked rate; after a spike or a soak, by time."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(7, 6))
    shown: Sequence[Phase] = [phase for phase in course.phases if phase.name != "step"]
    if any(phase.name in ("spike", "soak") for phase in shown):
        along = [phase.begins_s - shown[0].begins_s + phase.length_s / 2 for phase in shown]
        below.set(xlabel="seconds")
    else:
        shown = sorted((phase for phase in course.phases if phase.cameras), key=lambda phase: phase.rate)
        along = [float(phase.rate) for phase in shown]
        below.set(xlabel="questions asked, a second")
    above.plot(along, [phase.goodput for phase in shown], "o-", label="answered as promised")
    above.plot(along, [phase.due / phase.length_s for phase in shown], ":", color="gray", label="asked")
    above.set_ylabel("a second")
    above.legend()
    below.plot(along, [1000 * phase.quantile(0.99) for phase in shown], "o-", label="p99")
    below.plot(along, [1000 * phase.quantile(0.5) for phase in shown], "o-", label="p50")
    below.axhline(1000 * shown[0].promised_s, linestyle=":", color="gray", label="promised")
    below.set(yscale="log", ylabel="ms from when due")
    below.legend()
    figure.savefig(file, dpi=110, bbox_inches="tight")
    plt.close(figure)
