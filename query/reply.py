"""The search reply as protobuf."""

from __future__ import annotations

from proto.v1 import query_pb2
from query.search import Found

MOST_GAPS = 100


def reply_of(found: Found) -> query_pb2.SearchReply:
    """The reply: hits, what they are based on, and coverage."""
    return query_pb2.SearchReply(
        hits=[
            query_pb2.Hit(
                moment_id=hit.span.id,
                camera=hit.span.camera,
                start_ms=hit.span.start_ms,
                peak_ms=hit.span.peak_ms,
                end_ms=hit.span.end_ms,
                score=hit.score,
                closed=hit.span.closed,
                frames=hit.span.frames,
            )
            for hit in found.answer.hits
        ],
        coverage=_coverage_of(found),
        timing=query_pb2.Timing(
            total_ms=found.total_s * 1000,
            embed_ms=found.embed_s * 1000,
            index_ms=found.index_s * 1000,
            vector_cached=found.vector_cached,
        ),
        space=found.space,
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
            query_pb2.Unsearched(shard=part.shard, start_ms=part.start_ms, end_ms=part.end_ms)
            for part in answer.unsearched
        ],
        spaces_unsearched=answer.spaces,
        coverage_unknown=told.unknown,
    )
