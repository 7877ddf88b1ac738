"""The search reply as protobuf."""

from __future__ import annotations

import json
from dataclasses import replace
from urllib.parse import quote

from catalog.recordings import Clip
from catalog.statuses import CameraStatus, fields_of
from proto.types import Camera
from proto.v1 import query_pb2
from query.joining import Hit
from query.search import Found

MOST_GAPS = 100
_NOT_TOLD = "it cannot be read; whoever may change cameras is told why"
FEATURES_KEY = "watchword-features"


def reply_of(found: Found) -> query_pb2.SearchReply:
    """The reply: hits, what they are based on, and coverage."""
    return query_pb2.SearchReply(
        hits=[_hit_of(hit) for hit in found.hits],
        coverage=_coverage_of(found),
        timing=query_pb2.Timing(
            total_ms=found.total_s * 1000,
            embed_ms=found.embed_s * 1000,
            index_ms=found.index_s * 1000,
            vector_cached=found.vector_cached,
            loading_ms=found.answer.loading_s * 1000,
        ),
        space=found.space,
        no_confident_match=found.no_confident_match,
        threshold=found.threshold,
    )


def head_of(clip: Clip) -> query_pb2.ClipHead:
    """What a clip is, before its bytes."""
    return query_pb2.ClipHead(
        camera=clip.camera,
        start_ms=clip.start_ms,
        end_ms=clip.end_ms,
        codec=clip.codec,
        mime=clip.mime,
        bytes=clip.size,
        spans=[query_pb2.ClipSpan(start_ms=start_ms, end_ms=end_ms) for start_ms, end_ms in clip.spans],
        missing=[
            query_pb2.ClipMissing(start_ms=one.start_ms, end_ms=one.end_ms, reason=one.reason) for one in clip.missing
        ],
    )


def info_of(camera: Camera, status: CameraStatus, *, whole: bool) -> query_pb2.CameraInfo:
    """A camera, and how it is doing. Unless `whole`, nothing is told of where it is: a reason may name its address."""
    if not whole and status.why and status.state not in ("unknown", "disabled", "removed"):
        status = replace(status, why=_NOT_TOLD)
    told = {**fields_of(status), "gop_s": status.gop_s, "clock_ahead_ms": status.clock_ahead_ms or 0}
    del told["cost"], told["watched_by"]  # which host does what is for those who run it
    return query_pb2.CameraInfo(
        name=camera.name,
        watching=camera.watching,
        groups=camera.groups,
        status=query_pb2.CameraStatus(**told),
    )


def features_metadata(found: Found) -> tuple[tuple[str, str], ...]:
    """Trailing metadata with the features of every hit: see query/confidence.py."""
    features = [{name: round(value, 5) for name, value in hit.best.features.items()} for hit in found.hits]
    return ((FEATURES_KEY, quote(json.dumps(features, separators=(",", ":")), safe='{}[]":,')),)


def _hit_of(hit: Hit) -> query_pb2.Hit:
    best = hit.best.scored
    span, box, at_ms = best.span, best.box, best.at_ms or best.span.peak_ms
    return query_pb2.Hit(
        moment_id=span.id,
        camera=span.camera,
        start_ms=hit.start_ms,
        # The moment's own peak may show what was there before or after the thing.
        peak_ms=span.peak_ms if hit.start_ms <= span.peak_ms <= hit.end_ms else at_ms,
        end_ms=hit.end_ms,
        score=best.score,
        closed=hit.closed,
        frames=hit.frames,
        confidence=hit.best.confidence,
        box=query_pb2.Box(left=box.left, top=box.top, right=box.right, bottom=box.bottom),
        at_ms=at_ms,
        kind=best.kind,
        objects=[query_pb2.ObjectCount(kind=kind, count=count) for kind, count in hit.objects],
        moments=hit.moments,
    )


def _coverage_of(found: Found) -> query_pb2.Coverage:
    answer, told = found.answer, found.coverage
    return query_pb2.Coverage(
        partial=found.partial,
        shards_missing=answer.shards_missing,
        shards_searched=answer.shards_searched,
        buckets_searched=answer.buckets_searched,
        gaps=[
            query_pb2.Gap(
                camera=gap.camera, start_ms=gap.start_ms, end_ms=gap.end_ms, frames=gap.frames, reason=gap.reason
            )
            for gap in told.gaps[:MOST_GAPS]
        ],
        gaps_in_all=len(told.gaps),
        frames_not_looked_at=sum(gap.frames for gap in told.gaps),
        watermarks=[query_pb2.Watermark(camera=mark.camera, looked_ms=mark.looked_ms) for mark in told.watermarks],
        unsearched=[
            query_pb2.Unsearched(
                shard=part.shard, start_ms=part.start_ms, end_ms=part.end_ms, cameras=part.cameras, cold=part.cold
            )
            for part in answer.unsearched
        ],
        spaces_unsearched=answer.spaces,
        coverage_unknown=told.unknown,
    )
