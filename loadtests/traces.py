"""Where the time of a question and of a frame goes, by the traces of the whole embedded stack.

    python -m loadtests.traces [--questions 30] [--seconds 40] [--set KEY=VALUE] [--keep FOLDER]

Runs the stack with the demo's three clips as cameras and every frame traced, asks questions with new words, and
receives the spans of all processes by OTLP, as a collector does. Prints the trace of the median question and of the
median frame that opened a moment as trees, how much of each whole its spans account for, and what a span costs.

A span accounts for its time when it has no parts; a call to another process also while it is on the wire. What goes on
inside a span between its parts is not accounted for. This is told twice: for the steps of a question or frame, and down
to the last span, where what is between two small spans is mostly what tracing and the event loop cost. Exits with 1
when the steps account for less than 95 % of the median question or frame, or when no frame's trace arrived whole.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from loadtests.rig import parser, run, running, say, settings_in
from loadtests.trees import Account, account, steps, tree
from proto import tracing
from proto.tracing import TraceSettings, traced
from proto.types import Camera
from query.client import QueryClient
from tests.tools.otlp import Receiver, Span, receiving
from watchword.catalogs import open_registry
from watchword.demo import _clips

LEAST = 0.95
FRAME = ("gate", "cut", "outbox", "send", "broker", "inbox", "recall", "turn", "embed", "build", "write", "visible")
"""What the trace of a frame that opened a moment consists of."""
SETTLE_S = 5.0
"""Every process sends its spans each second."""
PARTS = ("broker", "milvus", "redis", "worker", "stream", "camera", "query")


async def traces(asked: argparse.Namespace, folder: Path) -> int:
    """The load test."""
    off_ns = _cost_ns()
    with receiving() as receiver:
        own = dict(pair.split("=", 1) for pair in asked.set)
        settings = settings_in(folder / "data", {"trace.endpoint": receiver.address, "trace.frames": 1.0, **own})
        with open_registry(settings) as registry:
            registry.add_missing(Camera(name=name, url=str(path), loop=True) for name, path in _clips().items())
        async with running(settings, folder, *PARTS) as stack:
            say("the stack runs; frames are traced")
            await asyncio.to_thread(receiver.wait_for, "visible", 1, asked.seconds)
            with traced(TraceSettings(endpoint=receiver.address), "search"):
                on_ns = _cost_ns()
                await _ask(stack.addresses.query, asked.questions)
            say("the questions are asked")
            await asyncio.to_thread(receiver.wait_for, "visible", 8, asked.seconds)
            await asyncio.sleep(SETTLE_S)
            return _told(receiver, off_ns, on_ns)


async def _ask(address: str, questions: int) -> None:
    async with QueryClient(address, 30.0) as client:
        for _ in range(questions):
            await client.search(text=f"a person riding a bicycle {uuid.uuid4().hex[:8]}")


def _cost_ns() -> float:
    """Processor time of one span here, inside a trace if there are any."""
    count = 500 if tracing.on() else 200_000
    with tracing.calling("cost", begins=True):
        begun = time.thread_time_ns()
        for _ in range(count):
            with tracing.span("piece"):
                pass
        return (time.thread_time_ns() - begun) / count


def _told(receiver: Receiver, off_ns: float, on_ns: float) -> int:
    by_trace: dict[str, list[Span]] = {}
    for span in receiver.spans:
        by_trace.setdefault(span.trace, []).append(span)
    questions = [spans for spans in by_trace.values() if any(_begins(one, "Search", "search") for one in spans)]
    frames = [
        spans
        for spans in by_trace.values()
        if any(_begins(one, "frame", "camera") for one in spans) and set(FRAME) <= {one.name for one in spans}
    ]
    good = _shown("question", questions, lambda spans: account(steps(spans)), account)
    good &= _shown("frame", frames, lambda spans: account(spans, root="frame"))
    print(f"\na span costs {off_ns:.0f} ns of processor time while tracing is off, {on_ns / 1000:.0f} us while on")
    return 0 if good else 1


def _begins(span: Span, name: str, process: str) -> bool:
    return (span.name, span.process, span.parent) == (name, f"watchword-{process}", "")


def _shown(
    what: str,
    found: Sequence[Sequence[Span]],
    accounted: Callable[[Sequence[Span]], Account],
    in_all: Callable[[Sequence[Span]], Account] | None = None,
) -> bool:
    """Print the median trace; returns whether its steps account for enough."""
    if not found:
        print(f"no trace of a {what} arrived whole")
        return False
    ordered = sorted(((accounted(spans), spans) for spans in found), key=lambda one: one[0].whole_ms)
    middle, spans = ordered[len(ordered) // 2]
    print(f"\nThe median {what} of {len(found)}, whole {middle.whole_ms:.1f} ms:\n")
    print("\n".join(tree(spans)))
    print()
    usual = _share("its steps account", [accounted(spans) for _, spans in ordered], middle)
    if in_all is not None:
        _share("down to the last span they account", [in_all(spans) for _, spans in ordered], in_all(spans))
    return usual >= LEAST


def _share(what: str, accounts: Sequence[Account], middle: Account) -> float:
    """Print how much is accounted for; returns the median over all."""
    shares = [one.share for one in accounts]
    left = ", ".join(f"{name} {ms:.2f}" for name, ms in sorted(middle.untold.items(), key=lambda one: -one[1])[:4])
    usual = float(np.median(shares))
    print(f"{what} for {middle.share:.1%} (all: median {usual:.1%}, least {min(shares):.1%})")
    print(f"  not accounted for, ms: {left or 'nothing'}")
    return usual


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--questions", type=int, default=30, help="how many questions are asked")
    arguments.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of the stack")
    arguments.add_argument("--seconds", type=float, default=40, help="how long frames are waited for at most")
    return run(traces, arguments.parse_args())


if __name__ == "__main__":
    sys.exit(main())
