from __future__ import annotations

import base64
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.errors import Broken
from proto.types import MOST_RESUME_CHARS
from stream.regions import MOST_BOXES
from stream.resume import MOST_OWED, Looks, Resume, from_text, to_text
from stream.scene import Departure, Scene

numbers = st.floats(allow_nan=False, allow_infinity=False)
bytes_ = st.integers(0, 255)
looks = st.builds(
    Looks,
    credit=numbers,
    surplus=numbers,
    since=bytes_,
    crop=st.booleans(),
    whole=st.booleans(),
    places=st.lists(st.tuples(bytes_, bytes_, bytes_, bytes_), max_size=MOST_BOXES).map(tuple),
    owed=st.lists(st.tuples(st.integers(0, 2**32 - 1), bytes_), max_size=MOST_OWED).map(tuple),
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
    looked = Looks(1 / 3, 1 / 7, 4, True, True, ((255,) * 4,) * MOST_BOXES, ((2**32 - 1, 255),) * MOST_OWED)
    text = to_text(Resume(1e300 / 3, 1 / 3, 1 / 7, -(2**63), 2**63 - 1, scene.distances, looked))
    assert len(text.encode()) <= MOST_RESUME_CHARS
    assert from_text(text).distances == tuple(scene.distances)


def test_a_sequence_beyond_what_can_be_kept_is_kept_as_the_largest() -> None:
    assert from_text(to_text(Resume(1.0, 0.0, 1.0, 1, 2**64 - 1, [0.1]))).sequence == 2**63 - 1


def test_a_moment_that_was_stored_before_anything_was_looked_at_up_close_is_gone_on_with() -> None:
    data = struct.pack("<Bdddqq2d", 1, 2.5, 0.1, 0.9, 7, 3, 0.25, 0.5)
    kept = from_text(base64.b85encode(data).decode())
    assert kept == Resume(2.5, 0.1, 0.9, 7, 3, (0.25, 0.5), Looks())


GOOD = to_text(Resume(1.0, 0.1, 0.9, 7, 3, [0.1, 0.2]))


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "x",
        GOOD[:40],
        GOOD[:-1],
        GOOD + "0",
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
