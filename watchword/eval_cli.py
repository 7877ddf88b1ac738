"""`watchword eval …`: how good the answers are, measured through the query service."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from proto.errors import Invalid
from proto.types import now_ms
from watchword.times import instant, local, span

if TYPE_CHECKING:
    from evals.dataset import Dataset, Part
    from evals.new import Marked
    from proto.v1 import query_pb2
    from watchword.settings import Front, Settings

_FOLDER = click.Path(path_type=Path)
_PARTS = click.Choice(["train", "test", "all"])


@click.group("eval")
def evaluate() -> None:
    """Measure how good the answers are, on questions with known answers."""


@evaluate.command("check")
@click.argument("folder", type=_FOLDER)
def eval_check(folder: Path) -> None:
    """Check a dataset and say what is in it."""
    dataset = _dataset(folder)
    for part in ("train", "test"):
        asked = [question for question in dataset.questions if question.part == part]
        absent = sum(question.absent for question in asked)
        videos = sum(video.part == part for video in dataset.videos.values())
        click.echo(f"{part:<6} {videos} recordings, {len(asked)} questions, {absent} of them absent")


@evaluate.command("cameras")
@click.argument("folder", type=_FOLDER)
@click.option("--part", type=_PARTS, default="all", show_default=True)
def eval_cameras(folder: Path, part: str) -> None:
    """Print the commands that add a dataset's recordings as cameras, for a service that is then asked by --address."""
    import shlex
    from datetime import UTC

    for video in _dataset(folder).videos.values():
        if video.path is not None and part in ("all", video.part):
            start = datetime.fromtimestamp(video.start_ms / 1000, UTC).isoformat()
            path = shlex.quote(str(video.path))
            click.echo(f"watchword camera add {video.name} {path} --speed max --start {start}")


@evaluate.command("run")
@click.argument("folder", type=_FOLDER)
@click.option("--out", type=_FOLDER, help="The run's folder (default: eval-runs/NAME-TIME).")
@click.option("--part", type=_PARTS, default="all", show_default=True, help="Which questions are asked.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Hits asked for.")
@click.option("--address", metavar="HOST:PORT", help="Ask this service, which has the cameras. Nothing is started.")
@click.option(
    "--here", is_flag=True, help="Replay in the stack that runs on the data folder, instead of one of its own."
)
@click.option("--commit", default="", help="The state of the code that answers; it is noted in the run.")
@click.pass_obj
def eval_run(
    front: Front, folder: Path, out: Path | None, part: str, limit: int, address: str | None, here: bool, commit: str
) -> None:
    """Replay a dataset's recordings as cameras, ask its questions, and keep the answers.

    A stack of its own is started for it in RUN/stack, which is removed afterwards unless the run fails.
    """
    from evals.answers import write_run
    from watchword.eval_stack import Wanted, run_here, run_in_own_stack, run_there

    if here and address:
        raise Invalid("--here and --address exclude each other", todo="give one of them")
    settings, dataset = front.settings(), _dataset(folder)
    out = out or Path("eval-runs") / f"{dataset.name}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    if out.exists() and any(out.iterdir()):
        raise Invalid(f"{out} is not empty", todo="name another folder by --out")
    wanted = Wanted(dataset, _part(part), limit, commit, _say)
    if address:
        run = asyncio.run(run_there(settings, wanted, address))
    elif here:
        run = asyncio.run(run_here(settings, wanted))
    else:
        run = asyncio.run(run_in_own_stack(settings, wanted, out / "stack"))
    write_run(run, out)
    click.echo(f"the answers are in {out}; `watchword eval report {out}` shows them")


@evaluate.command("report")
@click.argument("run", type=_FOLDER)
@click.option("--part", type=_PARTS, default="test", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--png", type=_FOLDER, metavar="FILE", help="Also draw it (needs 'watchword[evals]').")
def eval_report(run: Path, part: str, as_json: bool, png: Path | None) -> None:
    """Show what a run is worth, with 95 % intervals."""
    from rich.console import Console

    from evals.answers import read_run
    from evals.picture import draw
    from evals.report import report_of, show

    report = report_of(read_run(run), _part(part))
    if as_json:
        click.echo(json.dumps(report.plain(), ensure_ascii=False, indent=1))
    else:
        Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(show(report))
    if png is not None:
        draw(report, png)


@evaluate.command("compare")
@click.argument("before", type=_FOLDER)
@click.argument("after", type=_FOLDER)
@click.option("--part", type=_PARTS, default="test", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def eval_compare(before: Path, after: Path, part: str, as_json: bool) -> None:
    """Compare two runs over the same questions: better, worse, or no difference seen."""
    from rich.console import Console

    from evals.answers import read_run
    from evals.report import compare_runs, compared_plain, show_compared

    found = compare_runs(read_run(before), read_run(after), _part(part))
    if as_json:
        click.echo(json.dumps(compared_plain(found), ensure_ascii=False, indent=1))
    else:
        Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(show_compared(found))


@evaluate.command("calibrate")
@click.argument("run", type=_FOLDER)
@click.option("--out", type=_FOLDER, required=True, metavar="FILE", help="Where the bundle's calibration.json goes.")
@click.option("--feature", "features", multiple=True, metavar="NAME", help="Default: log10_e and z_words. Repeatable.")
def eval_calibrate(run: Path, out: Path, features: tuple[str, ...]) -> None:
    """Learn from the train part of a run how confident to be."""
    from evals.calibrate import USED, write_calibration

    click.echo(write_calibration(run, out, features or USED))


@evaluate.command("new")
@click.argument("folder", type=_FOLDER)
@click.option("--questions", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="One question a line.")
@click.option("--question", "single", help="Add this one question, with its --span, or as --absent. Asks nothing.")
@click.option("--span", "spans", nargs=2, multiple=True, metavar="CAMERA START-END", help="Such as gate 10:00-10:05.")
@click.option("--absent", is_flag=True, help="Nothing answers the --question.")
@click.option("--day", help="The day of times such as 10:00 (default: today).")
@click.option("--language", default="en", show_default=True)
@click.option("--part", type=click.Choice(["train", "test"]), default="test", show_default=True)
@click.pass_obj
def eval_new(
    front: Front,
    folder: Path,
    questions: Path | None,
    single: str | None,
    spans: tuple[tuple[str, str], ...],
    absent: bool,
    day: str | None,
    language: str,
    part: str,
) -> None:
    """Make a dataset from your own cameras: type questions, mark which hits of the running service are right.

    It adds to FOLDER if that has a dataset already.
    """
    from evals.new import Making, Marked, parse_span
    from watchword.eval_stack import video_of

    settings = front.settings()
    time_of = _TimeOf(day)
    if single is None and (spans or absent):
        raise Invalid("--span and --absent belong to a --question", todo="give the question too")
    if single is not None and bool(spans) == absent:
        raise Invalid("the question has no answer", todo="give --span CAMERA START-END, or --absent")
    making = Making(folder, lambda name: video_of(settings, name), _train_or_test(part), language)
    if single is not None:
        marks = [Marked(single, tuple(parse_span(camera, words, time_of) for camera, words in spans))]
        cameras: list[str] = []
    else:
        lines = questions.read_text(encoding="utf-8").splitlines() if questions else None
        marks, cameras = asyncio.run(_marked(settings, lines, day))
    for mark in marks:
        making.add(mark)
    dataset = making.write(cameras)
    click.echo(f"{folder} has {len(dataset.questions)} questions; `watchword eval run {folder} --here` asks them")


async def _marked(settings: Settings, lines: list[str] | None, day: str | None) -> tuple[list[Marked], list[str]]:
    from evals.new import ask_and_mark, typed_questions
    from watchword.reaching import query_client

    typed = _typed()
    questions = typed_questions(typed, _say) if lines is None else [line for line in lines if line.strip()]
    async with query_client(settings) as service:
        cameras = [camera.name for camera in await service.cameras()]
        marks = await ask_and_mark(questions, typed, service, _TimeOf(day), _shown, _say)
    return marks, cameras


def _typed() -> Iterator[str]:
    """The lines that are typed, or come from a pipe."""
    while line := sys.stdin.readline():
        yield line.rstrip("\n")


class _TimeOf:
    """10:00, 10:00:30 (of the day) or 2026-05-01T10:00, in milliseconds."""

    def __init__(self, day: str | None) -> None:
        self._day = day or f"{datetime.now().astimezone():%Y-%m-%d}"

    def __call__(self, words: str) -> int:
        return instant(words if "T" in words else f"{self._day}T{words}", now_ms())


def _shown(hit: query_pb2.Hit) -> str:
    sure = f"confidence {hit.confidence:.2f}" if hit.confidence else f"score {hit.score:.3f}"
    return f"{hit.camera}  {span(hit.start_ms, hit.end_ms)}  (at {local(hit.at_ms or hit.peak_ms)[11:]})  {sure}"


def _dataset(folder: Path) -> Dataset:
    from evals.reading import read_dataset
    from watchword.eval_stack import duration_of

    return read_dataset(folder, duration_of=duration_of)


def _part(words: str) -> Part | None:
    return None if words == "all" else _train_or_test(words)


def _train_or_test(words: str) -> Part:
    return "train" if words == "train" else "test"


def _say(words: str) -> None:
    click.echo(words, err=True)
