"""Measures for `watchword plan` what cameras and encoder cost on this machine, in processor time."""

from __future__ import annotations

import os
import platform
import resource
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from proto.errors import Broken, Invalid
from proto.types import Camera
from watchword.capacity import Profile
from watchword.settings import Settings

if TYPE_CHECKING:
    from models.bundle import Bundle

_LOOKS = 120
"""Pictures of the footage that are looked at: a minute at two a second."""
_LEAST_S = 2.0
_BATCH = 8
_GPUS = ("cuda", "tensorrt", "rocm")


def measured(settings: Settings, footage: Path, say: Callable[[str], None] = lambda _: None) -> Profile:
    """This machine's profile, with footage such as the cameras will send. Takes some seconds."""
    from models.bundle import load_bundle
    from watchword.bundles import bundle_folder

    bundle = load_bundle(bundle_folder(settings, settings.encoder.bundle, say))
    say(f"looking at {footage}")
    found, jpegs = _camera(settings, footage, bundle.image_side)
    say(f"embedding its pictures with the bundle {bundle.name}")
    found |= _encoder(settings, bundle, jpegs)
    return Profile(machine=_machine(), cores=_cores(), memory_bytes=_memory(), measured=tuple(sorted(found)), **found)


def _camera(settings: Settings, footage: Path, side: int) -> tuple[dict[str, Any], list[bytes]]:
    """What decoding, looking and keeping cost, and what of the footage is kept."""
    from cameras.looking import Looking
    from cameras.source import probe, watch
    from cameras.view import ViewWatch

    camera = Camera("footage", str(footage.absolute()), speed=0, start_ms=0)
    info, first = probe(camera, settings.camera.open_timeout_s)
    fps = info.fps or 25.0
    looking = Looking(settings.camera, ViewWatch())
    looks, look_s, keep_s, sizes, jpegs = 0, 0.0, 0.0, list[int](), [first.jpeg(side, 90)]
    stop = threading.Event()
    began_s = time.process_time()
    for picture in watch(camera, settings.camera, stop):
        at_s = time.process_time()
        keep = looking.look(picture).judgement.keep
        looked_s = time.process_time()
        look_s += looked_s - at_s
        if keep:
            jpeg = picture.jpeg(side, settings.camera.jpeg_quality)
            sizes.append(len(jpeg) + sum(len(crop.jpeg) for crop in looking.crops(picture)))
            jpegs.append(jpeg)
            keep_s += time.process_time() - looked_s
        looks += 1
        if looks == _LOOKS:
            stop.set()
    if not looks or not sizes:
        raise Invalid(f"{footage} holds too few pictures", todo="give a minute of footage of one of your cameras")
    spent_s = time.process_time() - began_s - look_s - keep_s
    decoded = max(1, round(looks * max(1.0, fps / settings.camera.fps)))
    seconds = info.duration_s or decoded / fps
    told = {
        "source_fps": fps,
        "source_bytes_per_s": footage.stat().st_size / seconds,
        "decode_s": max(0.0, spent_s / decoded),
        "look_s": look_s / looks,
        "keep_s": keep_s / len(sizes),
        "kept_share": len(sizes) / looks,
        "frame_bytes": float(np.mean(sizes)),
    }
    return told, jpegs[: 4 * _BATCH]


def _encoder(settings: Settings, bundle: Bundle, jpegs: Sequence[bytes]) -> dict[str, Any]:
    """What a picture costs, JPEG in, vector out."""
    from models.engines.opening import open_engine
    from models.preprocess import Preprocessor

    chosen = settings.encoder
    name = "onnxruntime" if chosen.engine == "auto" else chosen.engine
    engine = open_engine(
        bundle, engine=name, provider=chosen.provider, precision=chosen.precision, threads=chosen.threads
    )
    read = Preprocessor(bundle.preprocess, max_bytes=chosen.max_item_bytes, max_pixels=chosen.max_pixels)
    batch = min(_BATCH, engine.best_batch)
    pictures = np.empty((batch, *read.shape), engine.abilities.numbers)
    try:
        for warm in (True, False):
            began_s, clock_s, done = _used_s(), time.perf_counter(), 0
            while not done or (not warm and time.perf_counter() - clock_s < _LEAST_S):
                for place, jpeg in zip(range(batch), _endless(jpegs), strict=False):
                    read(jpeg, pictures[place])
                engine.embed_images(pictures)
                done += batch
            spent_s, took_s = _used_s() - began_s, time.perf_counter() - clock_s
    finally:
        engine.close()
    return {
        "engine": engine.name,
        "on_gpu": any(kind in engine.name.lower() for kind in _GPUS),
        "dimension": bundle.space.dimension,
        "picture_s": spent_s / done,
        "pictures_per_s": done / took_s,
    }


def _endless(items: Sequence[bytes]) -> Iterator[bytes]:
    while True:
        yield from items


def _used_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _machine() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"{next(names, platform.processor() or platform.machine())}, {_cores()} cores"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError) as error:
        raise Broken("the memory of this machine cannot be told", todo="use --hardware with a profile") from error
