from __future__ import annotations

import itertools
import logging
import threading
from pathlib import Path

import av
import pytest

from cameras import remux
from cameras.remux import Fragment, Tap
from cameras.settings import CameraSettings
from cameras.source import watch_sparing
from proto.types import Camera
from tests.cameras.filming import START_MS, decoded, film, numbers, tap_into, tapped
from tests.cameras.rig import joined


def whole(fragments: list[Fragment]) -> bytes:
    return fragments[0].form.init + b"".join(one.data for one in fragments)


def streams(fragments: list[Fragment]) -> list[list[Fragment]]:
    """The fragments by their stream, in order."""
    forms = list(dict.fromkeys(one.form for one in fragments))
    return [[one for one in fragments if one.form is form] for form in forms]


@pytest.mark.parametrize(
    ("codec", "container", "b_frames"),
    [("libx264", "mpegts", 0), ("libx264", "mpegts", 2), ("libx264", "flv", 0), ("libx265", "mpegts", 0)],
)
def test_every_picture_is_recorded_as_it_was_sent(tmp_path: Path, codec: str, container: str, b_frames: int) -> None:
    fragments = tapped([film(tmp_path / "a", 4, codec=codec, container=container, b_frames=b_frames)])
    assert [one.key for one in fragments] == [True] * 4
    shown = decoded(whole(fragments))
    assert [number for _, number in shown] == pytest.approx(list(range(40)), abs=1)
    steps = [round(late - early, 2) for (early, _), (late, _) in itertools.pairwise(shown)]
    assert set(steps) == {0.1}


def test_a_fragment_says_when_its_pictures_were_taken(tmp_path: Path) -> None:
    fragments = tapped([film(tmp_path / "a", 3, start_s=5000)])
    assert [(one.start_ms - START_MS, one.end_ms - START_MS) for one in fragments] == [
        (0, 1000),
        (1000, 2000),
        (2000, 3000),
    ]
    assert [one.ticks for one in fragments] == [90_000] * 3


def test_a_file_that_is_watched_as_a_camera_is_recorded_round_by_round(tmp_path: Path) -> None:
    found: list[Fragment] = []
    camera = Camera("gate", str(film(tmp_path / "a", 2, container="mp4")), loop=True, speed=0, start_ms=START_MS)
    tap = Tap("gate", lambda: True, found.append)
    pictures = watch_sparing(camera, CameraSettings(fps=2), threading.Event(), None, tap)
    assert len(list(itertools.islice(pictures, 8))) == 8
    rounds = streams(found)
    assert [numbers(whole(one)) for one in rounds[:1]] == [list(range(20))]
    assert [one.start_ms - START_MS for one in found[:3]] == [0, 1000, 2000]


def test_where_key_frames_are_rare_fragments_are_short_all_the_same(tmp_path: Path) -> None:
    fragments = tapped([film(tmp_path / "a", 10, gop=100)])
    assert [one.key for one in fragments] == [True, False, False, False, False]
    assert numbers(whole(fragments)) == list(range(80)) + list(range(20))


def test_key_frames_alone_make_no_fragment_each(tmp_path: Path) -> None:
    fragments = tapped([film(tmp_path / "a", 4, codec="mjpeg", gop=1, container="avi")])
    assert len(fragments) == 5


@pytest.mark.parametrize("second_s", [10.0, 9000.0])
def test_a_jump_of_the_streams_clock_is_another_stream(tmp_path: Path, second_s: float) -> None:
    path = joined(tmp_path / "j", [film(tmp_path / "a", 2, start_s=3000), film(tmp_path / "b", 2, start_s=second_s)])
    first, second = streams(tapped([path]))
    assert first[0].form.init == second[0].form.init
    assert (numbers(whole(first)), numbers(whole(second))) == (list(range(20)), list(range(20)))


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_another_resolution_is_another_stream_that_plays(tmp_path: Path, codec: str) -> None:
    parts = [
        film(tmp_path / "a", 2, codec=codec),
        film(tmp_path / "b", 2, codec=codec, size=(128, 96), start_s=2),
    ]
    first, second = streams(tapped([joined(tmp_path / "j", parts)]))
    assert first[0].form.init != second[0].form.init
    assert len(numbers(whole(first))) == len(numbers(whole(second))) == 20


def test_a_clock_that_is_set_begins_another_stream(tmp_path: Path) -> None:
    found: list[Fragment] = []
    path = film(tmp_path / "a", 6)
    tap_into(
        Tap("gate", lambda: True, found.append), path, START_MS, lambda ms: ms - 3_600_000 * (ms > START_MS + 2950)
    )
    first, second = streams(found)
    assert [one.start_ms - START_MS for one in first] == [0, 1000, 2000]
    assert [one.start_ms - START_MS + 3_600_000 for one in second] == [3000, 4000, 5000]


def test_recording_is_switched_on_and_off_while_the_camera_is_read(tmp_path: Path) -> None:
    asked = iter(range(10_000))
    fragments = tapped([film(tmp_path / "a", 6)], wanted=lambda: 15 <= next(asked) < 45)
    assert numbers(whole(fragments)) == list(range(20, 45))


def test_a_stream_that_begins_between_key_frames_is_recorded_from_the_next_one(tmp_path: Path) -> None:
    path = film(tmp_path / "a", 4, gop=20)
    asked = iter(range(10_000))
    assert numbers(whole(tapped([path], wanted=lambda: next(asked) > 3))) == list(range(20, 40))


def test_what_mp4_does_not_hold_is_told_once_and_watched_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert tapped([film(tmp_path / "a", 1, codec="flv1", container="flv")]) == []
    assert [record.message for record in caplog.records] == [
        "camera gate is not recorded: it sends flv, which MP4 does not hold; have it send H.264"
    ]


def test_a_muxer_that_refuses_is_told_and_costs_the_source_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remux._Muxer, "add", lambda *_: (_ for _ in ()).throw(ValueError("no")))
    with caplog.at_level(logging.WARNING):
        assert tapped([film(tmp_path / "a", 10)]) == []
    assert ["cannot be recorded (ValueError)" in record.message for record in caplog.records] == [True, True]


def test_before_the_first_picture_is_decoded_there_is_no_time_and_nothing_is_recorded(tmp_path: Path) -> None:
    found: list[Fragment] = []
    tap = Tap("gate", lambda: True, found.append)
    with av.open(str(film(tmp_path / "a", 3))) as container:
        stream = container.streams.video[0]
        with tap.passing(stream, container.demux(stream)) as packets:
            assert sum(1 for _ in packets) > 0
    assert found == []
