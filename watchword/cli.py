"""The command line. Every command reads the settings once and calls another module. A WatchwordError becomes one line
on standard error and an exit code."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from proto.errors import Invalid, WatchwordError
from proto.tracing import traced
from watchword.access_cli import audit, token
from watchword.backup_cli import backup, restore
from watchword.camera_cli import camera
from watchword.discover_cli import discover_command
from watchword.erase_cli import erase
from watchword.eval_cli import evaluate
from watchword.export_cli import export_command
from watchword.life_cli import hold, index, retention
from watchword.logs import log_to_stderr, say_error, warn_on_stderr
from watchword.models_cli import models
from watchword.plan_cli import plan_command
from watchword.recording_cli import clip, recording
from watchword.settings import Front, describe_settings
from watchword.shards_cli import rebalance, shards
from watchword.spaces_cli import migrate
from watchword.stream_cli import dead_letters, topics

Result = TypeVar("Result")

EXITS = (
    "Exit codes: 0 done; 2 wrong request; 3 a part is down; 4 busy; 5 too late; 6 unknown name; 7 not allowed; "
    "8 another bundle; 9 wrong set-up; 10 no good token."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXITS)
@click.option("--config", type=click.Path(path_type=Path), help="Settings file (default: ./watchword.toml).")
@click.option("--data-dir", help="Folder of the index, thumbnails, cameras, recordings and logs.")
@click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="Any setting, such as camera.fps=1. Repeatable."
)
@click.version_option(package_name="watchword")
@click.pass_context
def command(context: click.Context, config: Path | None, data_dir: str | None, sets: tuple[str, ...]) -> None:
    """Watchword watches live cameras and answers in words."""
    flags: dict[str, str] = {}
    for given in sets:
        key, equals, value = given.partition("=")
        if not equals or not key:
            raise Invalid(f"--set {given!r} has no value", todo="write --set camera.fps=1")
        flags[key] = value
    if data_dir is not None:
        flags["data_dir"] = data_dir
    context.obj = Front(flags, config)


@command.command()
@click.option("--kafka", metavar="HOST:PORT[,…]", help="Use this Kafka instead of the embedded broker.")
@click.option("--milvus", metavar="URL", help="Use this Milvus, or faiss:/FOLDER, instead of the embedded one.")
@click.option("--redis", metavar="URL", help="Use this Redis instead of the embedded one.")
@click.option("--encoder", metavar="HOST:PORT", help="Use this encoder worker instead of the stack's own.")
@click.pass_obj
def up(front: Front, kafka: str | None, milvus: str | None, redis: str | None, encoder: str | None) -> None:
    """Start everything on this machine and stay until Ctrl-C."""
    from watchword.stack import run_stack

    endpoints = f'["{milvus}"]' if milvus else None
    settings = front.settings(
        kafka__brokers=kafka, milvus__endpoints=endpoints, redis__url=redis, encoder__address=encoder
    )
    warn_on_stderr()
    sys.exit(_run(run_stack(settings, live=sys.stdout.isatty())))


@command.command()
@click.argument("process", type=click.Choice(["worker", "stream", "camera", "query", "gateway"]))
@click.pass_obj
def run(front: Front, process: str) -> None:
    """Run one process of a larger installation in the foreground."""
    from watchword.ending import Ending
    from watchword.processes import run_process

    settings = front.settings()
    log_to_stderr(settings.log, process)
    with traced(settings.trace, process):
        _run(run_process(process, settings, Ending()))


@command.command()
@click.pass_obj
def probe(front: Front) -> None:
    """Whether the process on this machine's ops.port is ready: exit code 0, or 3 and what it waits for."""
    from watchword.ops import probe as ask

    ask(front.settings().ops)
    click.echo("ready")


command.add_command(models)
command.add_command(token)
command.add_command(audit)
command.add_command(evaluate)
command.add_command(dead_letters)
command.add_command(topics)
command.add_command(recording)
command.add_command(clip)
command.add_command(retention)
command.add_command(hold)
command.add_command(erase)
command.add_command(export_command)
command.add_command(index)
index.add_command(migrate)
command.add_command(backup)
command.add_command(restore)
index.add_command(shards)
index.add_command(rebalance)
command.add_command(plan_command)
camera.add_command(discover_command)
command.add_command(camera)


@command.command()
@click.argument("words", required=False)
@click.option("--camera", "-c", "cameras", multiple=True, metavar="NAME", help="Only this camera. Repeatable.")
@click.option("--group", "groups", multiple=True, metavar="GROUP", help="Only cameras of this group. Repeatable.")
@click.option("--since", metavar="TIME", help="30s, 10m, 2h, 7d ago, or 2026-05-01T10:00.")
@click.option("--until", metavar="TIME", help="Same form as --since.")
@click.option("--limit", "-n", default=10, show_default=True, help="Most hits to show.")
@click.option(
    "--object", "objects", multiple=True, metavar="KIND", help="Only where this was seen: person. Repeatable."
)
@click.option("--min-confidence", default=0.0, metavar="SHARE", help="Only hits at least this sure, 0 to 1.")
@click.option("--all", "all_moments", is_flag=True, help="Every moment by itself, near-duplicates too.")
@click.option("--order", type=click.Choice(["relevance", "time"]), default="relevance", help="Best or earliest first.")
@click.option("--sheet", type=click.Path(path_type=Path), metavar="FILE.jpg", help="Draw the hits' pictures into FILE.")
@click.option("--like", metavar="MOMENT", help="Instead of words: more moments like this one.")
@click.option("--image", type=click.Path(path_type=Path), help="Instead of words: moments that look like this picture.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def search(
    front: Front,
    words: str | None,
    cameras: tuple[str, ...],
    groups: tuple[str, ...],
    since: str | None,
    until: str | None,
    limit: int,
    objects: tuple[str, ...],
    min_confidence: float,
    all_moments: bool,
    order: str,
    sheet: Path | None,
    like: str | None,
    image: Path | None,
    as_json: bool,
) -> None:
    """Find moments by WORDS, such as "a person riding a bicycle".

    Each hit says how sure it is. Unsure ones come last, behind a line.
    """
    from watchword.answers import TypedSearch, ask_and_show

    if sum(given is not None for given in (words, like, image)) != 1:
        raise Invalid("nothing to look for", todo="give exactly one of words, --image FILE and --like MOMENT")
    question = TypedSearch(
        words, image, like, cameras, since, until, limit, objects, min_confidence, all_moments, order == "time", groups
    )
    settings = front.settings()
    with traced(settings.trace, "search"):
        _run(ask_and_show(settings, question, as_json, sheet))


@command.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def kinds(front: Front, as_json: bool) -> None:
    """Show the kinds of objects that `search --object` knows."""
    from watchword.answers import show_kinds

    _run(show_kinds(front.settings(), as_json))


@command.command()
@click.pass_obj
def config(front: Front) -> None:
    """Show the effective settings, with secrets hidden."""
    click.echo(describe_settings(front.settings()))


@command.command()
@click.pass_obj
def doctor(front: Front) -> None:
    """Check every part and say what to do."""
    from watchword.answers import show_findings
    from watchword.doctor import examine

    sys.exit(show_findings(_run(examine(front.settings()))))


@command.command("support-bundle")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.pass_obj
def support_bundle(front: Front, file: Path) -> None:
    """Write FILE.tar.gz with versions, settings, logs, metrics and the doctor's report, without secrets."""
    from watchword.support import make_bundle

    made = _run(make_bundle(front.settings(), file))
    click.echo(f"{file}: {len(made.files)} files; secrets are removed, but read it before you send it")
    for name, why in made.missing.items():
        click.echo(f"  without {name}: {why}", err=True)


@command.command()
@click.option("--once", is_flag=True, help="Exit after the answers.")
@click.pass_obj
def demo(front: Front, once: bool) -> None:
    """Watch three real clips, ask some questions, show the answers."""
    from watchword.demo import run_demo

    warn_on_stderr()
    sys.exit(_run(run_demo(front.settings(), once)))


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(work)


def main(arguments: list[str] | None = None) -> None:
    """The console script. A WatchwordError prints one line, never a traceback."""
    sys.exit(_guarded(lambda: command.main(arguments, prog_name="watchword", standalone_mode=False)))


def _guarded(work: Callable[[], object]) -> int:
    try:
        result = work()
    except WatchwordError as error:
        say_error(error)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except BrokenPipeError:
        return 141
    return result if isinstance(result, int) else 0
