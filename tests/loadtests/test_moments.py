from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest

from loadtests.moments import Boundaries, hit_rate, match_boundaries, overlap
from tests.tools.footage import FPS, Shot, compose


def test_boundaries_within_the_tolerance_match() -> None:
    assert match_boundaries([1.4, 5.0, 9.9], [1.0, 5.5, 8.0]) == Boundaries(found=3, true=3, matched=2)


def test_a_true_boundary_matches_only_once() -> None:
    found = match_boundaries([4.8, 5.0, 5.2], [5.0])
    assert found.precision == pytest.approx(1 / 3)
    assert found.recall == 1.0


def test_near_boundaries_are_paired_so_that_most_match() -> None:
    assert match_boundaries([1.0, 1.5], [1.4, 1.9]).matched == 2


def test_f1_weighs_precision_and_recall() -> None:
    assert Boundaries(found=4, true=2, matched=2).f1 == pytest.approx(2 / 3)
    assert Boundaries(found=3, true=2, matched=0).f1 == 0.0


def test_no_boundaries_where_none_are_is_perfect() -> None:
    assert match_boundaries([], []).f1 == 1.0


def test_overlap_is_intersection_over_union() -> None:
    assert overlap((0, 4), (2, 6)) == pytest.approx(2 / 6)
    assert overlap((0, 1), (2, 3)) == 0.0
    assert overlap((1, 3), (1, 3)) == 1.0
    assert overlap((2, 2), (2, 2)) == 1.0


def test_an_answer_may_hit_any_of_its_true_spans() -> None:
    answers = [(0.0, 4.0), (10.0, 12.0)]
    truths = [[(20.0, 24.0), (0.0, 5.0)], [(10.0, 16.0)]]
    assert hit_rate(answers, truths, 0.5) == 0.5
    assert hit_rate(answers, truths, 0.9) == 0.0


def test_footage_has_the_length_and_the_scenes_of_its_labels(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    shots = (Shot("bikes", 1), Shot("bigbuckbunny", 1, thing=" "), Shot("bigbuckbunny", 1, thing="bikes"))
    labels = compose(clip, shots)
    assert [(label.start_s, label.end_s) for label in labels] == [(0, 1), (1, 2), (2, 3)]
    assert [label.scene for label in labels] == ["bus", "still bigbuckbunny", "still bigbuckbunny with bikes"]
    assert [label["words"] for label in json.loads(clip.with_suffix(".json").read_text())] == [
        label.words for label in labels
    ]
    with av.open(str(clip)) as source:
        pictures = [frame.to_ndarray(format="gray").astype(float) for frame in source.decode(video=0)]
    assert len(pictures) == 3 * FPS
    cut = np.abs(pictures[FPS] - pictures[FPS - 1]).mean()
    still = np.abs(pictures[2 * FPS - 1] - pictures[FPS + 1]).mean()
    appears = np.abs(pictures[2 * FPS] - pictures[2 * FPS - 1]).mean()
    assert cut > 10 and appears > 2 * still


def test_labels_know_the_cuts_inside_a_clip_and_where_it_begins_again(tmp_path: Path) -> None:
    labels = compose(tmp_path / "clip.mp4", (Shot("bikes", 3.2), Shot("carphone_pristine", 5)))
    assert [(round(label.start_s, 2), round(label.end_s, 2), label.scene) for label in labels] == [
        (0.0, 1.08, "bus"),
        (1.08, 3.17, "taxi"),
        (3.17, 7.08, "carphone_pristine"),
        (7.08, 8.17, "carphone_pristine"),
    ]
