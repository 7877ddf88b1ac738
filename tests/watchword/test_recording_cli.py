from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cameras.segments import Segments
from cameras.settings import RecordingSettings
from catalog.cameras import CameraRegistry
from manage.recordings import in_words, recording_of
from proto.errors import Invalid
from proto.types import Camera, Recording
from tests.cameras.filming import START_MS, film, tapped
from tests.clips import CLIPS
from tests.watchword.terminal import Cli, refused
from watchword.catalogs import open_registry
from watchword.recording_cli import bytes_of
from watchword.settings import Settings


@pytest.fixture
def registry(tmp_path: Path, cli: Cli) -> Iterator[CameraRegistry]:
    cli("camera", "add", "gate", "rtsp://127.0.0.1:9/live", "--unchecked")
    with open_registry(Settings(data_dir=tmp_path / "data")) as registry:
        yield registry


def test_a_camera_is_recorded_and_no_longer_and_stays_the_same_camera(cli: Cli, registry: CameraRegistry) -> None:
    assert cli("recording", "set", "gate", "--days", "2", "--bytes", "20GB").out.startswith(
        "recording gate: at most 2 days and 20 GB"
    )
    assert registry.get("gate") == Camera("gate", "rtsp://127.0.0.1:9/live", record=Recording(2, 20 * 10**9))
    cli("recording", "set", "gate", "--bytes", "500MB")
    assert registry.get("gate").record == Recording(2, 500_000_000)
    assert cli("recording", "off", "gate").code == 0
    assert registry.get("gate").record == Recording(2, 500_000_000, on=False)
    assert registry.get("gate").watching


def test_a_camera_is_recorded_from_its_registration_on(cli: Cli, registry: CameraRegistry) -> None:
    added = cli("camera", "add", "dock", "rtsp://127.0.0.1:9/dock", "--unchecked", "--record-days", "7")
    assert added.out == "watching and recording dock\n"
    assert registry.get("dock").record == Recording(7, 50 * 10**9)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("recording", "set", "gate", "--bytes", "1MB"), "below what a camera sends in some minutes"),
        (("recording", "set", "gate", "--bytes", "much"), "is no size: write 500MB"),
        (("recording", "set", "gate", "--days", "0"), "0 days cannot be kept"),
        (("recording", "set", "gaet"), "no camera is named 'gaet': known here: gate"),
        (("recording", "off", "gate"), "gate is not recorded"),
        (("camera", "add", "c", str(CLIPS["bikes"]), "--record-days", "1"), "is a file, which is recorded already"),
        (("clip",), "give CAMERA --from TIME --to TIME, or --moment MOMENT"),
        (("clip", "gate", "--from", "1h"), "give CAMERA --from TIME --to TIME"),
        (("clip", "gate", "--moment", "a"), "give CAMERA --from TIME --to TIME"),
    ],
)
def test_a_wrong_request_is_one_line(cli: Cli, registry: CameraRegistry, words: tuple[str, ...], says: str) -> None:
    assert says in refused(cli(*words))


def test_the_status_says_what_there_is_and_how_long_the_limits_last(
    cli: Cli, registry: CameraRegistry, tmp_path: Path
) -> None:
    assert "nothing is recorded" in cli("recording", "status").out
    cli("recording", "set", "gate", "--days", "30", "--bytes", "100MB")
    assert cli("recording", "status").out == "gate: 30 days, 100 MB; there: nothing yet\n"
    writer = Segments(tmp_path / "data" / "recordings", RecordingSettings(segment_s=3, keep_free_bytes=0))
    writer.limits = {"gate": Recording(30, 10**9), "gone": Recording(30, 10**9)}
    for camera in writer.limits:
        for fragment in tapped([film(tmp_path / "a.ts", 10)], camera=camera):
            writer.write(fragment, START_MS)
    writer.close()
    rows = {row["camera"]: row for row in json.loads(cli("recording", "status", "--json").out)}
    assert (rows["gate"]["start_ms"], rows["gate"]["end_ms"]) == (START_MS, START_MS + 10_000)
    assert rows["gate"]["bytes"] == writer.used("gate") and rows["gate"]["limits"]["bytes"] == 100_000_000
    assert rows["gate"]["days"] == pytest.approx(100_000_000 / rows["gate"]["bytes_a_day"])
    assert (rows["gone"]["limits"], rows["gone"]["days"]) == (None, None)
    assert "; the limits hold " in cli("recording", "status").out


@pytest.mark.parametrize(
    ("words", "size"),
    [
        ("500MB", 500 * 10**6),
        ("20GB", 20 * 10**9),
        ("1.5 TB", 1_500 * 10**9),
        ("2GiB", 2 * 2**30),
        ("7", 7),
        ("3k", 3000),
    ],
)
def test_sizes_are_read_as_people_write_them(words: str, size: int) -> None:
    assert bytes_of(None, None, words) == size


@pytest.mark.parametrize("words", ["", "GB", "-1GB", "1XB", "1e9", "nan"])
def test_what_is_no_size_is_refused(words: str) -> None:
    with pytest.raises(Invalid, match="is no size"):
        bytes_of(None, None, words)


def test_days_are_bounded() -> None:
    for days in (0, -1, 40_000, float("nan"), float("inf")):
        with pytest.raises(Invalid, match="days cannot be kept"):
            recording_of(days, None)


def test_sizes_are_shown_as_people_read_them() -> None:
    assert [in_words(size) for size in (999, 1_500, 20 * 10**9, 1_234 * 10**9)] == [
        "999 bytes",
        "1.5 kB",
        "20 GB",
        "1.23 TB",
    ]
