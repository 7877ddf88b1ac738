"""`watchword models …`: list, check and make bundles."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proto.errors import Broken, Invalid
from watchword.bundles import bundle_folder, bundle_folders, made_bundles

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.making.quantize import Verdict
    from watchword.settings import Front, Settings

_NO_TORCH = "pip install 'watchword[torch]' brings open_clip and torch"
_NO_HUB = "pip install 'watchword[hub]' brings huggingface_hub and onnx"
_FRAMES_EACH, _FRAMES_A_SECOND = 60, 4.0
_JPEG_SIDE, _JPEG_QUALITY = 480, 88


@click.group()
def models() -> None:
    """Bundles: an image tower and a text tower in one folder."""


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def models_list(front: Front, as_json: bool) -> None:
    """Show the bundles on this machine."""
    from models.catalogue import list_bundles

    entries = list_bundles(bundle_folders(front.settings()))
    if as_json:
        rows = [
            {
                "name": entry.folder.name,
                "folder": str(entry.folder),
                "space": entry.bundle.space.id if entry.bundle else "",
                "dimension": entry.bundle.dimension if entry.bundle else 0,
                "bytes": entry.size_bytes,
                "problem": entry.problem,
            }
            for entry in entries
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    if not entries:
        click.echo("no bundles yet; `watchword models build` assembles the built-in one")
    for entry in entries:
        seen = (
            f"space {entry.bundle.space.id}, {entry.bundle.dimension} numbers"
            if entry.bundle
            else f"UNUSABLE: {entry.problem}"
        )
        click.echo(f"{entry.folder.name:<28} {entry.size_bytes / 1e6:7.0f} MB  {seen}")


@models.command("show")
@click.argument("name")
@click.pass_obj
def models_show(front: Front, name: str) -> None:
    """Show a bundle's origin and its input. NAME may be a folder."""
    bundle = _bundle(front.settings(), name)
    size = " x ".join(map(str, bundle.preprocess.size))
    fed = f"{size} pixels, {bundle.preprocess.resize_mode}, {bundle.preprocess.interpolation}"
    rows = [
        ("name", bundle.name),
        ("folder", str(bundle.folder)),
        ("space", bundle.space.id),
        ("numbers", str(bundle.dimension)),
        ("pictures", fed),
        ("texts", f"up to {bundle.text_window} tokens"),
        *_detector_rows(bundle),
        ("licence", bundle.licence),
        *(("made from", line) for line in bundle.manifest.provenance),
        *((path, digest) for path, digest in bundle.manifest.files.items()),
    ]
    for label, words in rows:
        click.echo(f"{label:<28} {words}")


@models.command("verify")
@click.argument("name")
@click.pass_obj
def models_verify(front: Front, name: str) -> None:
    """Check a bundle for all problems; exit code 9 if there are any."""
    try:
        from models.making.verifying import verify
    except ImportError as error:
        raise Broken("the package onnx is not installed", todo="pip install 'watchword[embedded]' brings it") from error

    folder = bundle_folder(front.settings(), name, _say)
    findings = verify(folder)
    for finding in findings:
        click.echo(f"{finding.kind:<10} {finding.path} {finding.words}")
    if findings:
        raise Broken(f"{folder.name} is not sound ({len(findings)} findings)", todo="remove it and get it again")
    click.echo(f"{folder.name} is sound: every file as sealed, known operators only, and its canary answers")


@models.command("build")
@click.pass_obj
def models_build(front: Front) -> None:
    """Assemble the built-in bundle, offline, unless it exists."""
    from models.making.builtin import builtin_bundle

    click.echo(builtin_bundle(front.settings().cache_dir, _say))


@models.command("export")
@click.argument("model")
@click.option("--weights", metavar="TAG|FILE", help="One of open_clip's tags, or a safetensors file.")
@click.option("--random", "seed", type=int, metavar="SEED", help="Random weights, for tests and measurements.")
@click.option("--licence", default="see the weights' owner", show_default=True, help="The weights' licence.")
@click.option("--name", help="The bundle's name (default: the model's).")
@click.option("--torch", "with_torch", is_flag=True, help="Also store the weights for encoder.engine=torch.")
@click.pass_obj
def models_export(
    front: Front, model: str, weights: str | None, seed: int | None, licence: str, name: str | None, with_torch: bool
) -> None:
    """Turn an open_clip MODEL into a bundle: its name, hf-hub:OWNER/NAME, or a folder with open_clip_config.json."""
    if weights is not None and seed is not None:
        raise Invalid("--weights and --random exclude each other", todo="give one of them")
    try:
        from models.making.export import export_bundle, find_source
    except ImportError as error:
        raise Broken(f"the package {error.name} is not installed", todo=_NO_TORCH) from error

    settings = front.settings()
    cache = settings.cache_dir / "hub"
    source = find_source(model, weights=weights, seed=seed, cache=cache, fetch=_fetch)
    target = made_bundles(settings) / (name or source.name)
    bundle = export_bundle(source, target, licence=licence, cache=cache, fetch=_fetch, say=_say, with_torch=with_torch)
    _done(bundle)


@models.command("pull")
@click.argument("repository")
@click.option("--name", help="The bundle's name (default: the repository's).")
@click.option("--revision", default="main", show_default=True, help="Branch, tag or commit.")
@click.pass_obj
def models_pull(front: Front, repository: str, name: str | None, revision: str) -> None:
    """Fetch the bundle OWNER/NAME from a hub. HF_ENDPOINT sets another hub, HF_TOKEN gives access to private ones."""
    try:
        from models.making.pull import pull_bundle
    except ImportError as error:
        raise Broken(f"the package {error.name} is not installed", todo=_NO_HUB) from error

    target = made_bundles(front.settings()) / (name or repository.rsplit("/", maxsplit=1)[-1])
    _done(pull_bundle(repository, target, say=_say, revision=revision))


@models.command("quantize")
@click.argument("name")
@click.argument("clips", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--as", "new_name", help="The int8 bundle's name (default: NAME-int8).")
@click.pass_obj
def models_quantize(front: Front, name: str, clips: tuple[Path, ...], new_name: str | None) -> None:
    """Make an int8 bundle. It is kept if it is faster here and finds the same in CLIPS, recordings of your cameras."""
    try:
        from models.making.quantize import quantize_bundle
    except ImportError as error:
        raise Broken(f"the package {error.name} is not installed", todo="pip install onnx") from error

    settings = front.settings()
    bundle = _bundle(settings, name)
    target = made_bundles(settings) / (new_name or f"{bundle.name}-int8")
    frames = [frame for clip in clips for frame in _frames(settings, clip)]
    verdict = quantize_bundle(bundle, target, frames, threads=settings.encoder.threads, say=_say)
    _show_verdict(verdict, len(frames))
    sys.exit(0 if verdict.kept else 1)


@models.command("bench")
@click.argument("name")
@click.pass_obj
def models_bench(front: Front, name: str) -> None:
    """Measure a bundle's speed on this machine, by batch size."""
    from models.engines.pace import bench

    settings = front.settings()
    bundle = _bundle(settings, name)
    click.echo("tower    batch   ms a call   a second")
    for pace in bench(bundle, threads=settings.encoder.threads):
        click.echo(f"{pace.tower:<8} {pace.batch:>5} {pace.call_ms:>11.1f} {pace.per_second:>10.1f}")


def _detector_rows(bundle: Bundle) -> list[tuple[str, str]]:
    if bundle.detector is None:
        return [("objects", "no detector")]
    config = bundle.detector.config
    return [
        (
            "objects",
            f"from score {config.threshold:g} on, {config.side} pixels, as much work as {config.cost:g} pictures",
        ),
        ("kinds", ", ".join(config.kinds)),
    ]


def _bundle(settings: Settings, name: str) -> Bundle:
    from models.bundle import load_bundle

    return load_bundle(bundle_folder(settings, name, _say))


def _fetch(repository: str, paths: list[str], folder: Path) -> None:
    try:
        from models.making.hub import fetch
    except ImportError as error:
        raise Broken(f"the package {error.name} is not installed", todo=_NO_HUB) from error

    _say(f"fetching {', '.join(paths)} of {repository}")
    fetch(repository, paths, folder)


def _frames(settings: Settings, clip: Path) -> Iterator[bytes]:
    """The first frames of a recording, at a few per second."""
    import threading
    from itertools import islice

    from cameras.source import watch
    from proto.types import Camera

    camera = Camera(name=clip.stem[:64], url=str(clip.resolve()), speed=0.0)
    reading = settings.camera.model_copy(update={"fps": _FRAMES_A_SECOND})
    for picture in islice(watch(camera, reading, threading.Event()), _FRAMES_EACH):
        yield picture.jpeg(_JPEG_SIDE, _JPEG_QUALITY)


def _show_verdict(verdict: Verdict, frames: int) -> None:
    click.echo(f"{'tower':<6} {'int8':<8} {'MB':>14} {'ms an item':>16} {'cosine':>8}")
    for trial in verdict.trials:
        size = f"{trial.was_megabytes:.0f} -> {trial.megabytes:.0f}"
        pace = f"{trial.was_item_ms:.1f} -> {trial.item_ms:.1f}"
        click.echo(
            f"{trial.tower:<6} {trial.method:<8} {size:>14} {pace:>16} {trial.least_cosine:>8.4f}  "
            f"{trial.reason or 'good'}"
        )
    if verdict.overlap is not None:
        click.echo(f"search over {frames // 2} frames: overlap@10 {verdict.overlap:.3f}, Kendall tau {verdict.tau:.3f}")
    if verdict.kept:
        _done(verdict.kept)
    else:
        click.echo(f"no: {verdict.reason}")


def _done(bundle: Bundle) -> None:
    click.echo(f"{bundle.name} is ready: space {bundle.space.id}, {bundle.dimension} numbers, in {bundle.folder}")
    click.echo(f"use it with --set encoder.bundle={bundle.folder}")


def _say(words: str) -> None:
    click.echo(words, err=True)
