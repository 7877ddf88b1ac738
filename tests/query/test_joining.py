"""Neighbours become one hit, and near-duplicates are few."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from index.store import Scored
from proto.types import Box, Span, Vector
from query.joining import GAP_MS, SEEN_GAP_MS, Hit, Judged, alone, joined, without_duplicates
from tests.contracts.moments import LOG, NOON, SPACE, unit

SURE = 0.5


def span(
    camera: str, start_ms: int, length_ms: int = 2000, *, closed: bool = True, objects: tuple[tuple[str, int], ...] = ()
) -> Span:
    return Span(
        id=f"{start_ms:014x}{camera:0>18}"[:32],
        space=SPACE.id,
        camera=camera,
        start_ms=start_ms,
        peak_ms=start_ms + length_ms // 2,
        end_ms=start_ms + length_ms,
        frames=3,
        closed=closed,
        log=LOG,
        partition=0,
        first_offset=start_ms,
        last_offset=start_ms + 3,
        objects=objects,
    )


def judged(one: Span, score: float, vector: Vector | None = None, confidence: float = 0.5) -> Judged:
    return Judged(Scored(one, score, vector=vector), confidence)


def spans_of(hits: list[Hit]) -> list[tuple[str, int, int, int]]:
    return [(hit.best.scored.span.camera, hit.start_ms, hit.end_ms, hit.moments) for hit in hits]


def test_neighbours_that_answer_alike_are_one_hit_with_the_best_ones_identity() -> None:
    a, b, c = (span("gate", NOON + n * 10_000) for n in range(3))
    (hit,) = joined([judged(b, 0.50), judged(a, 0.48), judged(c, 0.47)], 0.05, SURE)
    assert spans_of([hit]) == [("gate", a.start_ms, c.end_ms, 3)]
    assert (hit.best.scored.span, hit.frames, hit.closed) == (b, 9, True)


def test_a_hit_lasts_as_long_as_what_was_found_was_there() -> None:
    a, b = (span("gate", NOON + n * 10_000, 10_000) for n in range(2))
    first = Judged(Scored(a, 0.5, since_ms=NOON + 7000, until_ms=NOON + 9000), 0.5)
    second = Judged(Scored(b, 0.5, since_ms=NOON + 7000, until_ms=NOON + 12_000), 0.5)
    assert spans_of([alone(first)]) == [("gate", NOON + 7000, NOON + 9000, 1)]
    assert spans_of(joined([first, second], 0.05, SURE)) == [("gate", NOON + 7000, NOON + 12_000, 2)]
    assert spans_of(joined([judged(a, 0.5), second], 0.05, SURE)) == [("gate", NOON, NOON + 12_000, 2)]


def test_of_two_things_that_pass_one_after_the_other_each_is_a_hit() -> None:
    a, b = (span("gate", NOON + n * 10_000, 10_000) for n in range(2))
    first = Judged(Scored(a, 0.5, since_ms=NOON + 1000, until_ms=NOON + 4000), 0.9)
    for gap_ms, hits in ((SEEN_GAP_MS, 1), (SEEN_GAP_MS + 1, 2)):
        since_ms = NOON + 4000 + gap_ms
        second = Judged(Scored(b, 0.5, since_ms=since_ms, until_ms=since_ms + 1000), 0.9)
        assert len(joined([first, second], 0.05, SURE)) == hits


def test_one_thing_that_was_followed_from_moment_to_moment_is_one_hit_however_it_scores() -> None:
    a, b = (span("gate", NOON + n * 10_000, 10_000) for n in range(2))
    first = Judged(Scored(a, 0.5, since_ms=NOON + 7000, until_ms=NOON + 9000), 0.1)
    second = Judged(Scored(b, 0.2, since_ms=NOON + 7000, until_ms=NOON + 12_000), 0.1)
    assert spans_of(joined([first, second], 0.05, SURE)) == [("gate", NOON + 7000, NOON + 12_000, 2)]


def test_moments_far_apart_in_time_or_score_stay_apart() -> None:
    first, near, late = span("gate", NOON), span("gate", NOON + 2000), span("gate", NOON + 4000 + GAP_MS + 1)
    hits = joined([judged(first, 0.5), judged(late, 0.5), judged(near, 0.3)], 0.05, SURE)
    assert spans_of(hits) == [(one.camera, one.start_ms, one.end_ms, 1) for one in (first, late, near)]


def test_a_pause_of_just_the_gap_still_joins() -> None:
    first, later = span("gate", NOON), span("gate", NOON + 2000 + GAP_MS)
    assert [hit.moments for hit in joined([judged(first, 0.5), judged(later, 0.5)], 0.0, SURE)] == [2]


def test_a_moment_between_two_that_answers_otherwise_keeps_them_apart() -> None:
    a, between, c = (span("gate", NOON + n * 3000) for n in range(3))
    hits = joined([judged(a, 0.5), judged(c, 0.5), judged(between, 0.1)], 0.05, SURE)
    assert [hit.moments for hit in hits] == [1, 1, 1]


def test_rows_that_look_alike_may_differ_twice_as_much_in_score() -> None:
    a, b = span("gate", NOON), span("gate", NOON + 3000)
    same, other = unit(1), unit(2)
    assert len(joined([judged(a, 0.5, same), judged(b, 0.42, same)], 0.05, SURE)) == 1
    assert len(joined([judged(a, 0.5, same), judged(b, 0.42, other)], 0.05, SURE)) == 2
    assert len(joined([judged(a, 0.5, same), judged(b, 0.39, same)], 0.05, SURE)) == 2


def test_moments_that_only_resemble_the_question_by_chance_stay_apart_unless_they_show_the_same_kind() -> None:
    a, b = span("gate", NOON), span("gate", NOON + 3000)
    unsure = [judged(a, 0.5, confidence=0.1), judged(b, 0.5, confidence=0.9)]
    assert len(joined(unsure, 0.1, SURE)) == 2
    dogs = [replace(one, scored=replace(one.scored, kind="dog")) for one in unsure]
    assert len(joined(dogs, 0.1, SURE)) == 1


def test_cameras_are_never_joined() -> None:
    assert len(joined([judged(span("gate", NOON), 0.5), judged(span("dock", NOON), 0.5)], 1.0, SURE)) == 2


def test_a_hit_shows_the_most_of_each_kind_and_is_open_while_one_moment_is() -> None:
    a = span("gate", NOON, objects=(("car", 1), ("person", 2)))
    b = span("gate", NOON + 3000, objects=(("dog", 1), ("person", 1)), closed=False)
    (hit,) = joined([judged(a, 0.5), judged(b, 0.5)], 0.1, SURE)
    assert hit.objects == (("car", 1), ("dog", 1), ("person", 2))
    assert not hit.closed


moments = st.lists(
    st.tuples(st.sampled_from(["gate", "dock"]), st.integers(0, 40), st.integers(0, 10)), unique_by=lambda m: m[:2]
)


@given(moments, st.floats(0, 0.5))
def test_every_moment_is_in_exactly_one_hit_and_spans_cover_exactly_theirs(
    made: list[tuple[str, int, int]], tolerance: float
) -> None:
    """Moments of one camera do not overlap here, so a hit's moments are those that its span holds."""
    every = [judged(span(camera, NOON + at * 12_000), score / 10) for camera, at, score in made]
    every.sort(key=lambda one: (-one.scored.score, one.scored.span.id))
    hits = joined(every, tolerance, SURE)
    assert sum(hit.moments for hit in hits) == len(every)
    for hit in hits:
        best = hit.best.scored
        inside = [
            one.scored
            for one in every
            if one.scored.span.camera == best.span.camera
            and hit.start_ms <= one.scored.span.start_ms <= one.scored.span.end_ms <= hit.end_ms
        ]
        assert len(inside) == hit.moments
        assert best.score == max(one.score for one in inside)
        assert all(best.score - one.score <= tolerance for one in inside)
        assert (min(one.span.start_ms for one in inside), max(one.span.end_ms for one in inside)) == (
            hit.start_ms,
            hit.end_ms,
        )
    ranks = [every.index(hit.best) for hit in hits]
    assert ranks == sorted(ranks)


def test_at_most_three_hits_of_one_camera_look_the_same() -> None:
    same, other = unit(1), unit(2)
    hits = [alone(judged(span("gate", NOON + n * 60_000), 0.9 - n / 100, same)) for n in range(6)]
    hits += [alone(judged(span("gate", NOON + n * 60_000), 0.5, other)) for n in range(10, 12)]
    hits += [alone(judged(span("dock", NOON + n * 60_000), 0.4, same)) for n in range(4)]
    kept = without_duplicates(hits, 3, 1.0)
    assert kept == [*hits[:3], *hits[6:8], *hits[8:11]]


def test_a_sure_hit_is_left_out_only_beside_others_of_its_own_time() -> None:
    hour, same = 3_600_000, unit(1)
    hourly = [alone(judged(span("gate", NOON + n * hour), 0.9, same, confidence=0.8)) for n in range(5)]
    crowd = [alone(judged(span("gate", NOON + n * 60_000), 0.8, same, confidence=0.8)) for n in range(1, 5)]
    assert without_duplicates([*hourly, *crowd], 3, 0.5) == [*hourly, *crowd[:2]]
    assert without_duplicates([*hourly, *crowd], 3, 0.9) == hourly[:3]


def test_objects_of_one_kind_at_different_places_are_no_duplicates() -> None:
    boxes = [Box(n / 10, 0.2, n / 10 + 0.08, 0.5) for n in range(6)]
    people = [Scored(span("gate", NOON + n * 60_000), 0.9, 0, box, "person", unit(1)) for n, box in enumerate(boxes)]
    hits = [alone(Judged(one, 0.3)) for one in people]
    assert without_duplicates(hits, 1, 0.5) == hits
    there = [alone(Judged(replace(one, box=boxes[0]), 0.3)) for one in people]
    assert without_duplicates(there, 1, 0.5) == there[:1]


def test_hits_without_vectors_are_no_duplicates() -> None:
    hits = [alone(judged(span("gate", NOON + n * 60_000), 0.5)) for n in range(6)]
    assert without_duplicates(hits, 1, 1.0) == hits


@given(st.lists(st.integers(0, 3), max_size=30), st.integers(1, 4))
def test_no_more_than_asked_resemble_each_other_and_the_best_are_kept(looks: list[int], most: int) -> None:
    vectors = [np.eye(SPACE.dimension, dtype=np.float32)[look] for look in range(4)]
    hits = [alone(judged(span("gate", NOON + n * 60_000), 0.5, vectors[look])) for n, look in enumerate(looks)]
    kept = without_duplicates(hits, most, 1.0)
    places = {id(hit): n for n, hit in enumerate(hits)}
    for look in range(4):
        of_look = [n for n, one in enumerate(looks) if one == look]
        assert [places[id(hit)] for hit in kept if looks[places[id(hit)]] == look] == of_look[:most]


def test_the_order_in_which_equal_moments_come_does_not_change_their_spans() -> None:
    every = [judged(span("gate", NOON + n * 10_000), 0.5) for n in range(8) if n != 4]
    first = spans_of(joined(every, 0.0, SURE))
    random.Random(1).shuffle(every)
    assert sorted(spans_of(joined(every, 0.0, SURE))) == sorted(first)
