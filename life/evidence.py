"""Exports for a quarrel or a court: clips, pictures, moments and coverage of a time of one camera, with a manifest of
their hashes that is signed.

Nothing that is gone goes into one: what is erased or too old is left out by the rules as they are when it begins, also
where it is still stored, and an export during which more of it was erased is given up.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from catalog.coverage import Gap
from catalog.recordings import Clip
from index.calls import first
from index.filters import overlapping
from index.removal import Holding, Holdings
from index.store import fullest
from life.finding import holdings_of
from life.parcel import Opened, Packed, Parcel, free_bytes
from life.receipts import date
from life.signing import Form, Signer, issuer_of
from proto.errors import Broken, Invalid, Transient, Unknown
from proto.life import Erased, Gone, Rules, Stretch
from proto.types import Box, Moment

EVIDENCE = Form("watchword export 1", "manifest of an export", "give the folder or zip that `watchword export` wrote")
MANIFEST = "manifest.json"
_ROOM_EACH = 400_000
"""Bytes. So much room is wanted for the pictures and the words of a moment before it is begun."""
_MOST_FORMATS = 1000
_TIME = (
    "milliseconds since 1970-01-01 UTC by the clock of the machine that watched the camera. The first picture of a "
    "connection is stamped when it arrives, those that follow by the time stamps of the stream, corrected where these "
    "drift. The camera's own clock is not used."
)


class Index(Protocol):
    """The moments of every space. May raise Transient, Overloaded or Broken."""

    async def holdings(self) -> Holdings:
        """Every bucket, and the shards that did not answer."""

    async def moments(self, holding: Holding, which: Any) -> list[Moment]:
        """The moments of a bucket that pass."""


class PictureStore(Protocol):
    """The pictures of moments. Methods block."""

    def get(self, moment_id: str) -> bytes:
        """The moment's own. Unknown when there is none."""

    def of_instant(self, moment_id: str, at_ms: int) -> bytes | None:
        """That of an instant."""


class RecordingStore(Protocol):
    """The recordings of this machine. Methods block."""

    def clip(self, camera: str, start_ms: int, end_ms: int, gone: Gone) -> Clip:
        """The recording of this time, without what is gone. Unknown when there is none."""


class CoverageStore(Protocol):
    """What was not looked at. Methods block."""

    def gaps(self, cameras: frozenset[str] | None, start_ms: int | None, end_ms: int | None) -> list[Gap]:
        """The gaps that overlap the time."""

    def looked_until(self, cameras: frozenset[str] | None = None) -> dict[str, int]:
        """Up to when each camera was looked at."""


@dataclass(frozen=True)
class From:
    """Where an export comes from."""

    index: Index
    pictures: PictureStore
    coverage: CoverageStore
    recordings: RecordingStore
    rules: Callable[[], Rules]
    now_ms: Callable[[], int]
    longest_ms: int
    """No moment is longer."""


@dataclass(frozen=True)
class Wanted:
    """What is exported, and how."""

    stretch: Stretch
    moment: str
    """Only this one; empty: all that touch the time."""
    asked: Mapping[str, Any]
    """Who asked for it, why, and with what software, as it goes into the manifest."""
    masked: Callable[[bytes], tuple[bytes, bool] | None] | None
    """Blanks in a picture what the camera's masks cover now, and says whether that changed it; gives None for one that
    cannot be blanked. None: no masks."""
    clips: bool
    """False where recordings show what a mask should hide."""
    masks: str
    """How masks are respected, in words."""


@dataclass(frozen=True)
class Gathered:
    """All that will be in it, but for the bytes."""

    gone: Gone
    moments: list[dict[str, Any]]
    clips: list[Clip]
    without: list[dict[str, Any]]
    """Parts of the time that no clip shows, and why."""

    @property
    def bytes(self) -> int:
        """About how large it will be."""
        return sum(clip.size for clip in self.clips) + len(self.moments) * _ROOM_EACH


async def gathered(at: From, wanted: Wanted) -> Gathered:
    """Find out what there is. Raises Unknown when there is nothing, and the errors of stores that cannot be asked."""
    times = wanted.stretch
    gone = at.rules().gone(at.now_ms())
    found = await at.index.holdings()
    if found.missing:
        raise first(found.missing)
    which = overlapping(frozenset({times.camera}), times.start_ms, times.end_ms, without=gone)
    spans: list[Moment] = []
    spaces: dict[str, set[str]] = {}
    for holding in holdings_of(found.known, Erased(times), at.longest_ms):
        for one in await at.index.moments(holding, which):
            if wanted.moment in ("", one.id):
                spans.append(one)
                spaces.setdefault(one.id, set()).add(one.space)
    moments = sorted(fullest(spans).values(), key=lambda one: (one.start_ms, one.id))
    clips, without = _clips(at, times, gone) if wanted.clips else ([], [_missed(times, "masks")])
    if wanted.moment and not moments:
        raise Unknown(f"there is no moment {wanted.moment}", todo="give the moment_id of a hit")
    if not moments and not clips:
        raise Unknown(
            f"nothing of {times.camera} is stored from {date(times.start_ms)} to {date(times.end_ms)}",
            todo="`watchword index status` says what there is",
        )
    return Gathered(gone, [_told(one, sorted(spaces[one.id])) for one in moments], clips, without)


def export(
    at: From, wanted: Wanted, found: Gathered, signer: Signer, out: Path, progress: Callable[[int], None]
) -> dict[str, Any]:
    """Write it, and give its manifest. Blocks; `progress` is told the bytes that were written.

    Raises Broken when there is no room, and Transient when something of it was erased meanwhile: then there is nothing.
    """
    if (free := free_bytes(out)) < found.bytes:
        raise Broken(
            f"the export takes about {found.bytes:,} bytes, and {free:,} are free", todo="free some space, or use -o"
        )
    times, camera = wanted.stretch, wanted.stretch.camera
    with Parcel(out) as parcel:
        files = []

        def add(name: str, what: str, pieces: Iterable[bytes], **more: Any) -> None:
            packed = parcel.add(name, _counted(pieces, progress))
            files.append({**asdict(packed), "what": what, **more})

        for number, clip in enumerate(found.clips, 1):
            spans = [{"start_ms": begin, "end_ms": end} for begin, end in clip.spans]
            add(f"clips/{number}-{clip.start_ms}.mp4", "clip", clip.chunks(), codec=clip.codec, spans=spans)
        for moment in found.moments:
            moment["pictures"] = list(_pictures(at, wanted, moment, add))
        coverage = _coverage(at, times, found)
        add("moments.json", "moments", [_json(found.moments)])
        add("coverage.json", "coverage", [_json(coverage)])
        later = at.rules().gone(at.now_ms())
        told = [(one["start_ms"], one["end_ms"]) for one in found.moments]
        shown = [(begin, end - 1) for clip in found.clips for begin, end in clip.spans]
        if any(later.covers(camera, *one) for one in (*told, *shown)):
            raise Transient(
                "something of it was erased or became too old while it was exported, and nothing was written",
                todo="export again: it will be without that",
            )
        manifest = signer.signed(
            EVIDENCE,
            {
                **wanted.asked,
                "camera": camera,
                "from": date(times.start_ms),
                "to": date(times.end_ms),
                "from_ms": times.start_ms,
                "to_ms": times.end_ms,
                "moment": wanted.moment,
                "time": {"source": _TIME, **wanted.asked.get("time", {})},
                "masks": wanted.masks,
                "made": date(at.now_ms()),
                "files": files,
            },
        )
        parcel.add(MANIFEST, [_json(manifest)])
        parcel.finish()
    return manifest


def verified(path: Path) -> tuple[dict[str, Any], str, list[str]]:
    """The manifest of an export, the public key that signed it, and what differs from it, a line each.

    Raises Invalid when there is no manifest, or it was changed after it was signed. Blocks.
    """
    with Opened(path) as opened:
        try:
            manifest = json.loads(opened.read(MANIFEST))
            key = issuer_of(EVIDENCE, manifest)
            files = [Packed(str(one["name"]), int(one["bytes"]), str(one["sha256"])) for one in manifest["files"]]
        except (ValueError, RecursionError, KeyError, TypeError) as error:
            raise Invalid(f"{path} has a manifest that is damaged", todo="get the export again") from error
        differs = [f"{_plain(name)}: it is a link, or there twice" for name in opened.strange]
        differs += [f"{_plain(one.name)}: {why}" for one in files if (why := _differs(opened, one))]
        others = opened.names - {MANIFEST, *(one.name for one in files)}
        differs += [f"{_plain(name)}: it does not belong to the export" for name in sorted(others)]
    return manifest, key, differs


def _differs(opened: Opened, told: Packed) -> str:
    """What is wrong with a file; empty when it is as it was."""
    if told.name not in opened.names:
        return "it is missing"
    try:
        return "" if opened.packed(told.name, told.bytes + 1) == told else "it was changed"
    except Invalid:
        return "it cannot be read"


def _plain(name: str) -> str:
    """A name out of somebody's file, for a terminal."""
    return "".join(sign if sign.isprintable() else "?" for sign in name[:200])


def _clips(at: From, times: Stretch, gone: Gone) -> tuple[list[Clip], list[dict[str, Any]]]:
    """The recordings of the time: a clip for each format, one after the other."""
    clips: list[Clip] = []
    without: list[dict[str, Any]] = []
    start_ms = times.start_ms
    while start_ms < times.end_ms and len(clips) < _MOST_FORMATS:
        try:
            clip = at.recordings.clip(times.camera, start_ms, times.end_ms, gone)
        except Unknown:
            without.append(_missed(Stretch(times.camera, start_ms, times.end_ms), "not recorded"))
            break
        clips.append(clip)
        start_ms, before_ms = times.end_ms, start_ms
        for one in clip.missing:
            if one.reason == "another format":
                start_ms = max(one.start_ms, before_ms + 1)
            else:
                without.append(_missed(Stretch(times.camera, one.start_ms, one.end_ms), one.reason))
    return clips, without


def _missed(times: Stretch, why: str) -> dict[str, Any]:
    return {"start_ms": times.start_ms, "end_ms": times.end_ms, "reason": why}


def _pictures(at: From, wanted: Wanted, moment: dict[str, Any], add: Callable[..., None]) -> Iterator[dict[str, Any]]:
    """Put the pictures of a moment into the parcel, and tell of each."""
    name = moment["id"]
    instants = sorted({region["at_ms"] for region in moment["regions"]})
    found: list[tuple[str, int, bytes | None]] = []
    with suppress(Unknown):  # it may have been left out when its store was away
        found.append((f"pictures/{name}.jpg", moment["peak_ms"], at.pictures.get(name)))
    found += [(f"pictures/{name}-{one}.jpg", one, at.pictures.of_instant(name, one)) for one in instants]
    for file, at_ms, jpeg in found:
        if jpeg is None:
            continue
        blanked = (jpeg, False) if wanted.masked is None else wanted.masked(jpeg)
        if blanked is None:
            continue
        shown, changed = blanked
        add(file, "picture", [shown])
        yield {"file": file, "at_ms": at_ms, "masked_at_export": changed}


def _coverage(at: From, times: Stretch, found: Gathered) -> dict[str, Any]:
    """What of the time was not looked at, not recorded, or may not be shown any more."""
    camera = times.camera
    gaps = at.coverage.gaps(frozenset({camera}), times.start_ms, times.end_ms)
    rules = at.rules()
    erased = [one for one in rules.erasures if one.stretch.camera == camera]
    return {
        "looked_until_ms": at.coverage.looked_until(frozenset({camera})).get(camera),
        "gaps": [
            {"start_ms": begin, "end_ms": end, "reason": str(gap.reason), "frames": gap.frames}
            for gap in gaps
            for begin, end in found.gone.parts(gap.camera, gap.start_ms, gap.end_ms)
        ],
        "without_video": found.without,
        "erased": [
            {"erasure": one.number, "start_ms": one.stretch.start_ms, "end_ms": one.stretch.end_ms}
            for one in erased
            if one.stretch.touches(times.start_ms, times.end_ms - 1)
        ],
        "too_old_before_ms": found.gone.before_of(camera),
    }


def _told(one: Moment, spaces: Sequence[str]) -> dict[str, Any]:
    return {
        "id": one.id,
        "start_ms": one.start_ms,
        "peak_ms": one.peak_ms,
        "end_ms": one.end_ms,
        "start": date(one.start_ms),
        "end": date(one.end_ms),
        "closed": one.closed,
        "frames": one.frames,
        "place": {"log": one.log, "partition": one.partition, "first": one.first_offset, "last": one.last_offset},
        "objects": [{"kind": kind, "count": count} for kind, count in one.objects],
        "regions": [
            {
                "at_ms": region.at_ms,
                "box": {field.name: getattr(region.box, field.name) for field in fields(Box)},
                "kind": region.kind,
                "score": region.score,
                "since_ms": region.since_ms,
                "until_ms": region.until_ms,
            }
            for region in one.regions
        ],
        "spaces": list(spaces),
    }


def _counted(pieces: Iterable[bytes], progress: Callable[[int], None]) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        progress(len(piece))


def _json(told: Any) -> bytes:
    return (json.dumps(told, ensure_ascii=False, indent=2) + "\n").encode()
