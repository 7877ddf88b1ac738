"""The composed set says the truth about its own pixels, and is the same for everybody."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from evals.yard import folder
from evals.yard.compose import Scene, Truth, truths
from evals.yard.phrases import LANGUAGES, PHRASES
from evals.yard.pictures import DATA, catalog, cut_out
from evals.yard.questions import TEST, TRAIN, Group, lines
from evals.yard.scenes import FPS, PLACES, Video, videos
from proto.errors import Broken

BY_NAME = {video.name: video for video in videos("all")}
FAST = [name for name in BY_NAME if BY_NAME[name].height == 720][::4]


def short(name: str, seconds: float = 2.0) -> Video:
    """A small video whose first object crosses at once."""
    video = BY_NAME[name]
    passing = replace(video.passings[0], start_s=0.5, end_s=seconds - 0.5)
    return replace(video, name=f"{name}-short", width=640, height=360, seconds=seconds, passings=(passing,))


def changed(video: Video, truth: Truth) -> NDArray[np.bool_]:
    """The pixels that the object changes, at the middle of its time; no noise, so nothing else differs."""
    scene = Scene(video)
    middle = (round(truth.start_s * FPS) + round(truth.end_s * FPS) - 1) // 2
    with_it, without = (scene.frame(middle, objects=objects, noise=False).luma for objects in (True, False))
    differs: NDArray[np.bool_] = np.abs(with_it.astype(np.int16) - without) > 6
    return differs


def pixels(truth: Truth, video: Video) -> tuple[slice, slice]:
    left, top, right, bottom = truth.box
    width, height = video.width, video.height
    return slice(int(top * height), round(bottom * height)), slice(int(left * width), round(right * width))


@pytest.mark.parametrize("name", FAST)
def test_a_box_holds_what_differs_from_the_clean_background(name: str) -> None:
    video = replace(BY_NAME[name], passings=BY_NAME[name].passings[:1])
    truth = truths(video)[0]
    differs = changed(video, truth)
    inside = differs[pixels(truth, video)]
    assert inside.sum() > 0.9 * differs.sum()  # the rest is the shadow at its feet
    assert inside.mean() > 0.15


def test_nothing_but_the_swaying_patch_moves_before_an_object_enters() -> None:
    video = BY_NAME["field-1"]
    scene = Scene(video)
    early, late = (scene.frame(number, noise=False).luma.astype(np.int16) for number in (0, 20))
    sway = PLACES[video.place].sway
    assert sway is not None
    rows = slice(int(sway[1] * video.height), round(sway[3] * video.height))
    columns = slice(int(sway[0] * video.width), round(sway[2] * video.width))
    moved = np.abs(early - late) > 12
    assert moved[rows, columns].mean() > 0.02
    moved[rows, columns] = False
    assert moved.mean() < 0.001


def test_night_is_darker_and_noisier_than_day() -> None:
    day, night = (Scene(short(name)) for name in ("carpark-1", "carpark-2"))
    assert night.frame(0).luma.mean() < 0.7 * day.frame(0).luma.mean()
    noise = [
        float(np.std(scene.frame(0).luma.astype(np.int16) - scene.frame(0, noise=False).luma)) for scene in (day, night)
    ]
    assert noise[1] > 1.2 * noise[0]


def test_the_same_video_is_composed_to_the_same_frames() -> None:
    first, second = (Scene(short("snow-2")).frame(9) for _ in range(2))
    assert np.array_equal(first.luma, second.luma)
    assert np.array_equal(first.blue, second.blue)
    assert not np.array_equal(first.luma, Scene(short("snow-2")).frame(10).luma)


def test_a_folder_is_composed_once_and_decodes_to_what_its_tables_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [short("room-1"), short("carpark-2")]
    monkeypatch.setattr(folder, "videos", lambda _part: made)
    monkeypatch.setattr(folder, "lines", lambda _videos: [])
    told: list[str] = []
    folder.write(tmp_path, told=told.append, processes=1)
    folder.write(tmp_path, told=told.append, processes=1)
    assert len(told) == 2  # one line a video: the second time nothing is left to do
    rows = [json.loads(line) for line in (tmp_path / "videos.jsonl").read_text().splitlines()]
    for row, video in zip(rows, made, strict=True):
        with av.open(str(tmp_path / row["path"])) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.width, stream.height) == ("h264", video.width, video.height)
            assert sum(1 for _ in container.decode(stream)) == video.frames == round(row["duration_s"] * FPS)


def test_a_damaged_video_is_composed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "videos", lambda _part: [short("room-1")])
    monkeypatch.setattr(folder, "lines", lambda _videos: [])
    told: list[str] = []
    folder.write(tmp_path, told=told.append, processes=1)
    clip = tmp_path / "room-1-short.mp4"
    whole = clip.read_bytes()
    clip.write_bytes(whole[:100])
    folder.write(tmp_path, told=told.append, processes=1)
    assert clip.read_bytes() == whole


def test_without_the_pictures_the_error_says_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evals.yard.pictures.DATA", tmp_path / "none")
    with pytest.raises(Broken, match="from a checkout"):
        folder.write(tmp_path)


def test_train_and_test_share_no_object_and_no_background() -> None:
    for video in videos("all"):
        assert {cut_out(passing.what).part for passing in video.passings} <= {video.part}
    places = [{video.place for video in videos(part)} for part in ("train", "test")]
    assert not places[0] & places[1]
    assert min(len(place) for place in places) >= 5


def test_every_question_is_asked_in_four_languages() -> None:
    asked = lines(videos("all"))
    groups: dict[str, list[str]] = {}
    for line in asked:
        groups.setdefault(line["group"], []).append(line["language"])
    assert all(tuple(languages) == LANGUAGES for languages in groups.values())
    assert len({line["qid"] for line in asked}) == len(asked)
    assert all(len(set(texts)) == len(texts) for texts in PHRASES.values())


@pytest.mark.parametrize(("part", "present", "absent"), [("test", 60, 40), ("train", 30, 20)])
def test_a_part_has_enough_questions_of_both_kinds(part: str, present: int, absent: int) -> None:
    asked = lines(videos(part))
    assert sum(not line["absent"] for line in asked) >= present
    assert sum(line["absent"] for line in asked) >= absent


def test_a_relevant_span_lies_in_its_video_and_its_box_in_the_picture() -> None:
    for line in lines(videos("all")):
        for span in line["relevant"]:
            assert 0 <= span["start_s"] < span["end_s"] <= BY_NAME[span["video"]].seconds
            left, top, right, bottom = span["box"]
            assert 0 <= left < right <= 1
            assert 0 <= top < bottom <= 1
            assert span["share"] == pytest.approx((right - left) * (bottom - top), abs=0.001)
            seconds = [at_s for at_s, _ in span["track"]]
            assert seconds == sorted(seconds)
            assert span["start_s"] <= seconds[0] <= span["start_s"] + 0.5
            assert span["end_s"] - 0.5 <= seconds[-1] <= span["end_s"]


def test_spans_of_one_question_do_not_overlap_and_two_at_once_are_one() -> None:
    walking = next(line for line in lines(videos("test")) if line["group"] == "test-person-walking")
    night = [span for span in walking["relevant"] if span["video"] == "warehouse-2"]
    first, second = truths(BY_NAME["warehouse-2"])[:2]
    assert first.end_s > second.start_s
    assert [(span["start_s"], span["end_s"]) for span in night] == [(round(first.start_s, 3), round(second.end_s, 3))]
    assert night[0]["share"] == round(max(first.share, second.share), 5)


def test_sizes_run_from_half_a_per_cent_to_a_seventh_of_the_picture() -> None:
    shares = [truth.share for video in videos("test") for truth in truths(video)]
    assert min(shares) < 0.007
    assert max(shares) > 0.12
    assert sum(share < 0.02 for share in shares) >= 15


def test_each_object_of_a_part_is_asked_about_by_a_name_of_its_own_or_its_kind() -> None:
    for part, groups in (("train", TRAIN), ("test", TEST)):
        named = " ".join(group.objects for group in groups if group.video is None).split()
        for video in videos(part):
            for passing in video.passings:
                assert any(passing.what == name or passing.what.startswith(f"{name}-") for name in named), passing.what


def test_a_group_whose_object_is_missing_is_an_error() -> None:
    groups = [Group("cat", "animal", "cat")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evals.yard.questions.TEST", tuple(groups))
        with pytest.raises(AssertionError, match="0 spans"):
            lines(videos("test"))


def test_every_picture_is_named_with_its_source() -> None:
    said = (DATA.parent / "SOURCES.md").read_text(encoding="utf-8")
    assert {path.stem for path in (DATA / "cutouts").glob("*.webp")} == set(catalog())
    for name in [*catalog(), *PLACES]:
        assert f"`{name}`" in said, name
    for path in DATA.rglob("*.webp"):
        with Image.open(path) as picture:
            assert picture.width > 10
