"""Two ways to see what costs most in this process while it works.

The sampler looks now and then at what every thread does, and changes nothing; a function has the time of its lines and
of all that it calls. The tracer counts every call of the event loop's thread, which makes many small calls look dearer
than they are; it tells how often each is called.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

_EVERY_S = 0.002
_WAITS = {"select", "wait", "_wait_for_tstate_lock", "acquire", "get"}
"""Innermost functions of a thread that does nothing."""
_ROOT = Path(__file__).resolve().parents[1]


class Sampler:
    """Looks at every thread's stack every few milliseconds."""

    name = "sampler"

    def __init__(self) -> None:
        self._own: Counter[str] = Counter()
        self._with_calls: Counter[str] = Counter()
        self._threads: Counter[str] = Counter()
        self._looks = 0

    @contextmanager
    def watching(self) -> Iterator[None]:
        ended = threading.Event()
        thread = threading.Thread(target=self._look_for_ever, args=(ended,), name="sampler")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def told(self, frames: int, seconds: float, most: int = 20) -> list[str]:
        """Microseconds a frame, of all threads; a wait counts for nobody."""
        per_look = 1e6 * seconds / max(1, self._looks) / frames
        lines = [f"sampled, us of a thread's time a frame ({self._looks} looks)"]
        lines += [f"  thread {name:<40}{count * per_look:8.1f}" for name, count in self._threads.most_common(6)]
        lines += ["  by function, with what it calls"]
        lines += [f"    {count * per_look:8.1f}  {name}" for name, count in self._with_calls.most_common(3 * most)]
        lines += ["  by function, by itself"]
        return lines + [f"    {count * per_look:8.1f}  {name}" for name, count in self._own.most_common(most)]

    def _look_for_ever(self, ended: threading.Event) -> None:
        me = threading.get_ident()
        while not ended.wait(_EVERY_S):
            self._looks += 1
            names = {thread.ident: thread.name for thread in threading.enumerate()}
            for ident, top in sys._current_frames().items():
                if ident != me:
                    self._take(names.get(ident, "?"), top)

    def _take(self, thread: str, top: FrameType) -> None:
        if top.f_code.co_name in _WAITS or top.f_code.co_filename.endswith("thread.py"):
            return
        self._threads[thread.split("_", maxsplit=1)[0]] += 1
        self._own[_place(top)] += 1
        stack: FrameType | None = top
        seen: set[str] = set()
        while stack is not None:
            seen.add(_place(stack))
            stack = stack.f_back
        self._with_calls.update(seen)


class Tracer:
    """Counts every call of the thread that makes it watch."""

    name = "tracer"

    def __init__(self) -> None:
        self._profile = cProfile.Profile(time.thread_time)

    @contextmanager
    def watching(self) -> Iterator[None]:
        self._profile.enable()
        try:
            yield
        finally:
            self._profile.disable()

    def told(self, frames: int, _seconds: float, most: int = 30) -> list[str]:
        """Microseconds of the event loop's thread a frame, in each function by itself, and calls a frame."""
        stats = pstats.Stats(self._profile).stats  # type: ignore[attr-defined]  # its stubs leave this out
        rows = sorted(((own, calls, whole, where) for where, (_, calls, own, whole, _) in stats.items()), reverse=True)
        total = sum(row[0] for row in rows)
        lines = [
            f"traced, us of the event loop's thread a frame: {1e6 * total / frames:.0f}",
            "      own  with calls  calls",
        ]
        for own, calls, whole, (file, line, name) in rows[:most]:
            where = name if file == "~" else f"{_short(file)}:{line} {name}"
            lines.append(f"{1e6 * own / frames:9.1f}{1e6 * whole / frames:12.1f}{calls / frames:7.2f}  {where}")
        return lines


def _place(frame: FrameType) -> str:
    code = frame.f_code
    return f"{_short(code.co_filename)} {code.co_qualname}"


def _short(file: str) -> str:
    path = Path(file)
    if path.is_relative_to(_ROOT):
        return str(path.relative_to(_ROOT))
    parts = path.parts
    return "/".join(parts[parts.index("site-packages") + 1 :]) if "site-packages" in parts else path.name
