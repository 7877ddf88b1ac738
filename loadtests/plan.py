"""`watchword plan` against what is really used, by processor time, so that other programs disturb little.

    python -m loadtests.plan [--learn 5 20] [--cameras 10 30 50] [--seconds 60] [--hardware FILE] [--save FILE]
                             [--keep FOLDER]

Runs broker, Milvus, encoder worker and stream worker, and a fleet in place of the camera process, as `freshness` does.
What the numbers of cameras after --learn use becomes a profile; the plans that follow from it for those after --cameras
are compared with what these use: processor time by part, Kafka's bytes, rows written and bytes of pictures. With
--hardware they are compared too with a profile of `watchword plan --save`.

Every part works in rounds, and a round costs something however few frames it has, so the cost of a frame is the slope
between two loads, and what is left at no load is the part's cost of being at work.

When more comes than this machine can look at, frames and closer looks are shed; what is done for those that are looked
at is then compared for those that were. Exits with 1 when a figure is more than 25 % off.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loadtests.fleet import Plan
from loadtests.freshness import KEPT_LOOKS, SCENE_LOOKS, STEP_MS
from loadtests.ledger import Sent
from loadtests.pipeline import House, a_house, a_pipeline
from loadtests.rig import Running, metrics, parser, run, say
from loadtests.samples import Probe
from loadtests.topics import until_drained
from proto.v1.events_pb2 import Frame
from watchword.capacity import Profile, Wanted, cores, flow
from watchword.plan_cli import read_profile

IDLE_S, WARM_UP_S, DRAIN_S = 20.0, 20.0, 60.0
MOST_OFF = 0.25
_PICTURES = "watchword_encoder_items_total{kind=image,outcome=ok}"
_LOOKS = "watchword_encoder_items_total{kind=object,outcome=ok}"
_WRITTEN = "watchword_stream_moments_written_total{state=%s}"
_SHED = "watchword_stream_frames_shed_total"
_BEGUN = "watchword_hop_seconds_count{hop=written}"


@dataclass(frozen=True)
class Used:
    """What one load used, from its beginning until everything was worked off."""

    cameras: int
    seconds: float
    """For how long the fleet sent."""
    sent: int
    sent_bytes: int
    looked: int
    """Frames that were not shed."""
    pictures: float
    """What the encoder did, in pictures."""
    begun: float
    """Moments."""
    writes: float
    pictures_bytes: int
    whole_s: float
    """Until everything was worked off."""
    resting: Mapping[str, float]
    """Cores by process, just before, while nothing came."""
    cpu_s: Mapping[str, float]
    """By process, over the whole."""

    def cores(self, name: str) -> float:
        """Cores that this process used while the fleet sent."""
        waiting_s = self.whole_s - self.seconds  # while the rest was worked off, the parts rested too
        return (self.cpu_s[name] - self.resting[name] * waiting_s) / self.seconds


async def measure(house: House, cameras: int, seconds: float) -> Used:
    """Run this many cameras for so long, and until everything that they sent is worked off."""
    plan = Plan(cameras, STEP_MS, live=True, moving=KEPT_LOOKS, scene_looks=SCENE_LOOKS, name=f"plan-{cameras}")
    sizes: list[int] = []

    def taken(frame: Frame, _: Sent) -> None:
        sizes.append(frame.ByteSize())

    async with a_pipeline(house, plan.name, plan, taken=taken) as pipeline, pipeline.worker() as stream:
        say(f"{cameras} cameras send {plan.kept_a_second:.1f} frames/s for {seconds:g} s")
        servers = {**house.parts.servers, **stream.servers}
        probes = {name: Probe(server.pid) for name, server in servers.items()}
        resting = await _idle(probes)
        before, began_s = await _counters(house, stream), time.monotonic()
        async with pipeline.fleet.publishing():
            await asyncio.sleep(seconds)
        sent_s = time.monotonic() - began_s
        if left := await until_drained(pipeline.settings.kafka, pipeline.fleet.sent, DRAIN_S):
            say(f"{left} frames are in moments that are still open")
        _look(probes)
        whole_s = time.monotonic() - began_s
        after = await _counters(house, stream)
        thumbnails = _bytes(pipeline.settings.data_dir / "thumbnails")
    grown = {name: after.get(name, 0.0) - before.get(name, 0.0) for name in after}
    return Used(
        cameras=cameras,
        seconds=sent_s,
        sent=len(sizes),
        sent_bytes=sum(sizes),
        looked=len(sizes) - round(grown.get(_SHED, 0)),
        pictures=grown.get(_PICTURES, 0.0) + house.info.detect_cost * grown.get(_LOOKS, 0.0),
        begun=grown.get(_BEGUN, 0.0),
        writes=sum(grown.get(_WRITTEN % state, 0.0) for state in ("open", "closed")),
        pictures_bytes=thumbnails,
        whole_s=whole_s,
        resting=resting,
        cpu_s={name: _spent(probe) for name, probe in probes.items()},
    )


async def _idle(probes: Mapping[str, Probe]) -> dict[str, float]:
    """Cores that each part uses while nothing comes."""
    _look(probes)
    await asyncio.sleep(IDLE_S)
    _look(probes)
    return {name: _spent(probe) / IDLE_S for name, probe in probes.items()}


def _spent(probe: Probe) -> float:
    """Processor time between the last two looks."""
    return probe.samples[-1].cpu_s - probe.samples[-2].cpu_s


def learned(loads: Sequence[Used], house: House) -> Profile:
    """The profile that these loads show. Cameras are not in it."""
    sent, looked = sum(used.sent for used in loads), sum(used.looked for used in loads)
    pictures, begun = sum(used.pictures for used in loads), sum(used.begun for used in loads)
    writes = sum(used.writes for used in loads)
    rows = Profile.model_fields["rows_per_moment"].default

    def line(name: str, done: Callable[[Used], float]) -> tuple[float, float]:
        """Seconds for each thing done, and cores besides."""
        rates = [done(used) / used.seconds for used in loads]
        spent = [used.cores(name) for used in loads]
        each = max(1e-6, float(np.polyfit(rates, spent, 1)[0])) if len(loads) > 1 else spent[0] / rates[0]
        return each, max(0.0, float(np.mean(spent)) - each * float(np.mean(rates)))

    broker_s, broker_idle = line("broker", lambda used: used.sent)
    stream_s, stream_idle = line("stream", lambda used: used.looked)
    picture_s, encoder_idle = line("worker", lambda used: used.pictures)
    row_write_s, index_idle = line("milvus", lambda used: used.writes * rows)
    return Profile(
        machine="learned by loadtests.plan",
        measured=("broker_s", "stream_s", "picture_s", "row_write_s", "moments_per_frame", "writes_per_moment"),
        dimension=house.info.space.dimension,
        kept_share=KEPT_LOOKS / SCENE_LOOKS,
        frame_bytes=sum(used.sent_bytes for used in loads) / max(1, sent),
        broker_s=broker_s,
        stream_s=stream_s,
        looks_per_frame=_looks(pictures, looked),
        picture_s=picture_s,
        moments_per_frame=min(1.0, begun / max(1, looked)),
        writes_per_moment=max(1.0, writes / max(1.0, begun)),
        row_write_s=row_write_s,
        index_idle=index_idle,
        encoder_idle=encoder_idle,
        broker_idle=broker_idle,
        stream_idle=stream_idle,
        pictures_bytes=sum(used.pictures_bytes for used in loads) / max(1.0, begun),
    )


def _looks(pictures: float, looked: int) -> float:
    return max(0.0, pictures / max(1, looked) - 1)


def compared(profile: Profile, used: Used) -> list[tuple[str, float, float]]:
    """What was planned and what was used: cores by part, MB/s, rows a second and MB of pictures."""
    wanted = Wanted(cameras=used.cameras, fps=1000 / STEP_MS)
    share = used.looked / max(1, used.sent)
    done = {"kept_share": profile.kept_share * share}
    if share < 1:
        done["looks_per_frame"] = _looks(used.pictures, used.looked)
    looked = profile.model_copy(update=done)
    all_of_it, of_looked = cores(profile, wanted), cores(looked, wanted)
    coming, going = flow(profile, wanted), flow(looked, wanted)
    spent = {name: used.cores(name) for name in used.cpu_s}
    rows = used.writes * profile.rows_per_moment / used.seconds
    return [
        ("frames/s", coming.frames_per_s, used.sent / used.seconds),
        ("Kafka, MB/s", coming.frame_bytes_per_s / 1e6, used.sent_bytes / used.seconds / 1e6),
        ("broker, cores", all_of_it.broker, spent["broker"]),
        ("encoder, cores", of_looked.encoder, spent["worker"]),
        ("stream, cores", of_looked.stream, spent["stream"]),
        ("Milvus, cores", of_looked.index, spent["milvus"]),
        ("rows written/s", going.rows_per_s, rows),
        ("pictures, MB", going.moments_per_s * used.seconds * profile.pictures_bytes / 1e6, used.pictures_bytes / 1e6),
    ]


def report(what: str, profile: Profile, used: Used) -> bool:
    """Print the comparison; returns whether all of it is near enough."""
    shed = used.sent - used.looked
    print(f"\n{used.cameras} cameras, {what}; {shed:,} of {used.sent:,} frames shed")
    print(f"{'':<18}{'planned':>10}{'used':>10}{'off':>8}")
    good = True
    for name, planned, real in compared(profile, used):
        off = planned / real - 1 if real else 0.0
        good &= abs(off) <= MOST_OFF
        print(f"{name:<18}{planned:>10.3f}{real:>10.3f}{off:>+8.0%}{'' if abs(off) <= MOST_OFF else '  !'}")
    total = [
        sum(values) for values in zip(*(row[1:] for row in compared(profile, used) if "cores" in row[0]), strict=True)
    ]
    print(f"{'cores in all':<18}{total[0]:>10.3f}{total[1]:>10.3f}{total[0] / total[1] - 1:>+8.0%}")
    return good


async def _counters(house: House, stream: Running) -> dict[str, float]:
    return {
        **await metrics(house.parts.addresses.ops["worker"]),
        **await metrics(stream.addresses.ops["stream"]),
    }


def _look(probes: Mapping[str, Probe]) -> None:
    for probe in probes.values():
        probe.look(time.monotonic())


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


async def check(asked: argparse.Namespace, folder: Path) -> int:
    """The load test."""
    own = dict(pair.split("=", 1) for pair in asked.set)
    async with a_house(folder, apache=False, values=own) as house:
        await measure(house, 2, WARM_UP_S)  # collections are made, caches are warm
        lessons = [await measure(house, cameras, asked.seconds) for cameras in asked.learn]
        loads = [await measure(house, cameras, asked.seconds) for cameras in asked.cameras]
    profile = learned(lessons, house)
    known = " and ".join(str(used.cameras) for used in lessons)
    if asked.save:
        asked.save.write_text(profile.model_dump_json(indent=2) + "\n")
    good = True
    for used in loads:
        good &= report(f"by what {known} cameras used", profile, used)
        if asked.hardware:
            good &= report(f"by {asked.hardware}", read_profile(asked.hardware), used)
    return 0 if good else 1


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--learn", type=int, nargs="+", default=[5, 20], help="cameras whose use makes the profile")
    arguments.add_argument("--cameras", type=int, nargs="+", default=[10, 30, 50], help="cameras that are compared")
    arguments.add_argument("--seconds", type=float, default=60, help="length of each load")
    arguments.add_argument("--hardware", type=Path, metavar="FILE", help="a profile to compare with, too")
    arguments.add_argument("--save", type=Path, metavar="FILE", help="where the learned profile is written")
    arguments.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting of the stack")
    return run(check, arguments.parse_args())


if __name__ == "__main__":
    sys.exit(main())
