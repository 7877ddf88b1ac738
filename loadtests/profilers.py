"""Two profilers for this process.

The sampler looks at the main thread at fixed intervals of processor time, with little overhead. It reports a function's
own time, its time with callees, and the processor time of each thread. The tracer counts every call of the main thread;
this makes many small calls look more expensive than they are.
"""

from __future__ import annotations

import cProfile
import pstats
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_EVERY_S = 0.001
_WAITS = {"EpollSelector.select", "_PollLikeSelector.select"}
_ROOT = Path(__file__).resolve().parents[1]


class Sampler:
    """Samples the main thread's stack every millisecond of processor time. Use it from the main thread."""

    name = "sampler"

    def __init__(self) -> None:
        self._own: Counter[str] = Counter()
        self._with_calls: Counter[str] = Counter()
        self._threads: dict[str, float] = {}
        self._looks = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        before = _thread_seconds()
        signal.signal(signal.SIGPROF, self._look)
        signal.setitimer(signal.ITIMER_PROF, _EVERY_S, _EVERY_S)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            after = _thread_seconds()
        self._threads = {name: seconds - before.get(name, 0.0) for name, seconds in after.items()}

    def told(self, frames: int, cpu_s: float, most: int = 40) -> list[str]:
        """Report processor microseconds per frame; `cpu_s` is that of the whole process."""
        main_us = 1e6 * self._threads.get(threading.main_thread().name, 0.0) / frames
        lines = [f"sampled ({self._looks} looks), us of processor a frame: {1e6 * cpu_s / frames:.0f}"]
        used = sorted(self._threads.items(), key=lambda one: -one[1])
        lines += [f"  thread {name:<30}{1e6 * seconds / frames:7.1f}" for name, seconds in used[:6]]
        lines += ["  the main thread, by function, with what it calls"]
        per_look = main_us / max(1, self._looks)
        lines += [f"{count * per_look:9.1f}  {name}" for name, count in self._with_calls.most_common(most)]
        lines += ["  the main thread, by function, its own lines"]
        return lines + [f"{count * per_look:9.1f}  {name}" for name, count in self._own.most_common(most)]

    def _look(self, _signal: int, top: FrameType | None) -> None:
        if top is None or top.f_code.co_qualname in _WAITS:
            return
        self._looks += 1
        self._own[_place(top)] += 1
        seen: set[str] = set()
        stack: FrameType | None = top
        while stack is not None:
            seen.add(_place(stack))
            stack = stack.f_back
        self._with_calls.update(seen)


class Tracer:
    """Counts every call of the thread that uses it."""

    name = "tracer"

    def __init__(self) -> None:
        self._profile = cProfile.Profile()

    @contextmanager
    def watching(self) -> Iterator[None]:
        self._profile.enable()
        try:
            yield
        finally:
            self._profile.disable()

    def told(self, frames: int, _cpu_s: float, most: int = 30) -> list[str]:
        """Report microseconds per frame in each function itself, and calls per frame."""
        stats = pstats.Stats(self._profile).stats  # type: ignore[attr-defined]  # its stubs leave this out
        rows = sorted(((own, calls, whole, where) for where, (_, calls, own, whole, _) in stats.items()), reverse=True)
        total = sum(row[0] for row in rows)
        lines = [
            f"traced, us of the main thread a frame: {1e6 * total / frames:.0f}",
            "      own  with calls  calls",
        ]
        for own, calls, whole, (file, line, name) in rows[:most]:
            where = name if file == "~" else f"{_short(file)}:{line} {name}"
            lines.append(f"{1e6 * own / frames:9.1f}{1e6 * whole / frames:12.1f}{calls / frames:7.2f}  {where}")
        return lines


def _thread_seconds() -> dict[str, float]:
    """Processor seconds of each thread so far; threads of one pool are summed."""
    seconds: dict[str, float] = defaultdict(float)
    for thread in threading.enumerate():
        if thread.ident is not None:
            clock = time.pthread_getcpuclockid(thread.ident)
            seconds[thread.name.split("_")[0]] += time.clock_gettime(clock)
    return dict(seconds)


def _place(frame: FrameType) -> str:
    code = frame.f_code
    return f"{_short(code.co_filename)} {code.co_qualname}"


def _short(file: str) -> str:
    path = Path(file)
    if path.is_relative_to(_ROOT):
        return str(path.relative_to(_ROOT))
    parts = path.parts
    return "/".join(parts[parts.index("site-packages") + 1 :]) if "site-packages" in parts else path.name
