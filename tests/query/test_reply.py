"""What the wire says of an answer's coverage."""

from __future__ import annotations

from catalog.coverage import Gap, Reason
from index.store import Answer, Unsearched
from query.coverage import CoverageTold, Watermark
from query.reply import MOST_GAPS, reply_of
from query.search import Found
from tests.contracts.moments import DAY, NOON, SPACE


def found(answer: Answer, coverage: CoverageTold) -> Found:
    return Found(
        hits=[],
        answer=answer,
        coverage=coverage,
        space=SPACE.id,
        threshold=0.5,
        vector_cached=True,
        embed_s=0.001,
        index_s=0.002,
        total_s=0.003,
    )


def test_everything_that_was_not_searched_is_on_the_wire() -> None:
    answer = Answer([], ["m1"], 2, 3, [Unsearched("m2", NOON, NOON + DAY)], spaces=["f" * 16])
    told = CoverageTold([Gap("gate", Reason.AWAY, 1, 2, 3)], [Watermark("gate", NOON)])
    coverage = reply_of(found(answer, told)).coverage
    assert coverage.partial
    assert (list(coverage.shards_missing), coverage.shards_searched, coverage.buckets_searched) == (["m1"], 2, 3)
    assert [(part.shard, part.start_ms, part.end_ms) for part in coverage.unsearched] == [("m2", NOON, NOON + DAY)]
    assert list(coverage.spaces_unsearched) == ["f" * 16]
    assert [(gap.camera, gap.reason, gap.start_ms, gap.end_ms, gap.frames) for gap in coverage.gaps] == [
        ("gate", "away", 1, 2, 3)
    ]
    assert [(mark.camera, mark.looked_ms) for mark in coverage.watermarks] == [("gate", NOON)]
    assert not coverage.coverage_unknown


def test_of_many_gaps_the_earliest_are_told_and_all_are_counted() -> None:
    gaps = [Gap("gate", Reason.SHED, number, number, 2) for number in range(1000)]
    coverage = reply_of(found(Answer([]), CoverageTold(gaps))).coverage
    assert [gap.start_ms for gap in coverage.gaps] == list(range(MOST_GAPS))
    assert (coverage.gaps_in_all, coverage.frames_not_looked_at) == (1000, 2000)


def test_a_coverage_that_is_unknown_makes_the_answer_partial() -> None:
    coverage = reply_of(found(Answer([]), CoverageTold(unknown=True))).coverage
    assert (coverage.partial, coverage.coverage_unknown) == (True, True)


def test_an_answer_that_missed_nothing_says_so() -> None:
    coverage = reply_of(found(Answer([], shards_searched=1), CoverageTold(watermarks=[Watermark("gate", 1)]))).coverage
    assert not coverage.partial
