"""Writes the dataset folder. What is there already and is what would be written stays."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from evals.yard import compose, pictures, scenes
from evals.yard.questions import lines
from evals.yard.scenes import Video, videos
from proto.errors import Broken

START_MS = 1_767_225_600_000  # 2026-01-01: the first video's first frame; each next one an hour later
DONE = "composed.json"
NAME, LICENCE = "watchword-yard", "Pictures under several free licences: see evals/yard/SOURCES.md"


def write(folder: Path, part: str = "all", told: Callable[[str], None] = print, processes: int | None = None) -> None:
    """Composes the videos of a part and writes the tables that describe them.

    Raises Broken where the pictures are missing: they are part of the repository, and not of an installed package.
    """
    if not pictures.DATA.is_dir():
        raise Broken(f"no pictures in {pictures.DATA}", todo="compose the set from a checkout of the repository")
    folder.mkdir(parents=True, exist_ok=True)
    wanted = videos(part)
    made = _read(folder / DONE)
    _compose(folder, [video for video in wanted if not _stands(folder, video, made)], made, told, processes)
    start = {video.name: START_MS + at * 3_600_000 for at, video in enumerate(videos("all"))}
    _write_lines(folder / "videos.jsonl", (_line(video, start[video.name]) for video in wanted))
    _write_lines(folder / "questions.jsonl", lines(wanted))
    about = {"name": NAME if part == "all" else f"{NAME}-{part}", "licence": LICENCE, "notes": "Composed; seeded."}
    _replace(folder / "dataset.json", json.dumps(about, indent=2) + "\n")


def _line(video: Video, start_ms: int) -> dict[str, Any]:
    return {
        **{"video": video.name, "path": f"{video.name}.mp4", "start_ms": start_ms, "part": video.part},
        **{"condition": video.condition, "fixed": True, "duration_s": video.frames / scenes.FPS},
        **{"width": video.width, "height": video.height, "place": video.place},
    }


def _compose(
    folder: Path, missing: list[Video], made: dict[str, Any], told: Callable[[str], None], processes: int | None
) -> None:
    if not missing:
        return
    # Not forked: a child that collects what the parent has of gRPC waits for ever for a thread that it does not have.
    fresh = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(processes or min(4, os.cpu_count() or 1), mp_context=fresh) as pool:
        futures = {pool.submit(_compose_one, folder, video): video for video in missing}
        for count, future in enumerate(as_completed(futures), 1):
            video = futures[future]
            made[video.name] = {"recipe": recipe(video), "sha256": future.result()}
            _replace(folder / DONE, json.dumps(made, indent=1, sort_keys=True) + "\n")
            told(f"{count}/{len(missing)} {video.name}: {video.seconds:.0f} s, {video.condition}")


def _compose_one(folder: Path, video: Video) -> str:
    path = folder / f"{video.name}.mp4"
    unfinished = path.with_suffix(".part")
    compose.write(video, unfinished)
    unfinished.replace(path)
    return _sha256(path)


def recipe(video: Video) -> str:
    """Changes with all that a video is made of: its table, the composer, the pictures, the encoder's version."""
    parts = [repr(video).encode(), str(compose.COMPOSER).encode(), compose.ENCODER.encode()]
    names = {f"cutouts/{passing.what}.webp" for passing in video.passings} | {f"backgrounds/{video.place}.webp"}
    parts += [(pictures.DATA / name).read_bytes() for name in sorted(names)]
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _stands(folder: Path, video: Video, made: dict[str, Any]) -> bool:
    said, path = made.get(video.name, {}), folder / f"{video.name}.mp4"
    return path.is_file() and said.get("recipe") == recipe(video) and said.get("sha256") == _sha256(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # composing again costs minutes and loses nothing
    return found


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    _replace(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _replace(path: Path, text: str) -> None:
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)
