"""Checks every part, and says what to do about each problem."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from catalog.cameras import CameraRegistry
from catalog.fleet import Fleet, Member
from proto.errors import Broken, WatchwordError
from proto.types import Camera, now_ms
from watchword.catalogs import catalog_as_it_is
from watchword.doctor_cluster import (
    SeenEncoder,
    look_at_broker_clock,
    look_at_encoders,
    look_at_milvus,
    look_at_pictures,
    look_at_query,
    look_at_redis,
)
from watchword.settings import Settings
from watchword.sharding import shard_addresses
from watchword.stack import RunningStack, binaries, query_address, ready, running_stack
from watchword.stack.state import without_password

LEAST_FREE_BYTES = 2 * 1024**3
"""Milvus needs about 0.3 GB when empty; moments and logs come on top."""
CAMERA_S = 10.0
CAMERAS_AT_ONCE = 8
_NAMED = 5


@dataclass(frozen=True)
class Finding:
    """The result for one part."""

    part: str
    ok: bool
    seen: str
    todo: str = ""
    """What to do; empty when nothing is wrong."""


async def examine(settings: Settings) -> list[Finding]:
    """Check the parts one after another. Starts and changes nothing."""
    stack = running_stack(settings.data_dir)
    return [
        _python(),
        *_wheels(settings),
        _folder(settings.data_dir),
        _space(settings.data_dir),
        *await _servers(settings, stack),
        *await _cameras(settings),
    ]


def _python() -> Finding:
    seen = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.platform != "linux":
        note = "only Linux ends the parts when `watchword up` itself is killed; elsewhere end them by hand"
        return Finding("python", True, seen, note)
    return Finding("python", True, seen)


def _wheels(settings: Settings) -> list[Finding]:
    """Check the programs that `watchword up` would start, for parts without an address in the settings."""
    wanted: list[tuple[str, bool, Callable[[], object]]] = [
        ("broker program", not settings.kafka.brokers, binaries.tansu),
        ("milvus program", not settings.milvus.endpoints, binaries.milvus_wheel),
        ("redis program", not settings.redis.url.get_secret_value(), binaries.redis_server),
    ]
    found = []
    for part, needed, look in wanted:
        if not needed:
            continue
        try:
            found.append(Finding(part, True, str(look())))
        except WatchwordError as problem:
            found.append(Finding(part, False, problem.message, problem.todo))
    return found


def _folder(folder: Path) -> Finding:
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        return Finding("data folder", False, f"{there} is not a folder", "move it away, or set another --data-dir")
    if not os.access(there, os.W_OK | os.X_OK):
        return Finding(
            "data folder",
            False,
            f"{there} is not writable",
            "give this user the right to it, or set another --data-dir",
        )
    return Finding("data folder", True, f"{folder} is writable" if there == folder else f"{folder} can be made")


def _space(folder: Path) -> Finding:
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    seen = f"{free / 1024**3:.1f} GB free"
    if free < LEAST_FREE_BYTES:
        return Finding("disk", False, seen, f"free some space: have {LEAST_FREE_BYTES / 1024**3:.0f} GB or more")
    return Finding("disk", True, seen)


async def _servers(settings: Settings, stack: RunningStack | None) -> list[Finding]:
    """Check each server that should run: those in the settings, and those of the running stack."""
    at = stack.addresses if stack else None
    broker = settings.kafka.brokers or (at.broker if at else "")
    endpoints = settings.milvus.endpoints or (at.milvus if at else ())
    endpoints = tuple(await asyncio.to_thread(shard_addresses, settings, endpoints)) if endpoints else ()
    redis = settings.redis.url.get_secret_value() or (at.redis if at else "")
    encoder = settings.encoder.address or (at.encoder if at else "")
    query = query_address(settings) if at or settings.query.address else ""
    pictures = settings.media.url
    encoders, seen = await _encoders(settings, encoder)
    checks = [
        _ask("broker", broker, lambda: _broker(broker)),
        *([_ask("topics", broker, lambda: _topics(settings, broker))] if broker else []),
        *([_ask("clocks", broker, lambda: look_at_broker_clock(settings, broker))] if broker else []),
        *(_ask("milvus", endpoint, partial(look_at_milvus, endpoint, settings)) for endpoint in endpoints or ("",)),
        _ask("redis", redis, lambda: look_at_redis(redis)),
        *([_ask("pictures", pictures, lambda: asyncio.to_thread(look_at_pictures, settings))] if pictures else []),
        _ask("query", query, lambda: look_at_query(query, seen, settings)),
    ]
    if at is not None:
        ours = {"stream", "camera", "gateway"}
        own = {name: address for name, address in at.ops.items() if name.partition("-")[0] in ours}
        checks += [_ask(f"{name} process", address, partial(_process, address)) for name, address in own.items()]
    return [*encoders, *await asyncio.gather(*checks)]


async def _ask(part: str, address: str, look: Callable[[], Awaitable[str]]) -> Finding:
    """Check one server. Without an address there is no problem: the stack is not up."""
    if not address:
        return Finding(part, True, "not running; `watchword up` starts it")
    shown = without_password(address)
    try:
        return Finding(part, True, f"{shown}: {await look()}")
    except WatchwordError as problem:
        todo = problem.todo or "is it running? its log, or `watchword up`, says more"
        return Finding(part, False, f"{shown}: {problem.message}", todo)


async def _broker(brokers: str) -> str:
    from broker.kafka import cluster_answers

    count = await cluster_answers(brokers, ready.ASK_S)
    return f"metadata fetched, {count} broker{'s' if count != 1 else ''}"


async def _topics(settings: Settings, broker: str) -> str:
    from broker.kafka import find_topics
    from broker.topics import plan, wanted_topics

    kafka = settings.kafka.model_copy(update={"brokers": broker})
    wanted = wanted_topics(kafka)
    changes = plan(wanted, await find_topics(kafka, 2 * ready.ASK_S))
    if changes:
        told = "; ".join(f"{change.topic.name}: {change.what}" for change in changes)
        raise Broken(told, todo="`watchword topics plan` shows more, `watchword topics apply` makes the changes")
    frames = wanted[0]
    held = f"{frames.partitions} partitions, {frames.replication} copies, {kafka.retention_minutes} min"
    return f"{' and '.join(topic.name for topic in wanted)} are as the settings want them ({frames.name}: {held})"


async def _process(address: str) -> str:
    await ready.page(address)
    return "ready"


async def _encoders(settings: Settings, address: str) -> tuple[list[Finding], list[SeenEncoder]]:
    """Every encoder worker, and whether all give vectors of one space."""
    if not address:
        return [await _ask("encoder", "", _nothing)], []
    try:
        found = await look_at_encoders(address, settings)
    except WatchwordError as problem:
        return [Finding("encoder", False, f"{address}: {problem.message}", problem.todo)], []
    findings = [
        Finding("encoder", True, f"{one.address}: {one.seen}")
        if one.error is None
        else Finding("encoder", False, f"{one.address}: {one.error.message}", one.error.todo)
        for one in found
    ]
    spaces = sorted({one.space for one in found if one.space})
    if len(spaces) > 1:
        todo = "start all with one bundle: `watchword models list` shows those of a machine"
        findings.append(Finding("space", False, f"the encoders give vectors of spaces {', '.join(spaces)}", todo))
    return findings, found


async def _nothing() -> str:
    return ""


async def _cameras(settings: Settings) -> list[Finding]:
    try:
        catalog, cameras, members = await asyncio.to_thread(_watched, settings)
    except WatchwordError as problem:
        return [Finding("catalog", False, problem.message, problem.todo)]
    if not cameras:
        return [catalog, Finding("cameras", True, "none yet; `watchword camera add NAME URL` adds one")]
    turn = asyncio.Semaphore(CAMERAS_AT_ONCE)
    return [catalog, _fleet(cameras, members), *await asyncio.gather(*(_camera(camera, turn) for camera in cameras))]


def _watched(settings: Settings) -> tuple[Finding, list[Camera], tuple[Member, ...]]:
    with catalog_as_it_is(settings) as catalog:
        if catalog is None:
            return (
                Finding("catalog", True, "made, or brought up to this version, by the first process that starts"),
                [],
                (),
            )
        cameras = [camera for camera in CameraRegistry(catalog).all() if camera.wanted]
        return Finding("catalog", True, catalog.shown), cameras, Fleet(catalog).seen(now_ms()).members


def _fleet(cameras: list[Camera], members: Sequence[Member]) -> Finding:
    """Whether there is a camera process for every camera."""
    from cameras.placing import reaches

    if not members:
        return Finding("fleet", True, "no camera process is running; `watchword up` starts one")
    apart = [one for one in cameras if not any(reaches(member.site, one.site) for member in members)]
    if apart:
        sites = ", ".join(sorted({one.site for one in apart}))
        named = ", ".join(one.name for one in apart[:_NAMED]) + (", …" if len(apart) > _NAMED else "")
        return Finding(
            "fleet",
            False,
            f"no camera process reaches {named}: none is at {sites}",
            "start one there with camera.site set, or `watchword camera set NAME --site SITE`",
        )
    return Finding("fleet", True, f"{len(members)} camera processes: {', '.join(one.host for one in members[:_NAMED])}")


async def _camera(camera: Camera, turn: asyncio.Semaphore) -> Finding:
    from cameras.address import shown
    from cameras.source import probe

    async with turn:
        try:
            await asyncio.to_thread(probe, camera, CAMERA_S)
        except WatchwordError as problem:
            return Finding(f"camera {camera.name}", False, problem.message, problem.todo)
    return Finding(f"camera {camera.name}", True, f"{shown(camera.url)}: opens, and a picture came")
