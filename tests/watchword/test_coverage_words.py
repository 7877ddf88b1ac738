"""What a person and a program read of an answer's coverage."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import pytest

from catalog.coverage import Gap, Reason
from index.memory import MemoryStore
from proto.v1 import query_pb2
from query.service import serve_query
from query.settings import QuerySettings
from tests.contracts.moments import SPACE
from tests.query.fakes import MOMENTS, coverage_in, searcher
from watchword.answers import TypedSearch, as_plain, ask_and_show
from watchword.coverage_words import not_searched, plain_coverage
from watchword.hits import NOTHING_SURE
from watchword.settings import Settings
from watchword.times import local

NOON = int(datetime(2026, 5, 1, 12, 0).astimezone().timestamp() * 1000)
MINUTE = 60_000


def gap(reason: str, camera: str = "gate", from_min: float = 0, to_min: float = 4, frames: int = 0) -> query_pb2.Gap:
    start_ms, end_ms = round(NOON + from_min * MINUTE), round(NOON + to_min * MINUTE)
    return query_pb2.Gap(camera=camera, reason=reason, start_ms=start_ms, end_ms=end_ms, frames=frames)


def missed(*gaps: query_pb2.Gap) -> list[str]:
    frames = sum(one.frames for one in gaps)
    return not_searched(query_pb2.Coverage(partial=True, gaps=gaps, gaps_in_all=len(gaps), frames_not_looked_at=frames))


def test_where_everything_was_searched_there_is_nothing_to_say() -> None:
    marks = [query_pb2.Watermark(camera="gate", looked_ms=NOON)]
    assert not_searched(query_pb2.Coverage(shards_searched=2, buckets_searched=3, watermarks=marks)) == []


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (gap("away"), "gate was away 2026-05-01 12:00:00 - 12:04:00"),
        (gap("waiting", to_min=0.75), "what gate captured 2026-05-01 12:00:00 - 12:00:45 was not looked at yet (45 s)"),
        (
            gap("shed", frames=340),
            "340 frames of gate were shed 2026-05-01 12:00:00 - 12:04:00: more came than could be looked at",
        ),
        (
            gap("expired", camera="", frames=6995),
            "6,995 frames were dropped by the broker 2026-05-01 12:00:00 - 12:04:00, before they were looked at",
        ),
        (gap("lost", frames=1), "1 frame of gate was lost 2026-05-01 12:00:00 - 12:04:00, before the broker took it"),
        (gap("asleep"), "frames of gate were not looked at 2026-05-01 12:00:00 - 12:04:00"),
    ],
)
def test_a_gap_is_told_with_its_camera_its_time_and_its_reason(one: query_pb2.Gap, words: str) -> None:
    assert missed(one) == [words]


def test_frames_of_several_cameras_are_told_together() -> None:
    gaps = [gap("shed", f"cam-{number}", number, number + 1, frames=100) for number in range(2)]
    assert missed(*gaps) == [
        "200 frames of cam-0 and cam-1 were shed in 2 spans of 2026-05-01 12:00:00 - 12:02:00: "
        "more came than could be looked at"
    ]
    assert missed(*gaps, gap("shed", "dock"), gap("shed", "yard"))[0].startswith("200 frames of 4 cameras were shed in")


def test_of_many_cameras_that_are_away_or_behind_three_are_named() -> None:
    away = [gap("away", f"cam-{number % 5}", number * 10, number * 10 + 1) for number in range(9)]
    assert missed(*away)[3:] == ["5 cameras were away 6 more times"]
    behind = [gap("waiting", f"cam-{number}", 0, number) for number in range(1, 6)]
    assert missed(*behind)[3:] == ["2 more cameras are behind, by up to 5 min"]


def test_gaps_that_did_not_fit_into_the_reply_are_counted() -> None:
    coverage = query_pb2.Coverage(partial=True, gaps=[gap("away")], gaps_in_all=250, frames_not_looked_at=7000)
    assert not_searched(coverage)[-1] == "249 more spans were not looked at; 7,000 frames in all"


def test_parts_of_the_index_that_did_not_answer_are_told_once() -> None:
    day = NOON + 24 * 60 * MINUTE
    parts = [("m1", 0, 2**53), ("m2", NOON, day), ("m3", 0, 2**53)]
    coverage = query_pb2.Coverage(
        partial=True,
        shards_missing=["m1"],
        unsearched=[query_pb2.Unsearched(shard=name, start_ms=start, end_ms=end) for name, start, end in parts],
    )
    assert not_searched(coverage) == [
        "m1 did not answer: `watchword doctor` checks",
        "m2 did not answer for 2026-05-01 12:00:00 - 2026-05-02 12:00:00: ask again",
        "m3 did not answer for everything: ask again",
    ]


def test_another_space_and_an_unknown_coverage_are_told() -> None:
    coverage = query_pb2.Coverage(partial=True, spaces_unsearched=["f" * 16], coverage_unknown=True)
    space, unknown = not_searched(coverage)
    assert f"space {'f' * 16}" in space
    assert "not known" in unknown


def test_a_partial_answer_never_passes_without_a_word() -> None:
    (line,) = not_searched(query_pb2.Coverage(partial=True))
    assert "later version" in line


def test_json_carries_everything_that_the_wire_does() -> None:
    coverage = query_pb2.Coverage(
        partial=True,
        shards_missing=["m1"],
        shards_searched=2,
        buckets_searched=3,
        gaps=[gap("away"), gap("expired", camera="", frames=5)],
        gaps_in_all=2,
        frames_not_looked_at=5,
        watermarks=[query_pb2.Watermark(camera="gate", looked_ms=NOON)],
        unsearched=[query_pb2.Unsearched(shard="m1", start_ms=1, end_ms=2, cameras=["dock", "gate"])],
        spaces_unsearched=["f" * 16],
        coverage_unknown=True,
    )
    plain = as_plain(query_pb2.SearchReply(coverage=coverage), [])["coverage"]
    assert set(plain) == {field.name for field in query_pb2.Coverage.DESCRIPTOR.fields}
    assert json.loads(json.dumps(plain)) == plain == plain_coverage(coverage)
    away, expired = plain["gaps"]
    assert (away["camera"], away["reason"], away["start"], away["frames"]) == ("gate", "away", local(NOON), None)
    assert (expired["camera"], expired["frames"]) == (None, 5)
    assert plain["watermarks"] == [{"camera": "gate", "looked": local(NOON), "looked_ms": NOON}]
    part = {"shard": "m1", "start_ms": 1, "end_ms": 2, "cameras": ["dock", "gate"], "cold": False}
    assert plain["unsearched"] == [part]
    assert not_searched(coverage)[0].startswith("m1 did not answer, which may have moments of dock, gate: ")


async def test_the_command_prints_hits_for_pipes_and_what_it_missed_for_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = MemoryStore(SPACE)
    await store.upsert(MOMENTS)
    coverage_in(tmp_path).declare([Gap("gate", Reason.AWAY, NOON, NOON + 4 * MINUTE)])
    server = await serve_query(searcher(store, tmp_path), QuerySettings(), "127.0.0.1:0")
    settings = Settings(cache_dir=tmp_path / "cache", query=QuerySettings(address=server.address))
    try:
        await ask_and_show(settings, TypedSearch("dog"), as_json=False)
        people = capsys.readouterr()
        await ask_and_show(settings, TypedSearch("dog"), as_json=True)
        program = capsys.readouterr()
    finally:
        await server.stop(0)
    nothing_sure, headings = people.out.splitlines()[:2]
    assert nothing_sure == NOTHING_SURE
    assert headings.split() == ["camera", "when", "sure", "found", "seen", "picture"]
    assert people.err.splitlines() == [
        "not everything could be searched:",
        "  gate was away 2026-05-01 12:00:00 - 12:04:00",
    ]
    assert json.loads(program.out)["coverage"]["gaps"][0]["reason"] == "away"
    assert program.err == ""
