"""When a camera on which its process crashed is watched again. Pure: time is an argument.

A decoder that crashes takes its process along, with all cameras of it. So after a crash the camera waits, each time
longer, and is then begun alone, after the others: until they are watched again nothing can take them along once more.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from catalog.fleet import Crash

CALM_MS = 7_200_000
"""A crash this long after the one before counts as the first."""
_FIRST_MS = 30_000
_MOST_MS = 3_600_000
_TRIAL_MS = 30_000
"""A camera that is tried again is watched for so long before another one is tried."""
_OTHERS_MS = 60_000
"""The others are waited for at most so long: one of them may never answer."""
_CLOCKS_MS = 10_000
"""A crash further in the future dates from before the clock was set back."""


@dataclass(frozen=True, slots=True)
class Run:
    """A camera that is watched here."""

    settled: bool
    """It delivered, ended, or failed, since it is watched."""
    for_ms: int
    """Since when."""


def recent(crashes: Mapping[str, Crash], now_ms: int) -> dict[str, Crash]:
    """The crashes that still count."""
    return {name: one for name, one in crashes.items() if -_CLOCKS_MS <= now_ms - one.at_ms < CALM_MS}


def again_ms(crash: Crash) -> int:
    """When the camera may be tried again."""
    return crash.at_ms + min(_MOST_MS, _FIRST_MS << min(crash.count - 1, 20))


def held_back(
    mine: Collection[str], crashes: Mapping[str, Crash], runs: Mapping[str, Run], now_ms: int, up_ms: int
) -> frozenset[str]:
    """Which cameras of this process, of `mine`, are not to be begun now. `runs` has those that it watches, `up_ms` is
    since when the process looks for cameras."""
    crashed = recent(crashes, now_ms)
    waiting = crashed.keys() & (set(mine) - runs.keys())
    others = set(mine) - crashed.keys()
    busy = up_ms < _OTHERS_MS and not all(name in runs and runs[name].settled for name in others)
    trial = any(name in crashed and run.for_ms < _TRIAL_MS for name, run in runs.items())
    due = [name for name in waiting if again_ms(crashed[name]) <= now_ms]
    if busy or trial or not due:
        return frozenset(waiting)
    return frozenset(waiting - {min(due, key=lambda name: (again_ms(crashed[name]), name))})


def why(crash: Crash, now_ms: int) -> str:
    """Why a camera that is held back is not watched."""
    often = "" if crash.count == 1 else f", {crash.count} times one after another"
    left_s = -(-(again_ms(crash) - now_ms) // 1000)
    then = f"in {left_s} s" if left_s > 0 else "when the other cameras are watched"
    return f"the camera process crashed while decoding it{often}; tried again {then}"
