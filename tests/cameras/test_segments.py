from __future__ import annotations

import errno
import logging
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from cameras import segments
from cameras.remux import Format, Fragment
from cameras.segments import Segments
from cameras.settings import RecordingSettings
from catalog.recordings import Recordings, read_index
from proto.types import Recording
from tests.cameras.filming import START_MS, film, numbers, tapped

LIMIT = Recording(30, 10**9)
SETTINGS = RecordingSettings(segment_s=3, keep_free_bytes=0)


def writer(folder: Path, settings: RecordingSettings = SETTINGS, **limits: Recording) -> Segments:
    made = Segments(folder, settings)
    made.limits = limits or {"gate": LIMIT}
    made.begin()
    return made


def made_up(
    number: int, *, size: int = 1000, camera: str = "gate", key: bool = True, form: Format | None = None
) -> Fragment:
    """A second of no video."""
    start_ms = START_MS + 1000 * number
    return Fragment(camera, form or _FORM, number, bytes(size), 90_000, start_ms, start_ms + 1000, key)


_FORM = Format(b"init")


def kept(folder: Path, camera: str = "gate") -> list[int]:
    """When the segments begin, in seconds."""
    return [(one.start_ms - START_MS) // 1000 for one in Recordings(folder).segments(camera)]


def write(to: Segments, *fragments: Fragment) -> list[bool]:
    return [to.write(one, one.end_ms) for one in fragments]


def lost(reason: str) -> float:
    return REGISTRY.get_sample_value("watchword_recording_lost_total", {"reason": reason}) or 0.0


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_segments_are_closed_at_a_key_frame_after_their_time_and_each_plays(tmp_path: Path) -> None:
    one = writer(tmp_path)
    assert all(write(one, *tapped([film(tmp_path / "a.ts", 7)])))
    one.close()
    found = Recordings(tmp_path).segments("gate")
    assert [numbers(segment.video) for segment in found] == [
        list(range(30)),
        list(range(30, 60)),
        list(range(60, 70)),
    ]
    assert one.used() == sum(size_of(path) for path in tmp_path.iterdir() if path.is_dir())


def test_after_a_fragment_that_was_lost_a_segment_begins_at_the_next_key_frame(tmp_path: Path) -> None:
    one = writer(tmp_path)
    wanted = [made_up(n, key=n % 4 == 0) for n in range(12)]
    assert write(one, *wanted[:5], *wanted[6:]) == [True] * 5 + [False] * 2 + [True] * 4
    assert kept(tmp_path) == [0, 4, 8]


def test_the_oldest_go_when_the_cameras_budget_is_used_up(tmp_path: Path) -> None:
    one = writer(tmp_path, gate=Recording(30, 20_000), dock=LIMIT)
    write(one, made_up(0, camera="dock"))
    for number in range(60):
        assert one.write(made_up(number), 0)
        assert one.used("gate") <= 20_000
    assert kept(tmp_path) == list(range(60 - len(kept(tmp_path)) * 3, 60, 3))
    assert kept(tmp_path, "dock") == [0]


def test_the_oldest_of_all_go_when_all_take_too_much(tmp_path: Path) -> None:
    settings = RecordingSettings(segment_s=2, keep_free_bytes=0, most_bytes=30_000)
    one = writer(tmp_path, settings, gate=LIMIT, dock=LIMIT)
    for number in range(40):
        write(one, made_up(number), made_up(number, camera="dock"))
        assert one.used() <= 30_000
    oldest = [kept(tmp_path, camera)[0] for camera in ("gate", "dock")]
    assert max(oldest) - min(oldest) <= 2


def test_the_budget_of_all_holds_for_several_processes_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "_FOLLOW_S", 0)
    settings = RecordingSettings(segment_s=2, keep_free_bytes=0, most_bytes=60_000)
    names = ("gate", "dock"), ("yard", "quay")
    limits = dict.fromkeys((*names[0], *names[1]), LIMIT)
    processes = [writer(tmp_path, settings, **limits) for _ in names]
    for number in range(60):
        for one, cameras in zip(processes, names, strict=True):
            one.tend(0)
            assert all(write(one, *(made_up(number, camera=camera) for camera in cameras)))
        assert size_of(tmp_path) <= 60_000 + 2 * 1100
    assert size_of(tmp_path) > 45_000
    oldest = [kept(tmp_path, camera)[0] for camera in limits]
    assert max(oldest) - min(oldest) <= 4


def test_what_is_too_old_goes_also_when_nothing_new_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_SWEEP_S", 0)
    one = writer(tmp_path, gate=Recording(1, 10**9))
    write(one, *(made_up(n) for n in range(12)))
    one.close()
    one.tend(START_MS + 86_400_000 + 4_000)
    assert kept(tmp_path) == [3, 6, 9]
    one.tend(START_MS + 3 * 86_400_000)
    assert kept(tmp_path) == []
    assert list((tmp_path / "gate").iterdir()) == []


def test_where_the_disk_is_full_the_oldest_go_and_it_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = RecordingSettings(segment_s=2, keep_free_bytes=1000)
    disk = 30_000
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=disk - size_of(tmp_path)))
    one = writer(tmp_path, settings)
    with caplog.at_level(logging.WARNING):
        for number in range(60):
            assert one.write(made_up(number), 0)
            assert disk - size_of(tmp_path) >= 1000
    assert kept(tmp_path)[-1] == 58
    (record,) = caplog.records
    assert "the oldest recordings go" in record.message and "free some space" in record.message


def test_a_disk_that_refuses_is_told_once_and_recording_goes_on_when_it_takes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, refused_with = segments._write, errno.EIO

    def refusing(handle: int, data: bytes, offset: int) -> None:
        if refused_with:
            real(handle, data[: len(data) // 2], offset)
            raise OSError(refused_with, os.strerror(refused_with))
        real(handle, data, offset)

    one, before = writer(tmp_path), lost("disk")
    write(one, made_up(0))
    monkeypatch.setattr(segments, "_write", refusing)
    with caplog.at_level(logging.WARNING):
        assert write(one, *(made_up(n) for n in range(1, 5))) == [False] * 4
        refused_with = 0
        assert write(one, *(made_up(n) for n in range(5, 8))) == [True] * 3
    assert lost("disk") - before == 4
    assert ["Input/output error" in record.message for record in caplog.records] == [True, False]
    assert [len(read_index(s.index)) for s in Recordings(tmp_path).segments("gate")] == [1, 3]


def test_no_space_at_all_removes_the_oldest_and_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = segments._write

    def full(handle: int, data: bytes, offset: int) -> None:
        if len(data) == 1000 and size_of(tmp_path) > 8_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle, data, offset)

    monkeypatch.setattr(segments, "_write", full)
    one = writer(tmp_path)
    assert all(write(one, *(made_up(n) for n in range(30))))
    assert kept(tmp_path)[-1] == 27 and kept(tmp_path)[0] > 20
    (record,) = caplog.records
    assert "the oldest recordings go" in record.message


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "recordings").write_text("a file")
    one = writer(tmp_path / "recordings")
    with caplog.at_level(logging.WARNING):
        assert write(one, *(made_up(n) for n in range(5))) == [False] * 5
    (record,) = caplog.records
    assert str(tmp_path / "recordings") in record.message and "nothing is recorded meanwhile" in record.message


def test_a_full_disk_at_the_start_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    one = writer(tmp_path, RecordingSettings(keep_free_bytes=2_000_000))
    with caplog.at_level(logging.WARNING):
        assert write(one, *(made_up(n) for n in range(5))) == [False] * 5
    (record,) = caplog.records
    assert "less than 2 MB of the disk are free" in record.message


def test_what_a_killed_writer_left_open_is_mended(tmp_path: Path) -> None:
    killed = writer(tmp_path)
    write(killed, *tapped([film(tmp_path / "a.ts", 5)]))
    (first, last) = Recordings(tmp_path).segments("gate")
    for handle in (killed._open["gate"]._video, killed._open["gate"]._index):
        os.close(handle)  # as when a process is killed
    with last.video.open("ab") as file:
        file.write(b"\0\0\1\0moof half of a fragment")
    with last.index.open("ab") as file:
        file.write(b"half")
    (last.video.parent / "1767225699000.mp4").write_bytes(b"no index was written")
    (last.video.parent / "1767225698000.idx").write_bytes(b"wwi")
    (last.video.parent / "1767225698000.mp4").write_bytes(b"no fragment was written")
    one = writer(tmp_path)
    one.tend(START_MS)
    assert Recordings(tmp_path).segments("gate") == [first, last]
    assert [numbers(segment.video) for segment in (first, last)] == [list(range(30)), list(range(30, 50))]
    assert one.used() == size_of(tmp_path / "gate")
    assert write(one, made_up(100)) == [True]


def test_files_that_are_no_recordings_stay(tmp_path: Path) -> None:
    one = writer(tmp_path)
    write(one, made_up(0))
    one.close()
    hour = Recordings(tmp_path).segments("gate")[0].video.parent
    theirs = [tmp_path / "gate" / "kept" / "1767225699000.mp4", hour / "holiday.mp4", tmp_path / "lost+found" / "a.mp4"]
    for path in theirs:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"not ours")
    again = writer(tmp_path)
    for _ in range(3):
        again.tend(START_MS)
    assert all(path.exists() for path in theirs)


def test_what_came_before_a_long_pause_is_as_old_as_it_is(tmp_path: Path) -> None:
    day = 86_400
    one = writer(tmp_path)
    write(one, *(made_up(n) for n in (0, 40 * day, 41 * day, 42 * day, 43 * day)))
    one.close()
    again = writer(tmp_path, gate=Recording(10, 10**9))
    again.tend(START_MS + 43 * day * 1000)
    assert kept(tmp_path) == [n * day for n in (40, 41, 42, 43)]


def test_what_another_process_writes_is_left_alone(tmp_path: Path) -> None:
    other = writer(tmp_path)
    write(other, made_up(0), made_up(1))
    one = writer(tmp_path)
    one.tend(START_MS)
    assert write(other, made_up(2)) == [True]
    assert [len(read_index(s.index)) for s in Recordings(tmp_path).segments("gate")] == [3]


def test_a_segment_cut_short_by_a_power_cut_ends_where_the_disk_has_it(tmp_path: Path) -> None:
    one = writer(tmp_path)
    write(one, *(made_up(n) for n in range(3)))
    one.close()
    (segment,) = Recordings(tmp_path).segments("gate")
    os.truncate(segment.video, 2500)
    again = writer(tmp_path)
    again.tend(START_MS)
    assert [entry.offset + entry.size for entry in read_index(segment.index)] == [1004, 2004]


def test_two_segments_that_begin_at_one_instant_are_both_kept(tmp_path: Path) -> None:
    one = writer(tmp_path)
    other = Format(b"other")
    assert write(one, made_up(0), made_up(0, form=other)) == [True, True]
    assert [s.start_ms - START_MS for s in Recordings(tmp_path).segments("gate")] == [0, 1]


def test_a_segment_to_which_nothing_comes_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = writer(tmp_path)
    write(one, made_up(0))
    one.tend(0)
    assert one._open
    monkeypatch.setattr(segments, "_IDLE_S", -1)
    one.tend(0)
    assert not one._open
    assert one.used() == size_of(tmp_path)


def test_a_budget_has_room_for_several_segments_however_much_a_camera_sends(tmp_path: Path) -> None:
    one = writer(tmp_path, gate=Recording(1, 100_000))
    write(one, *(made_up(n, size=8_000) for n in range(40)))
    assert len(kept(tmp_path)) >= 5
    assert one.used() <= 100_000


def test_limits_that_shrink_take_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_SWEEP_S", 0)
    one = writer(tmp_path)
    write(one, *(made_up(n) for n in range(30)))
    one.limits = {"gate": Recording(30, 10_000, on=False)}
    one.tend(START_MS)
    assert one.used() <= 10_000
    assert kept(tmp_path)
