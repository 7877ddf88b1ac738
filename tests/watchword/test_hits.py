"""What people and programs read of hits, and the contact sheet."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from PIL import Image

from catalog.media import Thumbnails
from catalog.objects import FolderObjects
from index.memory import MemoryStore
from proto.errors import Broken, Invalid, Transient
from proto.types import Moment
from proto.v1 import query_pb2
from query.judging import Judge
from query.service import serve_query
from query.settings import QuerySettings
from tests.contracts.moments import NOON, SPACE, moment
from tests.query.fakes import MOMENTS, searcher, vector_of
from watchword.answers import TypedSearch, ask_and_show, show_kinds
from watchword.cli import main
from watchword.demo import QUESTIONS, Expected, _seen_whole, _wrong
from watchword.hits import LESS_SURE, NOTHING_SURE, Shown, as_row, as_table, parted, percent, plain_hit, seen, when
from watchword.settings import Settings
from watchword.sheet import Row, Tile, check_sheet, write_sheet

WHOLE = query_pb2.Box(left=0, top=0, right=1, bottom=1)


def hit(confidence: float, *, camera: str = "gate", box: query_pb2.Box = WHOLE, **fields: object) -> query_pb2.Hit:
    return query_pb2.Hit(
        moment_id=MOMENTS[0].id, camera=camera, start_ms=NOON, peak_ms=NOON + 1000, end_ms=NOON + 2000, closed=True,
        confidence=confidence, box=box, at_ms=NOON + 500, moments=1, **fields,  # type: ignore[arg-type]
    )  # fmt: skip


def reply(*hits: query_pb2.Hit, threshold: float = 0.5) -> query_pb2.SearchReply:
    sure = any(one.confidence >= threshold for one in hits)
    return query_pb2.SearchReply(hits=hits, threshold=threshold, no_confident_match=not sure)


def test_sure_hits_and_others_are_told_apart_by_the_threshold_of_the_reply() -> None:
    shown = [Shown(hit(sure), None) for sure in (0.7, 0.3, 0.6, 0.5)]
    sure, weak = parted(reply(threshold=0.6), shown)
    assert (sure, weak) == ([shown[0], shown[2]], [shown[1], shown[3]])


@pytest.mark.parametrize(
    ("confidence", "words"),
    [(0.0, "0 %"), (0.002, "0.2 %"), (0.5, "50 %"), (0.934, "93 %"), (0.997, "99.7 %"), (1, "100 %")],
)
def test_a_confidence_is_told_in_percent(confidence: float, words: str) -> None:
    assert percent(hit(confidence)) == words


def test_a_hit_of_several_moments_and_what_was_seen_are_told() -> None:
    one = hit(0.9)
    one.moments, one.closed = 3, False
    one.objects.extend([query_pb2.ObjectCount(kind="car", count=1), query_pb2.ObjectCount(kind="person", count=2)])
    assert when(one).endswith(" … (3 moments)")
    assert seen(one) == "1 car, 2 person"


def test_programs_get_everything_that_a_hit_says() -> None:
    box = query_pb2.Box(left=0.25, top=0.5, right=0.5, bottom=0.75)
    plain = plain_hit(
        Shown(hit(0.9, box=box, kind="person", objects=[query_pb2.ObjectCount(kind="person", count=2)]), None)
    )
    assert json.loads(json.dumps(plain)) == plain
    assert (plain["confidence"], plain["kind"], plain["box"]) == (0.9, "person", [0.25, 0.5, 0.5, 0.75])
    assert (plain["objects"], plain["moments"], plain["at_ms"]) == ({"person": 2}, 1, NOON + 500)
    said = {"start", "end", "thumbnail"}
    assert set(plain) - said == {field.name for field in query_pb2.Hit.DESCRIPTOR.fields}


def test_the_table_has_how_sure_and_what_was_found() -> None:
    table = as_table([Shown(hit(0.93, kind="person"), Path("a.jpg"))])
    assert [str(column.header) for column in table.columns] == ["camera", "when", "sure", "found", "seen", "picture"]
    assert [next(iter(column.cells)) for column in table.columns][2:] == ["93 %", "person", "-", "a.jpg"]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.jpg"
    Image.new("RGB", (320, 180), "blue").save(path)
    return path


def colour(sheet: Path, x: int, y: int) -> str:
    with Image.open(sheet) as drawn:
        red, green, blue = drawn.convert("RGB").getpixel((x, y))  # type: ignore[misc]
    strongest = max((red, "red"), (green, "green"), (blue, "blue"))[1]
    return "grey" if max(red, green, blue) - min(red, green, blue) < 40 else strongest


def test_a_sheet_shows_each_picture_with_its_box(tmp_path: Path, picture: Path) -> None:
    box = query_pb2.Box(left=0.25, top=0.25, right=0.75, bottom=0.75)
    shown = [Shown(hit(0.9, box=box), picture), Shown(hit(0.1, box=box), picture)]
    row = as_row("a person", reply(*(one.hit for one in shown)), shown)
    sheet = tmp_path / "sheet.jpg"
    write_sheet(sheet, [row])
    left, top = 8, 26  # where the first picture begins
    assert colour(sheet, left + 5, top + 5) == "blue"
    assert colour(sheet, left + 81, top + 90) == "red"
    assert colour(sheet, left + 160, top + 90) == "blue"
    assert colour(sheet, left + 328 + 81, top + 90) == "grey"


def test_the_box_of_a_whole_picture_is_not_drawn(picture: Path) -> None:
    (tile,) = as_row("x", reply(hit(0.9)), [Shown(hit(0.9), picture)]).tiles
    assert tile.box is None


def test_a_box_that_is_thinner_than_a_pixel_of_the_sheet_can_be_seen(tmp_path: Path, picture: Path) -> None:
    tiny = [(0.5, 0.5, 0.5005, 0.5005), (0.0, 0.0, 0.001, 0.9), (0.9999, 0.9999, 1.0, 1.0)]
    sheet = tmp_path / "sheet.jpg"
    write_sheet(sheet, [Row("small", [Tile(picture, sides, ("gate",)) for sides in tiny])])
    left, top = 8, 26
    assert colour(sheet, left + 160, top + 90) == "red"
    assert colour(sheet, left + 328 + 1, top + 80) == "red"
    assert colour(sheet, left + 2 * 328 + 318, top + 178) == "red"


def test_no_box_is_drawn_in_a_picture_of_another_time(picture: Path) -> None:
    one = hit(0.9, box=query_pb2.Box(left=0.25, top=0.25, right=0.75, bottom=0.75))
    for of_its_time in (True, False):
        (tile,) = as_row("x", reply(one), [Shown(one, picture, of_its_time=of_its_time)]).tiles
        assert (tile.box is not None) is of_its_time


def test_a_sheet_says_when_nothing_is_sure(picture: Path) -> None:
    assert as_row("an elephant", reply(hit(0.1)), [Shown(hit(0.1), picture)]).title == f"an elephant: {NOTHING_SURE}"


def test_a_sheet_survives_pictures_that_are_missing_damaged_or_many(tmp_path: Path, picture: Path) -> None:
    damaged = tmp_path / "damaged.jpg"
    damaged.write_bytes(picture.read_bytes()[:100])
    tiles = [Tile(path, (0, 0, 0.5, 0.5), ("gate", "now")) for path in (None, damaged, tmp_path / "gone.jpg")]
    sheet = tmp_path / "sheet.jpg"
    write_sheet(sheet, [Row("none", []), Row("some", tiles), Row("many", [Tile(picture, None, ())] * 500)])
    with Image.open(sheet) as drawn:
        assert drawn.format == "JPEG"
        assert drawn.height < 10_000


def test_where_no_sheet_can_be_written_it_is_said_before_anything_is_asked(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"--sheet FILE\.jpg"):
        check_sheet(tmp_path / "sheet.png")
    with pytest.raises(Invalid, match="no folder"):
        check_sheet(tmp_path / "nowhere" / "sheet.jpg")
    (tmp_path / "taken.jpg").mkdir()
    with pytest.raises(Broken):
        write_sheet(tmp_path / "taken.jpg", [])


@asynccontextmanager
async def service(folder: Path, *, sure: bool, moments: Sequence[Moment] = MOMENTS) -> AsyncIterator[Settings]:
    """A query service whose confidence is high for scores above a half, or always low."""
    store = MemoryStore(SPACE)
    await store.upsert(moments)
    weights = {"version": 1, "features": ["score"], "weights": [20.0], "bias": -10.0, "threshold": 0.6}
    judge = Judge(json.dumps(weights) if sure else "", None, None)
    server = await serve_query(searcher(store, folder, judge=judge, kinds=["person"]), QuerySettings(), "127.0.0.1:0")
    yield Settings(cache_dir=folder / "cache", query=QuerySettings(address=server.address))
    await server.stop(0)


async def test_the_command_shows_sure_hits_first_and_the_others_behind_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with service(tmp_path, sure=True) as settings:
        await ask_and_show(settings, TypedSearch("dog"), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[0] == "gate"
    assert lines[2] == LESS_SURE
    assert len(lines) == 2 + 1 + 1 + 3


async def test_the_command_says_when_nothing_matches_with_confidence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with service(tmp_path, sure=False) as settings:
        await ask_and_show(settings, TypedSearch("dog", limit=2), as_json=False)
        assert capsys.readouterr().out.splitlines()[0] == NOTHING_SURE
        await ask_and_show(settings, TypedSearch("dog", min_confidence=0.5), as_json=False)
        assert "lower --min-confidence" in capsys.readouterr().out


async def test_the_command_writes_a_sheet_and_names_it(
    tmp_path: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Thumbnails(FolderObjects(tmp_path / "thumbnails")).put(MOMENTS[1].id, picture.read_bytes())
    sheet = tmp_path / "dogs.jpg"
    async with service(tmp_path, sure=True) as settings:
        await ask_and_show(settings, TypedSearch("dog"), as_json=True, sheet=sheet)
        told = json.loads(capsys.readouterr().out)
        await ask_and_show(settings, TypedSearch("dog"), as_json=False, sheet=sheet)
    assert (told["sheet"], told["no_confident_match"], told["threshold"]) == (str(sheet), False, 0.6)
    assert f"contact sheet: {sheet}" in capsys.readouterr().out
    assert colour(sheet, 100, 100) == "blue"


async def test_hits_are_shown_without_pictures_when_these_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> bytes:
        raise Transient("the bucket is away", todo="try again")

    monkeypatch.setattr(FolderObjects, "get", away)
    async with service(tmp_path, sure=True) as settings:
        await ask_and_show(settings, TypedSearch("dog"), as_json=True)
    told = capsys.readouterr()
    assert [one["thumbnail"] for one in json.loads(told.out)["hits"]][:1] == [None]
    assert told.err == "pictures are left out: the bucket is away: try again\n"


async def test_the_kinds_that_can_be_asked_for_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with service(tmp_path, sure=True) as settings:
        await show_kinds(settings, as_json=False)
        await show_kinds(settings, as_json=True)
    assert capsys.readouterr().out == 'person\n[\n  "person"\n]\n'


async def test_hits_can_be_asked_for_by_time_and_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = [moment("gate", NOON + n * 3000, vector=vector_of("dog")) for n in range(4)]
    async with service(tmp_path, sure=True, moments=run) as settings:
        for question in (TypedSearch("dog"), TypedSearch("dog", all_moments=True, by_time=True)):
            await ask_and_show(settings, question, as_json=True)
            starts = [one["start_ms"] for one in json.loads(capsys.readouterr().out)["hits"]]
            assert starts == ([one.start_ms for one in run] if question.all_moments else [NOON])


def test_the_command_line_refuses_a_wrong_confidence_and_order(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--min-confidence", "sure"], ["--order", "size"]):
        with pytest.raises(SystemExit) as ended:
            main(["search", "dog", *arguments])
        assert ended.value.code == 2
        assert arguments[1] in capsys.readouterr().err


def test_the_demo_asks_for_a_person_and_for_what_is_nowhere() -> None:
    assert any("person" in one.words for one in QUESTIONS)
    assert sum(not one.cameras for one in QUESTIONS) == 1


def test_the_demo_knows_a_wrong_answer() -> None:
    ship, person = Expected("a ship", ()), Expected("a person", ("bikes", "car"))
    assert _wrong(ship, reply(hit(0.2))) == _wrong(ship, reply()) == _wrong(person, reply(hit(0.2, camera="car"))) == []
    assert "found with confidence at gate" in _wrong(ship, reply(hit(0.9)))[0]
    assert "not by bikes or car" in _wrong(person, reply(hit(0.9)))[0]
    assert "nobody" in _wrong(person, reply())[0]


def test_the_demo_waits_until_a_clip_was_seen_from_start_to_end() -> None:
    short, long = hit(0.1), hit(0.1)
    long.end_ms = NOON + 10_000
    assert not _seen_whole(reply())
    assert not _seen_whole(reply(short))
    assert _seen_whole(reply(short, long))
    short.closed = long.closed = False
    assert not _seen_whole(reply(short, long))
