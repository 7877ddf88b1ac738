"""An hour under a steady load: does anything grow, and does the ledger balance at the end?

    python -m loadtests.soak [--minutes 60] [--cameras 12] [--keep FOLDER]

A real Apache Kafka, Milvus, the real stream worker and the real encoder worker with the built-in bundle; a live-paced
fleet publishes footage, of which the novelty gate would keep a third. The processes are sampled every 10 s. Exits with
1 when one of our processes ended by itself or uses more at the end than at first, when the ledger does not balance, or
when frames are left uncommitted.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sized
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.fleet import Plan
from loadtests.ledger import Balance
from loadtests.pipeline import a_house, a_pipeline
from loadtests.rig import metrics, parser, run, say
from loadtests.samples import Probe, held, hop_buckets, quantile, told

EVERY_S = 10.0
TELL_EVERY = 6
RETENTION_MINUTES = 10
"""Bounds what the broker has on disk, independent of the length of the run."""
OURS = ("stream", "worker")
DRAIN_S = 120.0
KEPT_LOOKS = 3


@dataclass
class Watch:
    """The samples of the run so far."""

    probes: dict[str, Probe]
    began_s: float = field(default_factory=time.monotonic)
    lag: list[int] = field(default_factory=list)
    open_frames: list[int] = field(default_factory=list)
    moments: int = 0
    broker_mb: float = 0.0
    ended: set[str] = field(default_factory=set)

    def look(self, seen: Mapping[str, float], moments: int, broker_mb: float) -> None:
        """Take one sample of everything; `seen` has the stream worker's metrics."""
        at_s = time.monotonic() - self.began_s
        for probe in self.probes.values():
            probe.look(at_s)
        self.lag.append(int(seen.get("watchword_stream_lag_frames", 0)))
        self.open_frames.append(int(seen.get("watchword_stream_frames_open", 0)))
        self.moments = moments
        self.broker_mb = max(self.broker_mb, broker_mb)

    def line(self, published: int) -> str:
        """The last sample as a line."""
        last = {name: probe.samples[-1] for name, probe in self.probes.items() if probe.samples}
        held_now = ", ".join(f"{name} {one.rss_mb:.0f} MB {one.fds} fds" for name, one in last.items())
        return f"{published:,} frames, {self.moments:,} moments, lag {self.lag[-1]}; {held_now}"


async def soak(asked: argparse.Namespace, folder: Path) -> int:
    plan = Plan(cameras=asked.cameras, live=True, moving=KEPT_LOOKS)
    values = {"kafka.retention_minutes": RETENTION_MINUTES}
    async with (
        a_house(folder) as house,
        a_pipeline(house, "soak", plan, values) as pipeline,
        pipeline.worker() as parts,
    ):
        servers = {**house.parts.servers, **parts.servers}
        assert house.kafka is not None
        watch = Watch({name: Probe(server.pid) for name, server in servers.items()} | {"kafka": Probe(house.kafka.pid)})

        async def look() -> None:
            seen = await metrics(parts.addresses.ops["stream"])
            watch.look(seen, await pipeline.store.count(), await asyncio.to_thread(_size_mb, house.folder / "kafka"))
            watch.ended |= {name for name, server in servers.items() if not server.alive}

        say(f"{plan.cameras} cameras, {plan.kept_a_second:.1f} kept frames/s, for {asked.minutes:g} minutes")
        async with pipeline.fleet.publishing():
            await _steadily(look, watch, pipeline.fleet.sent, asked.minutes * 60)
        say("the fleet ended; waiting until everything is committed")
        balance, left = await pipeline.balance(DRAIN_S)
        freshness = hop_buckets(await metrics(parts.addresses.ops["stream"]), "visible")
    return report(watch, balance, left, freshness)


async def _steadily(look: Callable[[], Awaitable[None]], watch: Watch, sent: Sized, length_s: float) -> None:
    for number in itertools.count():
        await look()
        if number % TELL_EVERY == 0:
            say(watch.line(len(sent)))
        next_s = (number + 1) * EVERY_S
        if next_s > length_s:
            return
        await asyncio.sleep(max(0.0, watch.began_s + next_s - time.monotonic()))


def report(watch: Watch, balance: Balance, left: int, freshness: dict[float, float]) -> int:
    """Print the results; returns the exit code."""
    everybody = [held(name, probe.samples) for name, probe in watch.probes.items()]
    growing = [one.name for one in everybody if one.name in OURS and one.grows]
    looked = max(freshness.values(), default=0.0)
    print(f"\n{told(everybody)}\n")
    rows = [
        ("lag, frames: at the end / most", f"{watch.lag[-1]} / {max(watch.lag)}"),
        (
            "taken and not finished: median / most",
            f"{statistics.median(watch.open_frames):.0f} / {max(watch.open_frames)}",
        ),
        (
            "captured -> searchable, s: p50 / p99",
            f"{quantile(freshness, 0.5):.2f} / {quantile(freshness, 0.99):.2f} ({looked:.0f} looks)",
        ),
        ("broker on disk, MB: most", f"{watch.broker_mb:.0f}"),
        ("not committed", f"{left}"),
    ]
    print("\n".join(f"{name:<42}{value}" for name, value in rows) + "\n")
    print(balance)
    wrong = [f"{name} ended by itself" for name in sorted(watch.ended)]
    wrong += [f"{name} holds more at the end than at first" for name in growing]
    wrong += [] if balance.balanced else ["the ledger does not balance"]
    wrong += [f"{left} frames were not committed"] if left else []
    print("\n" + ("; ".join(wrong) if wrong else "nothing grew, nothing was lost"))
    return 1 if wrong else 0


def _size_mb(folder: Path) -> float:
    total = 0
    for path in folder.rglob("*"):
        try:
            # Allocated size: its index files are sparse.
            total += path.stat().st_blocks * 512
        except OSError:
            continue  # a segment that was just deleted
    return total / 1e6


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--minutes", type=float, default=60)
    arguments.add_argument("--cameras", type=int, default=12)
    return run(soak, arguments.parse_args())


if __name__ == "__main__":
    sys.exit(main())
