from __future__ import annotations

from pathlib import Path

import pytest

from cameras.erasing import sweep
from cameras.segments import Segments
from cameras.settings import RecordingSettings
from catalog import mp4, recordings
from catalog.recordings import CHUNK_BYTES, Clip, Missing, Recordings
from proto.errors import Broken, Invalid, Unknown
from proto.life import Erased, Gone, Stretch
from proto.types import Recording
from tests.cameras.filming import START_MS, decoded, film, numbers, tapped


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Ten seconds of pictures at ten a second, a key frame each second; and the same in another resolution."""
    folder = tmp_path_factory.mktemp("footage")
    return {"small": film(folder / "small", 10), "large": film(folder / "large", 10, size=(128, 96))}


def record(folder: Path, *films: tuple[Path, int]) -> Recordings:
    """Recordings in segments of three seconds, each film from its second on."""
    writer = Segments(folder, RecordingSettings(segment_s=3, keep_free_bytes=0))
    writer.limits = {"gate": Recording(30, 10**9)}
    for path, at_s in films:
        for fragment in tapped([path], start_ms=START_MS + at_s * 1000):
            assert writer.write(fragment, START_MS)
    writer.close()
    return Recordings(folder)


def cut(reader: Recordings, start_s: float, end_s: float) -> Clip:
    return reader.clip("gate", START_MS + round(start_s * 1000), START_MS + round(end_s * 1000))


def shown(clip: Clip) -> list[int]:
    data = b"".join(clip.chunks())
    assert len(data) == clip.size
    return numbers(data)


def spans(clip: Clip) -> list[tuple[float, float]]:
    return [((start_ms - START_MS) / 1000, (end_ms - START_MS) / 1000) for start_ms, end_ms in clip.spans]


@pytest.mark.parametrize(
    ("start_s", "end_s", "first", "after"),
    [(0, 10, 0, 10), (0, 1, 0, 1), (2.3, 2.4, 2, 3), (2.9, 3.1, 2, 4), (4, 7, 4, 7), (8.5, 100, 8, 10)],
)
def test_a_clip_begins_with_the_key_frame_before_and_ends_with_the_group_in_which_its_time_ends(
    tmp_path: Path, footage: dict[str, Path], start_s: float, end_s: float, first: int, after: int
) -> None:
    clip = cut(record(tmp_path, (footage["small"], 0)), start_s, end_s)
    assert spans(clip) == [(first, after)]
    assert shown(clip) == [number % 80 for number in range(first * 10, after * 10)]


def test_media_time_goes_on_over_segments_and_begins_with_zero(tmp_path: Path, footage: dict[str, Path]) -> None:
    clip = cut(record(tmp_path, (footage["small"], 0)), 1, 9)
    assert len({segment for segment, _ in clip.parts}) == 3
    assert [time_s for time_s, _ in decoded(b"".join(clip.chunks()))] == pytest.approx([n / 10 for n in range(80)])


def test_a_time_that_was_not_recorded_is_left_out_and_said(tmp_path: Path, footage: dict[str, Path]) -> None:
    clip = cut(record(tmp_path, (footage["small"], 0), (footage["small"], 60)), 5, 65)
    assert spans(clip) == [(5, 10), (60, 65)]
    assert clip.missing == (Missing(START_MS + 10_000, START_MS + 60_000, "not recorded"),)
    assert shown(clip) == [*range(50, 80), *range(20), *range(50)]


def test_before_and_after_what_was_recorded_is_said_too(tmp_path: Path, footage: dict[str, Path]) -> None:
    clip = cut(record(tmp_path, (footage["small"], 0)), -20, 30)
    assert [one.start_ms - START_MS for one in clip.missing] == [-20_000, 10_000]
    assert [one.end_ms - START_MS for one in clip.missing] == [0, 30_000]
    assert spans(clip) == [(0, 10)]


def test_another_resolution_is_a_clip_of_its_own(tmp_path: Path, footage: dict[str, Path]) -> None:
    reader = record(tmp_path, (footage["small"], 0), (footage["large"], 10))
    clip = cut(reader, 8, 13)
    assert spans(clip) == [(8, 10)]
    assert clip.missing == (Missing(START_MS + 10_000, START_MS + 13_000, "another format"),)
    rest = cut(reader, 10, 13)
    assert (spans(rest), rest.missing, len(shown(rest))) == ([(10, 13)], (), 30)


def test_a_clock_that_was_set_back_shows_each_time_once(tmp_path: Path, footage: dict[str, Path]) -> None:
    clip = cut(record(tmp_path, (footage["small"], 0), (footage["small"], 4)), 0, 20)
    assert spans(clip) == [(0, 14)]
    assert len(shown(clip)) == 140


@pytest.mark.parametrize(("start_s", "end_s"), [(-20, -10), (10, 20), (-5, 0)])
def test_a_time_without_recording_says_what_there_is(
    tmp_path: Path, footage: dict[str, Path], start_s: float, end_s: float
) -> None:
    reader = record(tmp_path, (footage["small"], 0))
    with pytest.raises(Unknown, match=r"nothing of gate is recorded from .*: there are recordings from 2026-01-01"):
        cut(reader, start_s, end_s)


def test_a_time_that_no_date_has_is_not_recorded(tmp_path: Path, footage: dict[str, Path]) -> None:
    reader = record(tmp_path, (footage["small"], 0))
    for start_ms in (0, 2**52):
        with pytest.raises(Unknown, match="there are recordings from 2026-01-01"):
            reader.clip("gate", start_ms, start_ms + 1000)


def test_folders_that_are_no_cameras_are_left_out(tmp_path: Path) -> None:
    for name in ("gate", "lost+found", ".snapshots"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes").touch()
    assert Recordings(tmp_path).cameras() == ["gate"]


def test_a_segment_is_found_from_any_time_in_it(tmp_path: Path, footage: dict[str, Path]) -> None:
    reader = record(tmp_path, (footage["small"], 3595))
    for at_s in (3595, 3599, 3600, 3604):  # it begins in one hour's folder, and goes on in the next hour
        assert reader.has("gate", START_MS + at_s * 1000)
        assert cut(reader, at_s, at_s + 0.5).parts


def test_a_camera_that_was_never_recorded_says_how_it_would_be(tmp_path: Path) -> None:
    with pytest.raises(Unknown, match="nothing of gate is recorded: `watchword recording set`"):
        cut(Recordings(tmp_path), 0, 1)


def test_a_name_that_is_none_reaches_no_file(tmp_path: Path) -> None:
    with pytest.raises(Invalid):
        Recordings(tmp_path).clip("../../etc", 0, 1)


def test_what_is_removed_while_it_is_played_is_an_error_and_not_a_shorter_clip(
    tmp_path: Path, footage: dict[str, Path]
) -> None:
    reader = record(tmp_path, (footage["small"], 0))
    chunks = cut(reader, 0, 10).chunks()
    next(chunks)
    next(chunks)
    for segment in reader.segments("gate")[1:]:
        segment.video.unlink()
    with pytest.raises(Unknown, match="removed meanwhile"):
        list(chunks)


def test_what_is_erased_while_it_is_played_is_an_error_that_says_so(tmp_path: Path, footage: dict[str, Path]) -> None:
    reader = record(tmp_path, (footage["small"], 0))
    chunks = cut(reader, 0, 10).chunks()
    next(chunks)
    sweep(reader.segments("gate"), Gone(erased=(Erased(Stretch("gate", START_MS + 4000, START_MS + 5500)),)))
    with pytest.raises(Unknown, match="erased meanwhile"):
        list(chunks)


def test_a_clip_is_read_in_pieces_and_closes_its_file(
    tmp_path: Path, footage: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = cut(record(tmp_path, (footage["small"], 0)), 0, 10)
    whole = b"".join(clip.chunks())
    monkeypatch.setattr(recordings, "CHUNK_BYTES", 700)
    pieces = list(clip.chunks())
    assert b"".join(pieces) == whole
    assert max(map(len, pieces[1:])) <= 700 < CHUNK_BYTES


def test_whether_an_instant_is_recorded(tmp_path: Path, footage: dict[str, Path]) -> None:
    reader = record(tmp_path, (footage["small"], 0), (footage["small"], 60))
    asked = [-1, 0, 5, 9.9, 10, 59, 60, 69, 71]
    assert [s for s in asked if reader.has("gate", START_MS + round(s * 1000))] == [0, 5, 9.9, 60, 69]
    assert not reader.has("dock", START_MS)


def test_an_index_that_is_none_is_left_out(tmp_path: Path, footage: dict[str, Path]) -> None:
    reader = record(tmp_path, (footage["small"], 0))
    first, *_ = reader.segments("gate")
    first.index.write_bytes(b"something else")
    (first.index.parent / "notes.idx").write_text("by hand")
    (tmp_path / "gate" / "a folder").mkdir()
    assert spans(cut(reader, 0, 10)) == [(3, 10)]


def test_a_folder_that_cannot_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("catalog.recordings.os.listdir", refuse)
    with pytest.raises(Broken, match="Permission denied"):
        Recordings(tmp_path).cameras()


@pytest.mark.parametrize(
    ("codec", "says"), [("libx264", "avc1."), ("libx265", "hev1.1."), ("mpeg4", "mp4v.20"), ("mjpeg", "mp4v.6c")]
)
def test_a_clip_says_its_codec_as_browsers_ask_for_it(tmp_path: Path, codec: str, says: str) -> None:
    container = "mpegts" if codec.startswith("libx26") else "avi"
    fragments = tapped([film(tmp_path / "a", 2, codec=codec, container=container)])
    assert mp4.codec_string(fragments[0].form.init).startswith(says)


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"\0\0\0\x08moov", b"\0\0\0\x18moov\0\0\0\x10stsd\0\0\0\0\0\0\0\1"])
def test_an_initialisation_that_is_none_has_no_codec(data: bytes) -> None:
    assert mp4.codec_string(data) == ""
    assert mp4.init_size(data) in (0, len(data))
