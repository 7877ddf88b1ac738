"""Where moments rest: the pure rules."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from index.places import Bucket, bucket_named, bucket_of, collection_name, home
from index.store import overlaps
from proto.types import Span

HOURS = st.integers(1, 24 * 365)
TIMES = st.integers(0, 2**53)
SPACE = "0123456789abcdef"


@given(TIMES, HOURS)
def test_a_moment_lies_in_the_bucket_of_its_start(start_ms: int, hours: int) -> None:
    bucket = bucket_of(start_ms, hours)
    assert bucket.start_ms <= start_ms < bucket.end_ms
    assert bucket.end_ms - bucket.start_ms == hours * 3_600_000


@given(TIMES, HOURS)
def test_a_bucket_is_known_by_its_collections_name(start_ms: int, hours: int) -> None:
    bucket = bucket_of(start_ms, hours)
    name = collection_name(SPACE, bucket)
    assert bucket_named(name, SPACE) == bucket
    assert name.replace("_", "").isalnum()


def test_collections_of_others_are_nobodys_buckets() -> None:
    name = collection_name(SPACE, Bucket(24, 20_000))
    assert bucket_named(name, "f" * 16) is None
    for other in ("", "watchword", name + "x", name.upper(), f"my_{name}", name.replace("24h", "h")):
        assert bucket_named(other, SPACE) is None


@given(TIMES, st.integers(0, 3_600_000), st.none() | TIMES, st.none() | TIMES, st.integers(1, 48))
def test_every_bucket_with_an_overlapping_moment_is_touched(
    start_ms: int, length_ms: int, search_start: int | None, search_end: int | None, hours: int
) -> None:
    span = Span("", "", "", start_ms, start_ms, start_ms + length_ms, 1, True)
    if overlaps(span, search_start, search_end):
        assert bucket_of(start_ms, hours).touches(search_start, search_end, 3_600_000)


def test_a_search_of_one_hour_touches_only_the_buckets_around_it() -> None:
    noon = Bucket(24, 20_000).start_ms + 12 * 3_600_000
    touched = [n for n in range(19_990, 20_010) if Bucket(24, n).touches(noon, noon + 3_600_000, 3_600_000)]
    assert touched == [20_000]


def test_the_last_tenth_of_a_bucket_is_nearly_over() -> None:
    bucket = Bucket(10, 7)
    assert not bucket.nearly_over(bucket.end_ms - 3_600_001)
    assert bucket.nearly_over(bucket.end_ms - 3_600_000)
    assert bucket.next == Bucket(10, 8)


CAMERAS = [f"camera-{n}" for n in range(3000)]


def test_cameras_spread_evenly_over_the_endpoints() -> None:
    counts = Counter(home(camera, ["a", "b", "c"]) for camera in CAMERAS)
    assert all(850 < counts[endpoint] < 1150 for endpoint in "abc")


def test_one_endpoint_more_moves_only_cameras_to_itself() -> None:
    before = {camera: home(camera, ["a", "b", "c"]) for camera in CAMERAS}
    after = {camera: home(camera, ["d", "c", "a", "b"]) for camera in CAMERAS}
    moved = [camera for camera in CAMERAS if before[camera] != after[camera]]
    assert {after[camera] for camera in moved} == {"d"}
    assert 600 < len(moved) < 900
