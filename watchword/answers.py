"""Output of the command line: answers, cameras and findings, as a table for people or JSON for programs."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from catalog.files import write_whole
from proto.errors import Invalid, Unknown, WatchwordError
from proto.types import now_ms
from proto.v1 import query_pb2
from query.client import QueryClient
from watchword.camera_list import console
from watchword.coverage_words import not_searched, plain_coverage
from watchword.doctor import Finding
from watchword.hits import LESS_SURE, NOTHING_SURE, Shown, as_row, as_table, parted, plain_hit
from watchword.reaching import query_client
from watchword.settings import Settings
from watchword.sheet import check_sheet, write_sheet
from watchword.times import instant


@dataclass(frozen=True)
class TypedSearch:
    """A search as it was typed. Exactly one of words, image and like is given."""

    words: str | None
    image: Path | None = None
    like: str | None = None
    cameras: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None
    limit: int = 10
    objects: tuple[str, ...] = ()
    min_confidence: float = 0.0
    all_moments: bool = False
    by_time: bool = False
    groups: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The question in a few words."""
        return f'"{self.words}"' if self.words is not None else f"like {self.image or self.like}"


async def ask(client: QueryClient, question: TypedSearch, pictures: Path) -> tuple[query_pb2.SearchReply, list[Shown]]:
    """Ask the query service and save the picture of every hit under `pictures`."""
    now = now_ms()
    image = None
    if question.image is not None:
        try:
            image = question.image.read_bytes()
        except OSError as error:
            raise Invalid(f"{question.image} cannot be read ({error.strerror})", todo="name a picture file") from error
    reply = await client.search(
        text=question.words,
        image=image,
        moment_id=question.like,
        cameras=question.cameras,
        start_ms=instant(question.since, now) if question.since else 0,
        end_ms=instant(question.until, now) if question.until else 0,
        limit=question.limit,
        objects=question.objects,
        min_confidence=question.min_confidence,
        all_moments=question.all_moments,
        by_time=question.by_time,
        groups=question.groups,
    )
    gate = asyncio.Semaphore(8)
    trouble: list[WatchwordError] = []

    async def save(hit: query_pb2.Hit) -> Shown:
        async with gate:
            if trouble:
                return Shown(hit, None)
            try:
                picture = await client.thumbnail(hit.moment_id, hit.at_ms)
            except Unknown:
                return Shown(hit, None)
            except WatchwordError as error:
                trouble.append(error)
                return Shown(hit, None)
        path = pictures / f"{hit.moment_id}{f'-{picture.at_ms}' if picture.at_ms else ''}.jpg"
        await asyncio.to_thread(write_whole, path, picture.jpeg, durable=False)
        return Shown(hit, path, of_its_time=hit.at_ms in (picture.at_ms, hit.peak_ms))

    shown = list(await asyncio.gather(*(save(hit) for hit in reply.hits)))
    if trouble:
        click.echo(f"pictures are left out: {trouble[0]}", err=True)
    return reply, shown


async def ask_and_show(settings: Settings, question: TypedSearch, as_json: bool, sheet: Path | None = None) -> None:
    """Answer one question on the terminal, and as a contact sheet if a file is named for it."""
    pictures = settings.cache_dir / "thumbnails"
    if sheet is not None:
        check_sheet(sheet)
    async with query_client(settings) as client:
        reply, shown = await ask(client, question, pictures)
    if sheet is not None:
        await asyncio.to_thread(write_sheet, sheet, [as_row(question.title, reply, shown)])
    if as_json:
        click.echo(json.dumps(as_plain(reply, shown, sheet), ensure_ascii=False, indent=2))
        return
    _show_hits(reply, shown, question)
    if sheet is not None:
        click.echo(f"contact sheet: {sheet}")
    if lines := not_searched(reply.coverage):
        click.echo("not everything could be searched:", err=True)
        for line in lines:
            click.echo(f"  {line}", err=True)


def _show_hits(reply: query_pb2.SearchReply, shown: list[Shown], question: TypedSearch) -> None:
    """The sure hits, then the others behind a line that says so."""
    sure, weak = parted(reply, shown)
    if not shown:
        click.echo(
            "nothing matches with this confidence: lower --min-confidence, or widen --since"
            if question.min_confidence
            else "no moment matches: widen --since, or name other cameras"
        )
    if sure:
        console().print(as_table(sure))
    if weak:
        click.echo(LESS_SURE if sure else NOTHING_SURE)
        console().print(as_table(weak))


def as_plain(reply: query_pb2.SearchReply, shown: list[Shown], sheet: Path | None = None) -> dict[str, Any]:
    """The answer for programs: plain values, times in milliseconds and in local time."""
    timing = reply.timing
    return {
        "hits": [plain_hit(one) for one in shown],
        "no_confident_match": reply.no_confident_match,
        "threshold": round(reply.threshold, 4),
        "sheet": str(sheet) if sheet else None,
        "coverage": plain_coverage(reply.coverage),
        "timing_ms": {
            "total": round(timing.total_ms, 2),
            "embed": round(timing.embed_ms, 2),
            "index": round(timing.index_ms, 2),
            "loading": round(timing.loading_ms, 2),
            "vector_cached": timing.vector_cached,
        },
        "space": reply.space,
    }


async def show_kinds(settings: Settings, as_json: bool) -> None:
    """Print the kinds of objects that can be asked for."""
    async with query_client(settings) as client:
        kinds = await client.kinds()
    if as_json:
        click.echo(json.dumps(kinds, ensure_ascii=False, indent=2))
    else:
        click.echo("\n".join(kinds) or "this bundle knows no kinds of objects: ask in words")


def show_findings(findings: list[Finding]) -> int:
    """Print one line per part; returns exit code 1 if anything is wrong."""
    out = console()
    for finding in findings:
        mark = "[green]ok[/]" if finding.ok else "[red]!![/]"
        out.print(f"{mark}  {finding.part}: {finding.seen}" + (f"\n    {finding.todo}" if finding.todo else ""))
    return 0 if all(finding.ok for finding in findings) else 1
