"""What an evaluation needs of the installation: a stack, its cameras, and how far they were replayed."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cameras.address import kind_of
from cameras.source import probe
from catalog.cameras import CameraRegistry
from catalog.progress import Progresses
from catalog.settings import CatalogSettings, MediaSettings
from evals.answers import Run
from evals.dataset import Dataset, Part, Video
from evals.run import ask_questions, check_cameras, replay
from proto.errors import Transient, WatchwordError
from proto.types import Camera
from stream.backgrounds import EVERY_S
from watchword.bundles import bundle_folder
from watchword.catalogs import open_catalog
from watchword.reaching import query_client
from watchword.settings import Settings
from watchword.stack import Addresses, query_address, run_stack

_PROBE_S = 10.0


@dataclass(frozen=True)
class Wanted:
    """What is to be asked."""

    dataset: Dataset
    part: Part | None
    limit: int
    commit: str
    say: Callable[[str], None]


async def run_there(settings: Settings, wanted: Wanted, address: str) -> Run:
    """Ask a service that has the cameras already. What it runs on is not known here."""
    async with query_client(settings, address) as service:
        await check_cameras(wanted.dataset, service, part=wanted.part, say=wanted.say)
        about = {"address": address, "commit": wanted.commit}
        return await ask_questions(
            wanted.dataset, service, about, part=wanted.part, limit=wanted.limit, say=wanted.say
        )  # fmt: skip


async def run_here(settings: Settings, wanted: Wanted) -> Run:
    """Replay in the stack that runs on the data folder."""
    return await _replay_and_ask(settings, wanted, query_address(settings))


async def run_in_own_stack(settings: Settings, wanted: Wanted, folder: Path) -> Run:
    """Start a stack in `folder`, replay, ask, and end it. The folder is removed, unless this fails: it has the logs."""
    found: list[Run] = []
    bundle = settings.encoder.bundle
    if bundle != "builtin":  # its name is looked up in the data folder, which is another one there
        bundle = str(bundle_folder(settings, bundle, wanted.say))
    own = settings.model_copy(
        update={
            "data_dir": folder.absolute(),
            "catalog": CatalogSettings(),
            "media": MediaSettings(),
            "encoder": settings.encoder.model_copy(update={"bundle": bundle}),
            # Nothing may be passed over: a figure must not depend on how busy the machine is.
            "stream": settings.stream.model_copy(update={"catch_up": "all"}),
            # What confidences are computed from, to calibrate by.
            "query": settings.query.model_copy(update={"explain": True}),
        }
    )

    async def work(addresses: Addresses) -> int:
        found.append(await _replay_and_ask(own, wanted, addresses.query))
        return 0

    try:
        await run_stack(own, on_ready=work, live=False)
    except WatchwordError:
        wanted.say(f"the logs are in {folder / 'logs'}")
        raise
    if not found:
        raise Transient("the run was interrupted", todo=f"start it again; the logs are in {folder / 'logs'}")
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return found[0]


async def _replay_and_ask(settings: Settings, wanted: Wanted, address: str) -> Run:
    with open_catalog(settings) as catalog:
        replays = _Replays(CameraRegistry(catalog), Progresses(catalog))
        # The moments that are open at the end are closed when their cameras count as silent, and are sampled then: hits
        # are judged by samples, and a figure must not depend on which of them were there.
        settle_s = settings.stream.silent_s + 2 * settings.stream.refresh_s + 2 * EVERY_S
        async with query_client(settings, address) as service:
            await replay(
                wanted.dataset, service, replays, part=wanted.part, settle_s=settle_s, say=wanted.say
            )  # fmt: skip
            return await ask_questions(
                wanted.dataset, service, _about(settings, wanted), part=wanted.part, limit=wanted.limit, say=wanted.say
            )


def _about(settings: Settings, wanted: Wanted) -> Mapping[str, Any]:
    sections = ("encoder", "camera", "stream", "query")
    told = settings.model_dump(mode="json", include=set(sections))
    return {"bundle": settings.encoder.bundle, "commit": wanted.commit, "settings": told}


class _Replays:
    """The cameras of the installation."""

    def __init__(self, registry: CameraRegistry, progress: Progresses) -> None:
        self._registry = registry
        self._progress = progress

    def add(self, camera: Camera) -> None:
        self._registry.add(camera)

    def ended(self, camera: str) -> int | None:
        found = self._progress.get(camera)
        return None if found is None or not found.ended else found.start_ms + round(found.at_s * 1000)


def video_of(settings: Settings, name: str) -> Video:
    """The recording that a registered camera replays; a live or looping camera has no path. Raises Unknown."""
    with open_catalog(settings) as catalog:
        camera, progress = CameraRegistry(catalog).get(name), Progresses(catalog).get(name)
    if kind_of(camera.url) != "file" or camera.loop:
        return Video(name, None, 0)
    start_ms = camera.start_ms
    if start_ms is None:
        start_ms = progress.start_ms if progress else 0
    return Video(name, Path(camera.url), start_ms)


def duration_of(path: Path) -> float | None:
    """How long a recording is. Raises Invalid when it cannot be played."""
    info, _ = probe(Camera("probe", str(path)), _PROBE_S)
    return info.duration_s
