"""How many questions a second can be answered? An open loop of Locust against the embedded stack, while cameras run.

    python -m loadtests.load [--out FOLDER] [--set KEY=VALUE] [--keep FOLDER]          (`make load`)

Questions arrive at random times, whether earlier ones were answered or not, and a latency counts from the time at
which its question was due. The rate rises in steps until one is twice not kept up with; the highest that was is the
knee. Then half of the knee and twice the knee are held. A question is answered well when its answer comes within 0.5 s,
which is what users are promised. A phase in which Locust began less than 99 % of the questions in time is invalid.

FOLDER gets Locust's CSV files and report.html, and knee.png. Exits with 1 when half of the knee breaks the promise, or
is invalid. Against another stack: `locust -f loadtests/locustfile.py --headless --host HOST:PORT --csv load`.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import itertools
import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

PROMISED_S = 0.5
PROMISED_SHARE = 0.99
VALID_SHARE = 0.99
FIRST_RATE, GROWTH, MOST_RATE = 10, 1.4, 2000
STEP_S, HOLD_S, REST_S, LULL_S = 8.0, 25.0, 2.0, 6.0
"""After a phase its rate goes on for `REST_S`, so that its last answers come as the others. After one that was not kept
up with hardly anything is asked for `LULL_S`, so that the next one does not wait behind what it left."""


class Zipf:
    """Draws the numbers 0 to `count` - 1, the n-th as often as 1 / (n + 1) ** `skew` says: few are asked often."""

    def __init__(self, count: int, skew: float, chance: Callable[[], float] = random.random) -> None:
        self._chance = chance
        self._reach = list(itertools.accumulate((n + 1) ** -skew for n in range(count)))

    def draw(self) -> int:
        return bisect.bisect_right(self._reach, self._chance() * self._reach[-1], hi=len(self._reach) - 1)


@dataclass
class Phase:
    """A span of one rate, and what became of the questions that were due in it."""

    name: str
    rate: int
    begins_s: float
    ends_s: float
    due: int = 0
    begun: int = 0
    failed: int = 0
    latencies: list[float] = field(default_factory=list)
    """Seconds from when a question was due to its answer."""
    cpu_s: float = 0.0
    """Processor time of Locust itself."""

    @property
    def length_s(self) -> float:
        return self.ends_s - self.begins_s

    @property
    def achieved(self) -> float:
        """The share of the questions that Locust began while the phase lasted."""
        return self.begun / self.due if self.due else 0.0

    @property
    def good_share(self) -> float:
        """The share of the due questions that were answered well."""
        return sum(one <= PROMISED_S for one in self.latencies) / self.due if self.due else 0.0

    @property
    def goodput(self) -> float:
        return self.good_share * self.due / self.length_s

    @property
    def kept(self) -> bool:
        return self.achieved >= VALID_SHARE and self.good_share >= PROMISED_SHARE

    def quantile(self, share: float) -> float:
        return float(np.quantile(self.latencies, share)) if self.latencies else float("nan")


class Course:
    """Which rate is asked when, and the account of it. Pure: time is an argument."""

    def __init__(self) -> None:
        self.phases: list[Phase] = []

    def rate(self, now_s: float) -> int | None:
        """The rate to ask now; None once everything was asked."""
        if not self.phases:
            self._begin("step", FIRST_RATE, now_s, STEP_S)
            return FIRST_RATE
        last = self.phases[-1]
        over_s = now_s - last.ends_s
        if over_s < REST_S:
            return last.rate
        if over_s < REST_S + LULL_S and not last.kept:
            return 1
        return self.phases[-1].rate if self._next(now_s) else None

    def due(self, due_s: float, begun_s: float) -> None:
        """A question was due then, and Locust began it then."""
        if phase := self._at(due_s):
            phase.due += 1
            phase.begun += begun_s < phase.ends_s

    def answered(self, due_s: float, now_s: float) -> None:
        if phase := self._at(due_s):
            phase.latencies.append(now_s - due_s)

    def failed(self, due_s: float) -> None:
        if phase := self._at(due_s):
            phase.failed += 1

    @property
    def current(self) -> Phase | None:
        return self.phases[-1] if self.phases else None

    @property
    def knee(self) -> Phase | None:
        """The highest step that was kept up with; None when none was."""
        kept = (phase for phase in self.phases if phase.name == "step" and phase.kept)
        return max(kept, key=lambda phase: phase.rate, default=None)

    def called(self, name: str) -> Phase | None:
        return next((phase for phase in self.phases if phase.name == name), None)

    def _next(self, now_s: float) -> bool:
        last, knee = self.phases[-1], self.knee
        tried = sum(phase.rate == last.rate for phase in self.phases)
        if last.name == "step" and last.kept and last.rate < MOST_RATE:
            self._begin("step", max(last.rate + 1, round(last.rate * GROWTH)), now_s, STEP_S)
        elif last.name == "step" and not last.kept and tried == 1:
            self._begin("step", last.rate, now_s, STEP_S)  # another program may have been at work
        elif last.name == "step" and knee is not None:
            self._begin("half", max(1, knee.rate // 2), now_s, HOLD_S)
        elif last.name == "half" and knee is not None:
            self._begin("twice", 2 * knee.rate, now_s, HOLD_S)
        else:
            return False
        return True

    def _begin(self, name: str, rate: int, now_s: float, length_s: float) -> None:
        self.phases.append(Phase(name, rate, now_s, now_s + length_s))

    def _at(self, due_s: float) -> Phase | None:
        place = bisect.bisect_right(self.phases, due_s, key=lambda phase: phase.begins_s) - 1
        return self.phases[place] if place >= 0 and due_s < self.phases[place].ends_s else None


def told(course: Course) -> str:
    """What is printed at the end."""
    lines = [
        f"{'phase':<8}{'asked/s':>9}{'begun/s':>9}{'good/s':>8}{'good':>8}{'failed':>8}"
        f"{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}{'Locust, cores':>15}"
    ]
    for one in course.phases:
        times = "".join(f"{1000 * one.quantile(share):9.0f}" for share in (0.5, 0.95, 0.99))
        lines.append(
            f"{one.name:<8}{one.due / one.length_s:9.1f}{one.begun / one.length_s:9.1f}{one.goodput:8.1f}"
            f"{one.good_share:8.1%}{one.failed:8d}{times}{one.cpu_s / one.length_s:15.2f}"
            + ("" if one.achieved >= VALID_SHARE else "  INVALID: Locust was too slow")
        )
    knee, twice = course.knee, course.called("twice")
    if knee is None:
        return "\n".join([*lines, f"no knee: even {FIRST_RATE} questions a second were not kept up with"])
    lines.append(f"knee: {knee.rate} questions a second")
    if twice is not None:
        lines.append(f"goodput at twice the knee / at the knee: {twice.goodput / knee.goodput:.2f}")
    return "\n".join(lines)


def verdict(course: Course) -> int:
    """The exit code."""
    half = course.called("half")
    return 0 if half is not None and half.kept else 1


def draw(course: Course, file: Path) -> None:
    """Goodput and p99 by the asked rate."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown: Sequence[Phase] = sorted(course.phases, key=lambda phase: phase.rate)
    figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(7, 6))
    rates = [phase.rate for phase in shown]
    above.plot(rates, [phase.goodput for phase in shown], "o-")
    above.plot(rates, rates, ":", color="gray")
    above.set_ylabel("answered well, a second")
    below.plot(rates, [1000 * phase.quantile(0.99) for phase in shown], "o-")
    below.axhline(1000 * PROMISED_S, linestyle=":", color="gray")
    below.set(yscale="log", ylabel="p99, ms from when due", xlabel="questions asked, a second")
    figure.savefig(file, dpi=110, bbox_inches="tight")
    plt.close(figure)


async def load(asked: argparse.Namespace, folder: Path) -> int:
    """The embedded stack with the clips as cameras, and Locust beside it."""
    from loadtests.rig import running, say, settings_in
    from proto.types import Camera
    from tests.clips import CLIPS
    from watchword.catalogs import open_registry

    more = dict(one.split("=", 1) for one in asked.set)
    settings = settings_in(folder / "data", {"cache_dir": Path.home() / ".cache" / "watchword", **more})
    with open_registry(settings) as registry:
        registry.add_missing(Camera(name, str(clip), loop=True) for name, clip in CLIPS.items())
    asked.out.mkdir(parents=True, exist_ok=True)
    parts = ("broker", "milvus", "redis", "worker", "stream", "camera", "query")
    async with running(settings, folder / "logs", *parts) as stack:
        say(f"everything runs with {len(CLIPS)} cameras; Locust begins in {asked.fill:.0f} s")
        await asyncio.sleep(asked.fill)
        options = {"host": stack.addresses.query, "csv": asked.out / "load", "html": asked.out / "report.html"}
        words = [f"--{name}={value}" for name, value in options.items()]
        command = [sys.executable, "-m", "locust", "-f", str(Path(__file__).with_name("locustfile.py"))]
        locust = await asyncio.create_subprocess_exec(
            *command, "--headless", "--only-summary", "--knee-png", str(asked.out / "knee.png"), *words
        )
        try:
            code = await locust.wait()
        finally:
            if locust.returncode is None:
                locust.kill()
        ended = stack.ended
    if ended:
        print(f"ended by themselves: {', '.join(ended)}")
    return 1 if ended else code


if __name__ == "__main__":
    from loadtests.rig import parser, run

    arguments = parser(__doc__)
    arguments.add_argument("--out", type=Path, default=Path("build") / "load", help="where the reports go")
    arguments.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another setting")
    arguments.add_argument("--fill", type=float, default=15.0, help="seconds in which cameras fill the index first")
    sys.exit(run(load, arguments.parse_args()))
