from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.errors import Broken
from proto.types import MOST_REGIONS, MOST_RESUME_CHARS
from stream.regions import MOST_CROPS, WHOLE_PICTURE, Plan
from stream.resume import MOST_OWED, Looks, Owed, Reached, Resume, closed_text, from_text, reached_by, to_text
from stream.scene import Departure, Scene
from stream.tracks import MOST_TRACKS, Track

numbers = st.floats(allow_nan=False, allow_infinity=False)
bytes_ = st.integers(0, 255)
places = st.tuples(bytes_, bytes_, bytes_, bytes_)
owed = st.builds(
    Owed,
    st.builds(
        Plan,
        st.sets(st.integers(0, MOST_CROPS - 1)).map(lambda some: tuple(sorted(some))),
        st.none() | st.integers(0, WHOLE_PICTURE),
    ),
    st.tuples(bytes_, bytes_, bytes_),
)
tracks = st.builds(
    lambda place, looked, since_ms, lasts_ms, missed, shown, searched, looks: Track(
        place, since_ms, since_ms + lasts_ms, missed, shown, searched, looks, looked
    ),
    places,
    places,
    st.integers(1_800_000_000_000, 1_800_000_000_000 + 10**9),
    st.integers(0, 10**9),
    st.integers(0, 3),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2),
)
looks = st.builds(
    Looks,
    credit=numbers,
    surplus=numbers,
    since=bytes_,
    searched=bytes_,
    whole=st.booleans(),
    embedded=bytes_,
    owed=st.lists(st.tuples(st.integers(0, 2**32 - 1), owed), max_size=MOST_OWED).map(tuple),
    tracks=st.lists(tracks, max_size=MOST_TRACKS).map(tuple),
    of_regions=st.lists(st.integers(0, 2**MOST_TRACKS - 1), max_size=MOST_REGIONS).map(tuple),
)
resumes = st.builds(
    Resume,
    weight=numbers,
    farthest=numbers,
    peak_cosine=numbers,
    run=st.integers(-(2**63), 2**63 - 1),
    sequence=st.integers(-1, 2**63 - 1),
    distances=st.lists(numbers, min_size=2, max_size=32).map(tuple),
    looks=looks,
)


@given(resumes)
def test_what_is_kept_comes_back_exactly(kept: Resume) -> None:
    assert from_text(to_text(kept)) == kept


def test_the_longest_memory_of_a_moment_fits_into_its_row() -> None:
    scene = Scene(0.15)
    for number in range(100):
        scene.keeps(Departure(1 / (number + 3), 0.0, 0.0))
    looked = Looks(
        *(1 / 3, 1 / 7, 4, 255, True, 255),
        owed=((2**32 - 1, Owed(Plan((0, 1, 2), WHOLE_PICTURE), (11, 11, 11))),) * MOST_OWED,
        tracks=(Track((255,) * 4, 2**53 - 2**32, 2**53 - 2, 3, True, True, 2, (255,) * 4),) * MOST_TRACKS,
        of_regions=(2**MOST_TRACKS - 1,) * MOST_REGIONS,
    )
    text = to_text(Resume(1e300 / 3, 1 / 3, 1 / 7, -(2**63), 2**63 - 1, scene.distances, looked))
    assert len(text.encode()) <= MOST_RESUME_CHARS
    assert from_text(text).distances == tuple(scene.distances)


def test_a_sequence_beyond_what_can_be_kept_is_kept_as_the_largest() -> None:
    assert from_text(to_text(Resume(1.0, 0.0, 1.0, 1, 2**64 - 1, [0.1]))).sequence == 2**63 - 1


def test_a_closed_moment_keeps_how_far_it_reached_and_an_open_one_says_it_too() -> None:
    assert reached_by(closed_text(Reached(2**62, 5))) == Reached(2**62, 5)
    assert reached_by(closed_text(Reached(1, 2**64 - 1))) == Reached(1, 2**63 - 1)
    assert reached_by(to_text(Resume(1.0, 0.1, 0.9, 7, 3, [0.1]))) == Reached(7, 3)
    with pytest.raises(Broken, match="cannot be gone on with"):
        from_text(closed_text(Reached(7, 3)))


@pytest.mark.parametrize("text", ["", "damaged", closed_text(Reached(7, 3))[:-1]])
def test_a_row_that_does_not_say_how_far_it_reached_is_taken_to_know_nothing(text: str) -> None:
    assert reached_by(text) == Reached()


GOOD = to_text(Resume(1.0, 0.1, 0.9, 7, 3, [0.1, 0.2]))


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "x",
        GOOD[:40],
        GOOD[:-1],
        GOOD + "0000",
        'not base 85: " , \\',
        "ümlaut",
        to_text(Resume(1, 0, 1, 0, 0, []))[:-2],
    ],
)
def test_a_damaged_text_is_told_with_what_to_do(damaged: str) -> None:
    with pytest.raises(Broken, match="cannot be gone on with") as told:
        from_text(damaged)
    assert told.value.todo


def test_a_text_of_another_version_is_not_guessed_at() -> None:
    # The first character stands for the highest digit of the version and what follows it.
    other = chr(ord(GOOD[0]) + 1) + GOOD[1:]
    with pytest.raises(Broken, match="version"):
        from_text(other)
