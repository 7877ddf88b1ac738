"""The arithmetic of `watchword plan`, its profile file, and what it prints."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.watchword.terminal import Cli, refused
from watchword.capacity import Profile, Wanted, cores, flow, plan, shards_for
from watchword.times import seconds

COSTS = [
    *("picture_s", "decode_s", "look_s", "keep_s", "kept_share", "broker_s", "stream_s", "moments_per_frame"),
    *("writes_per_moment", "rows_per_moment", "row_write_s", "row_bytes", "frame_bytes", "looks_per_frame"),
]


def amounts(profile: Profile, wanted: Wanted) -> dict[str, float]:
    return {one.what: one.amount for one in plan(profile, wanted)}


def test_the_plan_follows_from_the_profile_line_by_line() -> None:
    profile = Profile(
        cores=2, memory_bytes=16_000_000_000, dimension=500, picture_s=0.02, looks_per_frame=0.5, kept_share=0.5,
        frame_bytes=20_000, moments_per_frame=0.1, rows_per_moment=2, row_bytes=3_000, pictures_bytes=10_000,
        source_fps=10, decode_s=0.001, look_s=0.001, keep_s=0.002, process_idle=0, source_bytes_per_s=100_000,
        stream_s=0.01, stream_idle=0, broker_idle=0, encoder_idle=0,
    )  # fmt: skip
    wanted = Wanted(cameras=100, retention_days=10, recordings_days=2, replication=3, utilisation=0.5)
    found = amounts(profile, wanted)
    assert found["frames"] == 100  # 100 cameras, 2 looks a second, half kept
    assert found["Kafka in"] == pytest.approx(2.0)
    assert found["Kafka disk"] == pytest.approx(2.0e6 * 3600 * 3 / 1e9)
    assert found["pictures to embed"] == 150
    assert found["encoder workers"] == 3  # 3 cores of work, at half busy 6, of machines with 2
    assert (found["stream workers"], found["partitions"]) == (2, 8)
    assert found["rows stored"] == pytest.approx(10 * 86_400 * 10 * 2)
    assert found["Milvus disk"] == pytest.approx(17_280_000 * 3_000 * 3 / 1e9)
    assert found["Milvus memory"] == pytest.approx(17_280_000 * 500 * 4 * 1.3 / 1e9)
    assert found["Milvus shards"] == 6  # 44.9 GB, in halves of 16
    assert found["pictures disk"] == pytest.approx(86.4)
    assert found["recordings disk"] == pytest.approx(100 * 100_000 * 2 * 86_400 / 1e9)
    assert found["cores: camera processes"] == pytest.approx(100 * (10 * 0.001 + 2 * 0.001 + 0.002))
    assert found["cores in use"] == pytest.approx(
        sum(value for what, value in found.items() if what.startswith("cores: "))
    )
    assert found["cores a camera"] == pytest.approx(found["cores in use"] / 0.5 / 100)


def test_on_gpus_pictures_are_counted_and_not_processor_time() -> None:
    profile = Profile(on_gpu=True, pictures_per_s=1000, kept_share=0.5, looks_per_frame=1)
    found = amounts(profile, Wanted(cameras=1000))
    assert found["GPUs"] == 3  # 2,000 a second of 1,000 each, at 0.7
    assert found["cores: encoder workers"] == profile.encoder_idle


@settings(deadline=None)
@given(st.integers(1, 5_000), st.sampled_from(COSTS), st.floats(1.01, 2))
def test_more_never_needs_less(cameras: int, cost: str, times: float) -> None:
    profile, wanted = Profile(), Wanted(cameras=cameras)
    most = 1.0 if cost in ("kept_share", "moments_per_frame") else 1e9
    dearer = Profile(**{cost: min(getattr(profile, cost) * times, most)})
    less, more = amounts(profile, wanted), amounts(dearer, wanted)
    twice = amounts(profile, Wanted(cameras=2 * cameras))
    assert all(more[what] >= less[what] for what in less)
    assert all(twice[what] >= less[what] for what in less if what != "cores a camera")


@settings(deadline=None)
@given(st.integers(1, 10_000), st.floats(0.1, 60))
def test_the_flow_is_in_proportion(cameras: int, fps: float) -> None:
    one, many = flow(Profile(), Wanted(cameras=1, fps=fps)), flow(Profile(), Wanted(cameras=cameras, fps=fps))
    assert many.frames_per_s == pytest.approx(cameras * one.frames_per_s)
    assert many.rows == pytest.approx(cameras * one.rows)


def test_a_shard_has_an_idle_cost_of_its_own() -> None:
    profile, wanted = Profile(), Wanted(cameras=2_000, retention_days=90)
    shards = shards_for(profile, wanted)
    assert shards > 1
    assert cores(profile, wanted, shards).index - cores(profile, wanted, 1).index == pytest.approx(
        (shards - 1) * profile.index_idle
    )


@pytest.fixture
def hardware(tmp_path: Path) -> Path:
    path = tmp_path / "profile.json"
    path.write_text(Profile(machine="a box", measured=("picture_s",), picture_s=0.05).model_dump_json())
    return path


def test_a_profile_of_another_machine_is_used_and_every_assumption_is_printed(cli: Cli, hardware: Path) -> None:
    said = cli("plan", "--cameras", "50", "--hardware", str(hardware), "--retention", "7d", "--recordings", "12h").out
    for name in (*Profile.model_fields, *Wanted.model_fields):
        if name not in ("version", "machine", "measured", "engine", "cameras"):
            assert re.search(rf"^  {name} ", said, re.MULTILINE), name
    assert re.search(r"picture_s +0.05  measured", said)
    assert re.search(r"stream_s +0.003  default", said)
    assert re.search(r"recordings disk +540 GB", said)


def test_json_can_be_read_again_and_so_can_what_is_saved(cli: Cli, hardware: Path, tmp_path: Path) -> None:
    saved = tmp_path / "saved.json"
    ended = cli("plan", "--cameras", "5", "--hardware", str(hardware), "--json", "--save", str(saved))
    said: dict[str, Any] = json.loads(ended.out)
    assert Profile(**said["profile"]) == Profile.model_validate_json(saved.read_bytes())
    assert {one["what"] for one in said["needs"]} >= {"cores a camera", "partitions", "Milvus memory"}
    again = json.loads(cli("plan", "--cameras", "5", "--hardware", str(saved), "--json").out)
    assert again == said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--cameras", "0"], "cameras = 0"),
        (["--cameras", "5", "--fps", "0"], "fps = 0"),
        (["--cameras", "5", "--retention", "soon"], "is no length of time"),
        (["--cameras", "5", "--busy", "1.5"], "busy_share = 1.5"),
        (["--cameras", "5", "--hardware", "/nowhere"], "cannot be read"),
    ],
)
def test_what_cannot_be_is_refused(cli: Cli, arguments: list[str], says: str) -> None:
    ended = cli("plan", *arguments)
    assert (ended.code, says in refused(ended)) == (2, True)


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"version": 2}', '{"picture_s": -1}', '{"pictures": 1}', '{"cores": "two"}']
)
def test_a_file_that_is_no_profile_is_refused(cli: Cli, tmp_path: Path, content: str) -> None:
    path = tmp_path / "profile.json"
    path.write_text(content)
    ended = cli("plan", "--cameras", "5", "--hardware", str(path))
    assert (ended.code, "is no profile" in refused(ended)) == (2, True)


def test_lengths_of_time() -> None:
    assert [seconds(words) for words in ("30s", "10m", "12h", "1.5d", "1w")] == [30, 600, 43_200, 129_600, 604_800]
