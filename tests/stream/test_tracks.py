"""Things that moved, followed from frame to frame."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from proto.types import Box
from stream.tracks import MOST_TRACKS, UNKNOWN, Tracks, track_of

HERE, FAR = Box(0.1, 0.1, 0.2, 0.3), Box(0.7, 0.6, 0.8, 0.8)
AT_MS = 1_000_000


def moved(box: Box, across: float, down: float = 0.0) -> Box:
    return Box(box.left + across, box.top + down, box.right + across, box.bottom + down)


def followed(*frames: Sequence[Box | None]) -> tuple[Tracks, list[tuple[int, ...]]]:
    """A frame every half second."""
    tracks = Tracks()
    return tracks, [tracks.follow(AT_MS + 500 * number, boxes) for number, boxes in enumerate(frames)]


def test_a_thing_that_walks_on_is_one_thing_from_first_to_last() -> None:
    tracks, numbers = followed(*([moved(HERE, 0.06 * step)] for step in range(8)), [])
    assert numbers == [(0,)] * 8 + [()]
    assert tracks.times([0], AT_MS) == (AT_MS, AT_MS + 3500)


def test_a_small_thing_may_go_further_than_its_length_and_a_large_one_may_not() -> None:
    bird = Box(0.1, 0.4, 0.16, 0.48)
    assert followed(*([moved(bird, 0.1 * step)] for step in range(8)))[1] == [(0,)] * 8
    assert followed([bird], [moved(bird, 0.17)])[1] == [(0,), (1,)]
    lorry = Box(0.1, 0.3, 0.5, 0.7)
    assert followed([lorry], [moved(lorry, 0.35)])[1] == [(0,), (1,)]


def test_two_birds_in_a_row_are_two() -> None:
    first, second = Box(0.1, 0.4, 0.16, 0.48), Box(0.2, 0.4, 0.26, 0.48)
    _, numbers = followed(*([moved(first, 0.04 * step), moved(second, 0.04 * step)] for step in range(8)))
    assert numbers == [(0, 1)] * 8


def test_two_things_are_two_also_where_their_order_changes() -> None:
    _, numbers = followed([HERE, FAR], [moved(FAR, 0.02), moved(HERE, 0.02)])
    assert numbers == [(0, 1), (1, 0)]


def test_a_thing_may_be_hidden_for_a_frame_or_two() -> None:
    _, numbers = followed([HERE], [], [], [HERE])
    assert numbers[-1] == (0,)
    _, numbers = followed([HERE], [], [], [], [HERE])
    assert numbers[-1] == (1,)


def test_what_is_much_larger_is_another_thing() -> None:
    tree = Box(0.05, 0.0, 0.15, 0.4)
    _, numbers = followed([tree], [Box(0.0, 0.0, 0.2, 0.95)], [tree])
    assert numbers == [(0,), (1,), (0,)]


def test_what_the_latest_frame_showed_was_there_until_something_changed() -> None:
    tracks, _ = followed([HERE, FAR], [HERE])
    tracks.hold(AT_MS + 9000)
    assert tracks.times([0], AT_MS) == (AT_MS, AT_MS + 9000)
    assert tracks.times([1], AT_MS) == (AT_MS, AT_MS)


def test_what_is_there_goes_on_in_the_next_moment_since_it_came() -> None:
    tracks, _ = followed([HERE, FAR], [HERE])
    after = tracks.going_on()
    assert after.follow(AT_MS + 1000, [HERE]) == (0,)
    assert after.times([0], AT_MS + 1000) == (AT_MS, AT_MS + 1000)
    assert tracks.times([0], AT_MS) == (AT_MS, AT_MS + 500)


def test_several_tracks_are_one_time_unless_a_pause_lies_between_them() -> None:
    tracks, _ = followed([HERE], [HERE], [FAR], [FAR], [], [], [], [], [], [], [], [HERE])
    assert tracks.times([0, 1], AT_MS) == (AT_MS, AT_MS + 1500)
    assert tracks.times([0, 1, 2], AT_MS) == (AT_MS, AT_MS + 1500)
    assert tracks.times([0, 1, 2], AT_MS + 5500) == (AT_MS + 5500, AT_MS + 5500)


def test_nothing_is_known_of_what_is_not_followed() -> None:
    tracks, numbers = followed([None])
    assert numbers == [(UNKNOWN,)]
    assert tracks.times([], AT_MS) is None


def test_an_object_is_what_moved_where_most_of_it_lies() -> None:
    parts = [(Box(0.0, 0.0, 0.5, 0.5), 3), (Box(0.4, 0.0, 0.9, 0.5), 4), (Box(0.42, 0.0, 0.8, 0.4), 5)]
    assert track_of(Box(0.1, 0.1, 0.3, 0.3), parts) == 3
    assert track_of(Box(0.45, 0.1, 0.6, 0.3), parts) == 5
    assert track_of(Box(0.1, 0.4, 0.3, 0.9), parts) == UNKNOWN
    assert track_of(Box(0.1, 0.1, 0.3, 0.3), []) == UNKNOWN


spots = st.tuples(st.integers(0, 16), st.integers(0, 16)).map(
    lambda at: Box(at[0] / 20, at[1] / 20, at[0] / 20 + 0.2, at[1] / 20 + 0.2)
)


@given(st.lists(st.tuples(st.lists(st.none() | spots, max_size=3), st.booleans()), max_size=60))
def test_a_thing_that_was_looked_at_keeps_its_number_and_its_time_never_shrinks(
    frames: list[tuple[list[Box | None], bool]],
) -> None:
    tracks = Tracks()
    shown: dict[int, tuple[int, int]] = {}
    for number, (boxes, looks) in enumerate(frames):
        found = tracks.follow(AT_MS + 500 * number, boxes)
        known = [one for one in found if one != UNKNOWN]
        assert len(set(known)) == len(known) <= sum(box is not None for box in boxes)
        assert len(tracks.of) <= MOST_TRACKS
        if looks:
            tracks.show(found)
            shown |= {one: (tracks.of[one].since_ms, tracks.of[one].until_ms) for one in known}
        for one, (since_ms, until_ms) in shown.items():
            assert tracks.of[one].since_ms == since_ms
            assert tracks.of[one].until_ms >= until_ms
