from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from av import VideoFrame

from cameras import source
from cameras.picture import Picture
from cameras.source import Resume, watch
from catalog.progress import Progress
from proto.errors import Invalid, Transient
from proto.types import Camera, now_ms
from tests.cameras.rig import (
    AWAY,
    EVERYTHING,
    SETTINGS,
    START_MS,
    Facts,
    Register,
    Sink,
    hosting,
    joined,
    places,
    transport_stream,
    until,
)
from tests.clips import CLIPS

DAY_S = 86_400.0


@pytest.fixture
def facts(tmp_path: Path) -> Iterator[Facts]:
    made = Facts(tmp_path)
    yield made
    made.catalog.close()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Forty seconds: two recordings put together, the second with PTS of an earlier time."""
    parts = [transport_stream(tmp_path / "a.ts", 20, 3000.0), transport_stream(tmp_path / "b.ts", 20, 10.0, 100)]
    return joined(tmp_path / "archive.ts", parts)


def replay(path: Path, resume: Resume | None = None, most: int = 1000, **changes: object) -> list[Picture]:
    camera = Camera("archive", str(path), **{"speed": 0.0, "start_ms": START_MS, **changes})  # type: ignore[arg-type]
    return list(itertools.islice(watch(camera, SETTINGS, threading.Event(), resume), most))


def seconds(picture: Picture) -> float:
    return (picture.captured_ms - START_MS) / 1000


def at(picture: Picture) -> float:
    assert picture.recorded is not None
    return picture.recorded.at_s


@pytest.mark.parametrize("second_s", [0.0, 9000.0, 26 * 3600.0])
def test_time_goes_on_where_pts_of_a_recording_jumps(tmp_path: Path, second_s: float) -> None:
    parts = [transport_stream(tmp_path / "a.ts", 20, 4000.0), transport_stream(tmp_path / "b.ts", 20, second_s, 100)]
    pictures = replay(joined(tmp_path / "joined.ts", parts))
    assert [seconds(picture) for picture in pictures] == pytest.approx([n / 2 for n in range(80)], abs=0.11)
    assert [round(seconds(picture)) for picture in pictures if picture.after_gap] == [0, 20]


def test_a_jump_of_pts_does_not_stop_the_pace(tmp_path: Path) -> None:
    parts = [transport_stream(tmp_path / "a.ts", 20), transport_stream(tmp_path / "b.ts", 20, 9000.0, 100)]
    camera = Camera("archive", str(joined(tmp_path / "joined.ts", parts)), speed=100.0, start_ms=START_MS)
    stop = threading.Event()
    giving_up = threading.Timer(10, stop.set)  # the two hours and a half between the parts take 86 s at this pace
    giving_up.start()
    assert len(list(watch(camera, SETTINGS, stop))) == 80
    giving_up.cancel()


@pytest.mark.parametrize("stopped_s", [0.0, 0.5, 7.5, 19.5, 20.0, 20.5, 33.0, 39.5])
def test_a_replay_that_is_resumed_gives_the_same_pictures(archive: Path, stopped_s: float) -> None:
    whole = replay(archive)
    stopped = next(picture for picture in whole if at(picture) > stopped_s - 0.05)
    rest = replay(archive, Resume(START_MS, at(stopped)))
    assert [picture.recorded.resumed for picture in rest if picture.recorded] == [True] + [False] * (len(rest) - 1)
    wanted = whole[whole.index(stopped) :]
    assert [picture.captured_ms for picture in rest] == [picture.captured_ms for picture in wanted]
    assert [picture.after_gap for picture in rest[1:]] == [picture.after_gap for picture in wanted[1:]]


def test_a_resumed_replay_shows_the_same_pictures_bit_by_bit(archive: Path) -> None:
    def shown(resume: Resume | None) -> dict[int, bytes]:
        camera = Camera("archive", str(archive), speed=0.0, start_ms=START_MS)
        return {p.captured_ms: p.sketch().tobytes() for p in watch(camera, SETTINGS, threading.Event(), resume)}

    whole, rest = shown(None), shown(Resume(START_MS, 31.0))
    assert len(rest) == 18
    assert all(whole[captured_ms] == luma for captured_ms, luma in rest.items())


@pytest.mark.parametrize("clip", ["bikes", "bigbuckbunny"])
def test_a_clip_with_pictures_out_of_order_is_resumed_exactly(clip: str) -> None:
    whole = replay(CLIPS[clip])
    for stopped in whole[:: max(1, len(whole) // 5)]:
        rest = replay(CLIPS[clip], Resume(START_MS, at(stopped)))
        assert [p.captured_ms for p in rest] == [p.captured_ms for p in whole[whole.index(stopped) :]]


@pytest.mark.parametrize("stopped", [0, 3, 5, 6, 7, 25, 59, 60, 61])
def test_a_loop_is_resumed_inside_its_round(tmp_path: Path, stopped: int) -> None:
    clip = transport_stream(tmp_path / "clip.ts", 3.1, 50.0)
    whole = replay(clip, most=80, loop=True)
    rest = replay(clip, Resume(START_MS, at(whole[stopped])), most=80 - stopped, loop=True)
    assert [p.captured_ms for p in rest] == [p.captured_ms for p in whole[stopped:]]
    assert [p.after_gap for p in rest[1:]] == [p.after_gap for p in whole[stopped + 1 :]]


async def lived(facts: Facts, camera: Camera, *, most: int | None = None, crash: bool = False) -> Sink:
    """One life of a camera process, until the file is done or so many frames were taken. A crash writes nothing."""
    sink, register = Sink(), Register(camera)
    sink.most = most
    async with hosting(register, sink, facts, settings=EVERYTHING) as host:

        def ended() -> bool:
            state = host.states().get(camera.name)
            return state is not None and state.now == "done"

        if most is None:
            await until(ended, "the end")
        else:
            await until(lambda: len(sink.frames) == most, "frames")
        if crash:
            facts.trouble = AWAY
    facts.trouble = None
    facts.give_back(f"camera/{camera.name}", "one")
    return sink


async def test_a_recording_that_came_to_its_end_is_not_replayed_after_a_restart(facts: Facts, archive: Path) -> None:
    camera = Camera("archive", str(archive), speed=0.0)
    assert len((await lived(facts, camera)).frames) == 80
    assert (await lived(facts, camera)).frames == []
    assert (await lived(facts, camera)).frames == []


@pytest.mark.parametrize("start_ms", [None, START_MS])
async def test_a_replay_goes_on_where_it_stopped(facts: Facts, archive: Path, start_ms: int | None) -> None:
    camera = Camera("archive", str(archive), speed=0.0, start_ms=start_ms)
    first = await lived(facts, camera, most=23)
    second = await lived(facts, camera)
    both = first.frames + second.frames
    assert [frame.sequence for frame in both] == list(range(80))
    assert len({frame.run for frame in both}) == 1
    assert [frame.captured_ms - both[0].captured_ms for frame in both] == [500 * n for n in range(80)]
    assert [frame.sequence for frame in both if frame.after_gap] == [0, 40]
    assert all(frame.recorded for frame in both)


async def test_after_a_crash_a_frame_that_is_sent_twice_has_the_same_number(facts: Facts, archive: Path) -> None:
    camera = Camera("archive", str(archive), speed=0.0)
    first = await lived(facts, camera, most=23, crash=True)
    second = await lived(facts, camera)
    known = facts.get("archive")
    assert known is not None and known.ended
    twice = set(places(first.frames)) & set(places(second.frames))
    assert twice
    together = sorted(set(places(first.frames)) | set(places(second.frames)))
    assert [sequence for _, sequence, _ in together] == list(range(80))


async def test_a_read_that_fails_in_between_goes_on_in_the_same_run(facts: Facts, archive: Path) -> None:
    failed: list[int] = []

    def once(camera: Camera, settings: object, stop: threading.Event, resume: Resume | None) -> Iterator[Picture]:
        for number, picture in enumerate(watch(camera, EVERYTHING, stop, resume)):
            if number == 30 and not failed:
                failed.append(1)
                raise Transient("the disk hiccups")
            yield picture

    sink = Sink()
    async with hosting(
        Register(Camera("archive", str(archive), speed=0.0)), sink, facts, settings=EVERYTHING, pictures=once
    ):
        await until(lambda: len(sink.frames) == 80, "all frames")
    assert [frame.sequence for frame in sink.frames] == list(range(80))
    assert len({frame.run for frame in sink.frames}) == 1


@pytest.mark.parametrize("change", ["start", "loop", "content"])
async def test_another_recording_begins_anew(facts: Facts, archive: Path, change: str) -> None:
    first = await lived(facts, Camera("archive", str(archive), speed=0.0), most=23)
    camera = Camera("archive", str(archive), speed=0.0, start_ms=START_MS if change == "start" else None)
    if change == "loop":
        camera = Camera("archive", str(archive), speed=0.0, loop=True)
    if change == "content":
        os.utime(archive, (0, 0))
    second = await lived(facts, camera, most=10)
    assert [frame.sequence for frame in second.frames] == list(range(10))
    assert second.frames[0].run > first.frames[0].run


async def test_a_recording_that_is_removed_and_added_again_is_replayed_again(facts: Facts, archive: Path) -> None:
    camera = Camera("archive", str(archive), speed=0.0)
    sink, register = Sink(), Register(camera)
    async with hosting(register, sink, facts, settings=EVERYTHING) as host:
        await until(lambda: len(sink.frames) == 80, "all frames")
        register.cameras = []
        await until(lambda: not host.states() and facts.holder("camera/archive", now_ms()) is None, "it is let go")
        register.cameras = [camera]
        await until(lambda: len(sink.frames) == 160, "all frames again")
    assert len({frame.run for frame in sink.frames}) == 2


async def test_a_replay_whose_progress_cannot_be_read_waits_until_it_can(facts: Facts, archive: Path) -> None:
    camera = Camera("archive", str(archive), speed=0.0)
    await lived(facts, camera, most=23)

    class Unreadable(Facts):
        refusing = True

        def get(self, camera: str) -> Progress | None:
            if self.refusing:
                raise AWAY
            return super().get(camera)

    shaky, sink = Unreadable(facts.path), Sink()
    async with hosting(Register(camera), sink, shaky, settings=EVERYTHING) as host:
        await until(lambda: bool(host.states()) and host.states()["archive"].now == "failed", "failed")
        shaky.refusing = False
        await until(lambda: host.states()["archive"].now == "done", "done")
    shaky.catalog.close()
    assert sink.frames[0].sequence == 23


def test_a_file_without_a_picture_is_invalid_also_when_it_is_resumed(tmp_path: Path) -> None:
    (tmp_path / "it.ts").write_bytes(b"\x47" + bytes(187) * 50)
    with pytest.raises(Invalid):
        replay(tmp_path / "it.ts", Resume(START_MS, 5.0), loop=True)


def test_what_lies_before_the_place_to_resume_at_is_not_decoded(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[int] = []
    frames = source._Source.frames

    def counted(self: source._Source, *given: Any, **named: Any) -> Iterator[VideoFrame]:
        for frame in frames(self, *given, **named):
            decoded.append(1)
            yield frame

    monkeypatch.setattr(source._Source, "frames", counted)
    assert len(replay(archive, Resume(START_MS, 38.0))) == 4
    assert len(decoded) < 40
