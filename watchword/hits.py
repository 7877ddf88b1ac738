"""Hits, as a table for people, plain values for programs and tiles of a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from proto.v1 import query_pb2
from watchword.sheet import Row, Tile
from watchword.times import local, span

NOTHING_SURE = "nothing matches with confidence; the nearest were:"
LESS_SURE = "less sure of these:"


@dataclass(frozen=True)
class Shown:
    """A hit, and the path of its saved picture (None without one)."""

    hit: query_pb2.Hit
    thumbnail: Path | None
    of_its_time: bool = True
    """Whether the picture is that of `hit.at_ms`: the hit's box lies in no other one."""


def parted(reply: query_pb2.SearchReply, shown: Sequence[Shown]) -> tuple[list[Shown], list[Shown]]:
    """The hits that count as found, and the others, each in the order of the reply."""
    sure = [one for one in shown if one.hit.confidence >= reply.threshold]
    return sure, [one for one in shown if one.hit.confidence < reply.threshold]


def as_table(shown: Sequence[Shown]) -> Table:
    """Hits for people."""
    table = Table(box=None, pad_edge=False)
    recorded = any(one.hit.recorded for one in shown)
    for heading in ("camera", "when", "sure", "found", "seen", "picture", *(["clip"] if recorded else [])):
        table.add_column(heading, justify="right" if heading == "sure" else "left", no_wrap=True)
    for one in shown:
        hit = one.hit
        row = hit.camera, when(hit), percent(hit), hit.kind or "-", seen(hit) or "-", str(one.thumbnail or "-")
        # A command to be copied: it writes the clip of this moment.
        play = f"watchword clip --moment {hit.moment_id}" if hit.recorded else "-"
        table.add_row(*row, *([play] if recorded else []))
    return table


def as_row(title: str, reply: query_pb2.SearchReply, shown: Sequence[Shown]) -> Row:
    """Hits for a contact sheet: the sure ones first."""
    sure, weak = parted(reply, shown)
    if not sure:
        title = f"{title}: {NOTHING_SURE if weak else 'nothing matches'}"
    tiles = [_tile(one, sure=True) for one in sure] + [_tile(one, sure=False) for one in weak]
    return Row(title, tiles)


def plain_hit(one: Shown) -> dict[str, Any]:
    """A hit for programs."""
    hit = one.hit
    return {
        "camera": hit.camera,
        "start": local(hit.start_ms),
        "end": local(hit.end_ms),
        "start_ms": hit.start_ms,
        "peak_ms": hit.peak_ms,
        "end_ms": hit.end_ms,
        "confidence": round(hit.confidence, 4),
        "score": round(hit.score, 4),
        "kind": hit.kind or None,
        "at_ms": hit.at_ms,
        "box": [round(side, 4) for side in (hit.box.left, hit.box.top, hit.box.right, hit.box.bottom)],
        "objects": {one.kind: one.count for one in hit.objects},
        "moments": hit.moments,
        "closed": hit.closed,
        "frames": hit.frames,
        "recorded": hit.recorded,
        "moment_id": hit.moment_id,
        "thumbnail": str(one.thumbnail) if one.thumbnail else None,
    }


def when(hit: query_pb2.Hit) -> str:
    """Its span in local time; dots when it is going on, and how many moments it joins."""
    joined = f" ({hit.moments} moments)" if hit.moments > 1 else ""
    return span(hit.start_ms, hit.end_ms) + ("" if hit.closed else " …") + joined


def percent(hit: query_pb2.Hit) -> str:
    """Its confidence in percent: 100 and 0 only when it is that sure."""
    share = 100 * hit.confidence
    if 99.5 <= share < 99.95 or 0.05 <= share < 0.5:
        return f"{share:.1f} %"
    return f"{share:.0f} %"


def seen(hit: query_pb2.Hit) -> str:
    """The objects that were seen: "2 person, 1 car"."""
    return ", ".join(f"{one.count} {one.kind}" for one in hit.objects)


def _tile(one: Shown, *, sure: bool) -> Tile:
    hit, box = one.hit, one.hit.box
    sides = (box.left, box.top, box.right, box.bottom)
    inner = (
        one.of_its_time and 0 <= sides[0] < sides[2] <= 1 and 0 <= sides[1] < sides[3] <= 1 and sides != (0, 0, 1, 1)
    )
    found = f"{percent(hit)} {hit.kind}".strip()
    return Tile(one.thumbnail, sides if inner else None, (f"{hit.camera}  {found}", when(hit)), sure)
