"""Recordings of what is gone: whole segments and single fragments, on real video."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cameras.erasing import Eraser, sweep
from cameras.segments import Segments
from cameras.settings import RecordingSettings
from catalog.life import Life
from catalog.mp4 import boxes
from catalog.recordings import Recordings
from proto.errors import Unknown
from proto.life import DAY_MS, Erased, Gone, Stretch
from proto.types import Recording
from tests.cameras.filming import START_MS, film, numbers, tapped
from tests.catalog.shared import opened

LATER = START_MS + 100_000


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds at ten pictures a second, a key frame each second."""
    return film(tmp_path_factory.mktemp("footage") / "a", 10)


def writing(folder: Path, footage: Path) -> Segments:
    writer = Segments(folder, RecordingSettings(segment_s=3, keep_free_bytes=0))
    writer.limits = {"gate": Recording(30, 10**9)}
    for fragment in tapped([footage], start_ms=START_MS):
        assert writer.write(fragment, START_MS)
    return writer


def seconds(first: float, end: float) -> Stretch:
    return Stretch("gate", START_MS + round(first * 1000), START_MS + round(end * 1000))


def shown(folder: Path) -> list[int]:
    return numbers(b"".join(Recordings(folder).clip("gate", START_MS, LATER).chunks()))


def test_fragments_that_were_erased_are_overwritten_and_the_rest_plays(tmp_path: Path, footage: Path) -> None:
    writing(tmp_path, footage).close()
    before = {path: path.stat().st_size for path in tmp_path.rglob("*.mp4")}
    gone = Gone(erased=(Erased(seconds(4, 5.5)),))
    segments = Recordings(tmp_path).segments("gate")
    assert sweep(segments, gone).removed == 2
    assert sweep(segments, gone).removed == 0
    assert shown(tmp_path) == [n % 80 for n in (*range(40), *range(60, 100))]
    assert {path: path.stat().st_size for path in tmp_path.rglob("*.mp4")} == before
    (middle,) = (one for one in segments if one.start_ms == START_MS + 3000)
    data = middle.video.read_bytes()
    kinds = [kind for kind, _, _ in boxes(data)]
    assert (kinds.count(b"free"), kinds.count(b"moof")) == (2, 1)
    for kind, begin, end in boxes(data):
        assert kind != b"free" or not any(data[begin + 8 : end])


def test_a_question_sees_nothing_of_it_before_it_is_removed(tmp_path: Path, footage: Path) -> None:
    writing(tmp_path, footage).close()
    reader = Recordings(tmp_path)
    clip = reader.clip("gate", START_MS, LATER, Gone(erased=(Erased(seconds(4, 5.5)),)))
    assert [(a - START_MS, b - START_MS) for a, b in clip.spans] == [(0, 4000), (6000, 10_000)]
    everything = Gone(erased=(Erased(seconds(0, 100)),))
    with pytest.raises(Unknown, match="nothing of gate is recorded"):
        reader.clip("gate", START_MS, LATER, everything)
    assert reader.span("gate", everything) is None


def test_an_erasure_is_carried_out_noted_and_spares_what_is_held(tmp_path: Path, footage: Path) -> None:
    folder = tmp_path / "recordings"
    writing(folder, footage).close()
    life = Life(opened(tmp_path))
    life.hold(seconds(0, 1), START_MS, "case")
    erasure = life.erase(seconds(0, 10), LATER)
    eraser = Eraser(folder, life, 60.0)
    eraser.round(LATER)
    assert shown(folder) == list(range(10))
    (work,) = life.work(erasure.number)
    assert (work.store, work.removed, work.done_ms) == ("recordings", 9, 0)
    eraser.round(LATER + 60_000)
    (work,) = life.work(erasure.number)
    assert (work.removed, work.done_ms) == (9, LATER + 60_000)
    Eraser(folder, life, 60.0).round(LATER + 90_000)  # after a restart
    (work,) = life.work(erasure.number)
    assert (work.removed, work.done_ms) == (9, LATER + 60_000)


def test_a_container_that_is_started_anew_goes_on_with_what_it_began(
    tmp_path: Path, footage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "recordings"
    writing(folder, footage).close()
    life = Life(opened(tmp_path))
    erasure = life.erase(seconds(0, 2), LATER)
    for host, at_ms in (("1f0c", LATER), ("9ab2", LATER + 60_000)):
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)
        Eraser(folder, life, 60.0).round(at_ms)
    (work,) = life.work(erasure.number)
    assert (work.place, work.removed, work.done_ms) == (f"1f0c:{folder}", 2, LATER + 60_000)


def test_a_segment_that_is_being_written_is_left_for_later(tmp_path: Path, footage: Path) -> None:
    folder = tmp_path / "recordings"
    writer = writing(folder, footage)
    life = Life(opened(tmp_path))
    erasure = life.erase(seconds(0, 10), LATER)
    eraser = Eraser(folder, life, 1.0)
    eraser.round(LATER + 2000)
    assert [one.done_ms for one in life.work(erasure.number)] == [0]
    writer.close()
    eraser.round(LATER + 4000)
    assert [bool(one.done_ms) for one in life.work(erasure.number)] == [True]
    assert not list(folder.rglob("*.mp4"))


def test_segments_older_than_the_cameras_retention_go_unless_the_clock_is_in_doubt(
    tmp_path: Path, footage: Path
) -> None:
    folder = tmp_path / "recordings"
    writing(folder, footage).close()
    life = Life(opened(tmp_path))
    life.keep("gate", 1.0)
    eraser = Eraser(folder, life, 60.0)
    at_ms = START_MS + DAY_MS + 120_000
    eraser.round(at_ms)
    assert len(shown(folder)) == 100
    life.trust(at_ms)
    eraser.round(at_ms)
    assert not list(folder.rglob("*.mp4"))


def test_an_index_whose_video_is_missing_goes_too_and_the_rest_after_it(tmp_path: Path, footage: Path) -> None:
    folder = tmp_path / "recordings"
    writing(folder, footage).close()
    next(iter(sorted(folder.rglob("*.mp4")))).unlink()
    life = Life(opened(tmp_path))
    life.keep("gate", 1.0)
    at_ms = START_MS + DAY_MS + 120_000
    life.trust(at_ms)
    Eraser(folder, life, 60.0).round(at_ms)
    assert not [path for path in folder.rglob("*") if path.is_file()]


async def test_a_fault_while_erasing_does_not_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cameras.erasing._EVERY_S", 0.0)
    eraser, tried = Eraser(tmp_path, Life(opened(tmp_path)), 60.0), asyncio.Event()
    rounds = 0

    def fails(_: int) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            raise ZeroDivisionError
        loop.call_soon_threadsafe(tried.set)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(eraser, "round", fails)
    running = asyncio.create_task(eraser.run())
    await asyncio.wait_for(tried.wait(), 10)
    running.cancel()
