"""An hour under a steady load: does anything grow, and does the ledger balance at the end?

    python -m loadtests.soak [--minutes 60] [--cameras 12] [--keep FOLDER]

A real Apache Kafka, Milvus, the real stream worker and the real encoder worker with the built-in bundle; a live-paced
fleet publishes footage, of which the novelty gate would keep a third. Every 10 s the processes are looked at. Exits
with 1 when a process of ours ended by itself or holds more at the end than at first, when the ledger does not balance,
or when something is left that was not committed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from index.milvus import MilvusStore
from loadtests.fleet import Fleet, Plan, dead_letters, until_drained
from loadtests.ledger import Balance, audit, stored_moments
from loadtests.rig import Running, apache_kafka, metrics, parser, run, running, say, scenes, settings_in
from loadtests.samples import Probe, held, hop_buckets, quantile, told
from stream.kafka import ensure_topics
from watchword.settings import Settings
from workers.client import EncoderClient

EVERY_S = 10.0
TELL_EVERY = 6
RETENTION_MINUTES = 10
"""What the broker's disk holds is bounded by this, not by the length of the run."""
OURS = ("stream", "worker")
DRAIN_S = 120.0
KEPT_LOOKS = 3


@dataclass
class Watch:
    """What was seen of the run so far."""

    probes: dict[str, Probe]
    began_s: float = field(default_factory=time.monotonic)
    lag: list[int] = field(default_factory=list)
    open_frames: list[int] = field(default_factory=list)
    moments: int = 0
    broker_mb: float = 0.0
    ended: set[str] = field(default_factory=set)

    async def look(self, parts: Running, store: MilvusStore, broker: Path) -> None:
        """Take one sample of everything."""
        at_s = time.monotonic() - self.began_s
        for probe in self.probes.values():
            probe.look(at_s)
        seen = await metrics(parts.addresses.ops["stream"])
        self.lag.append(int(seen.get("watchword_stream_lag_frames", 0)))
        self.open_frames.append(int(seen.get("watchword_stream_frames_open", 0)))
        self.moments = await store.count()
        self.broker_mb = max(self.broker_mb, await asyncio.to_thread(_size_mb, broker))
        self.ended |= set(parts.ended)

    def line(self, published: int) -> str:
        """The last sample in a line."""
        last = {name: probe.samples[-1] for name, probe in self.probes.items() if probe.samples}
        held_now = ", ".join(f"{name} {one.rss_mb:.0f} MB {one.fds} fds" for name, one in last.items())
        return f"{published:,} frames, {self.moments:,} moments, lag {self.lag[-1]}; {held_now}"


async def soak(asked: argparse.Namespace, folder: Path) -> int:
    async with apache_kafka(folder) as kafka:
        settings = settings_in(
            folder / "data",
            {
                "kafka.brokers": kafka.address,
                "kafka.idempotent": True,
                "kafka.retention_minutes": RETENTION_MINUTES,
                "kafka.partitions": 4,
            },
        )
        await ensure_topics(settings.kafka)
        async with running(settings, folder, "milvus", *OURS) as parts:
            probes = {name: Probe(server.pid) for name, server in parts.servers.items()}
            probes["kafka"] = Probe(kafka.pid)
            return await _run(asked, settings, parts, Watch(probes), folder / "kafka")


async def _run(asked: argparse.Namespace, settings: Settings, parts: Running, watch: Watch, broker: Path) -> int:
    async with EncoderClient(parts.addresses.encoder, timeout_s=10) as encoder:
        info = await encoder.describe()
    reached = settings.milvus.model_copy(update={"endpoints": parts.addresses.milvus})
    store = MilvusStore(info.space, reached)
    plan = Plan(cameras=asked.cameras, live=True, moving=KEPT_LOOKS)
    fleet = Fleet(settings.kafka.brokers, settings.kafka.frames_topic, plan, scenes=scenes(info.image_side))
    try:
        await store.open()
        say(f"{plan.cameras} cameras, {plan.kept_a_second:.1f} kept frames/s, for {asked.minutes:g} minutes")
        async with fleet.publishing():
            end_s = watch.began_s + asked.minutes * 60
            for number in range(sys.maxsize):
                await watch.look(parts, store, broker)
                if number % TELL_EVERY == 0:
                    say(watch.line(len(fleet.sent)))
                if time.monotonic() >= end_s:
                    break
                await asyncio.sleep(max(0.0, watch.began_s + (number + 1) * EVERY_S - time.monotonic()))
        say("the fleet ended; waiting until everything is committed")
        left = await until_drained(settings.kafka, fleet.sent, DRAIN_S)
        freshness = hop_buckets(await metrics(parts.addresses.ops["stream"]), "visible")
        moments = await stored_moments(store, fleet.starts)
        balance = audit(fleet.sent, moments, await dead_letters(settings.kafka), unsure=fleet.unsure)
        watch.ended |= set(parts.ended)
    finally:
        await store.close()
    return report(watch, balance, left, freshness)


def report(watch: Watch, balance: Balance, left: int, freshness: dict[float, float]) -> int:
    """Print what came of it; the exit code."""
    everybody = [held(name, probe.samples) for name, probe in watch.probes.items()]
    growing = [one.name for one in everybody if one.name in OURS and one.grows]
    looked = max(freshness.values(), default=0.0)
    print(f"\n{told(everybody)}\n")
    print(f"{'lag, frames: at the end / most':<36}{watch.lag[-1]:>6} / {max(watch.lag)}")
    print(
        f"{'taken and not finished: median / most':<36}{sorted(watch.open_frames)[len(watch.open_frames) // 2]:>6} / "
        f"{max(watch.open_frames)}"
    )
    print(
        f"{'captured -> searchable, s: p50 / p99':<36}{quantile(freshness, 0.5):>6.2f} / "
        f"{quantile(freshness, 0.99):.2f}   ({looked:.0f} looks)"
    )
    print(f"{'broker on disk, MB: most':<36}{watch.broker_mb:>6.0f}")
    print(f"{'not committed':<36}{left:>6}\n")
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
            # Its indexes are long files with holes in them.
            total += path.stat().st_blocks * 512
        except OSError:
            continue  # a segment that was just dropped
    return total / 1e6


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--minutes", type=float, default=60)
    arguments.add_argument("--cameras", type=int, default=12)
    return run(soak, arguments.parse_args())


if __name__ == "__main__":
    sys.exit(main())
