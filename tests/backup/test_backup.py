from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.manifest import NAME, packed, unpacked
from backup.packing import ids_packed
from backup.place import Place
from catalog.backgrounds import Background, Backgrounds
from catalog.coverage import Gap, Looked, Reason
from catalog.objects import FolderObjects
from proto.errors import Broken, Invalid, Mismatch, Overloaded
from proto.life import Stretch
from proto.shards import FixedMap, ShardEntry, ShardMap
from proto.types import Camera, Moment, SpaceInfo
from tests.backup.rig import Dying, Installation, Killed
from tests.contracts.moments import DAY, HOUR, LOG, MINUTE, NOON, SPACE, moment, region

OTHER = SpaceInfo("07e2" * 4, 8)
Make = Callable[..., Installation]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Installation] = []

    def new(shards: int = 1, hours: int = 24, name: str = "house") -> Installation:
        made.append(Installation(tmp_path / f"installation-{len(made)}", shards, hours, name))
        return made[-1]

    yield new
    for one in made:
        one.close()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(FolderObjects(tmp_path / "backup"), "the backup")


def some(space: SpaceInfo = SPACE, count: int = 7, camera: str = "gate") -> list[Moment]:
    return [
        moment(camera, NOON - DAY * (number % 3) - number * MINUTE, space=space, regions=_regions(number, space))
        for number in range(count)
    ]


def _regions(number: int, space: SpaceInfo) -> list:  # type: ignore[type-arg]
    at_ms = NOON - DAY * (number % 3) - number * MINUTE
    return [region(number, at_ms=at_ms, kind="cat", score=0.5)] if number % 2 and space == SPACE else []


def same(one: Moment, other: Moment) -> bool:
    vectors = [
        (one.vector, other.vector),
        *((a.vector, b.vector) for a, b in zip(one.regions, other.regions, strict=True)),
    ]
    plain = [replace(m, vector=None, regions=()) for m in (one, other)]  # type: ignore[arg-type]
    return all((a == b).all() for a, b in vectors) and repr(plain[0]) == repr(plain[1])


async def test_everything_comes_back_in_another_layout(make: Make, place: Place) -> None:
    house, other = make(2), make(3, hours=6)
    moments = [*some(), *some(camera="yard", count=4)]
    await house.add(moments, SPACE)
    await house.add(some(OTHER), OTHER, pictures=False)
    house.cameras.add(Camera("gate", "rtsp://gate", groups=("doors",)))
    house.life.keep("gate", 90)
    house.coverage.declare([Gap("gate", Reason.AWAY, NOON - HOUR, NOON - MINUTE)])
    await house.back_up(place)
    given = await other.restore(place)
    assert given.moments == len(moments) + 7
    assert all(same(one, other.moments(SPACE.id)[one.id]) for one in moments)
    assert other.moments(OTHER.id).keys() == {one.id for one in some(OTHER)}
    assert other.pictures.get(moments[0].id) == moments[0].id.encode()
    assert other.pictures.of_instant(moments[1].id, moments[1].start_ms) == f"{moments[1].id} then".encode()
    assert other.cameras.get("gate").groups == ("doors",)
    assert other.life.rules().days == {"gate": 90}
    assert [gap.reason for gap in other.coverage.gaps(None, None, None)] == [Reason.AWAY]
    found = await other.verify(place)
    assert found.good
    assert (found.moments, found.missing, found.right) == (len(moments) + 7, 0, found.questions)


async def test_cameras_that_move_to_a_new_shard_meanwhile_are_copied_whole(make: Make, place: Place) -> None:
    house = make(2)
    moments = some(count=60)
    await house.add(moments, SPACE)
    here, there = sorted(house.held.values(), key=len, reverse=True)
    assert not there

    def moved(*_: object) -> None:
        if not there:
            there.update(here)
            here.clear()

    manifest, _ = await house.back_up(place, say=moved)
    assert manifest.count("moments") == len(moments)


async def test_a_second_run_writes_only_what_changed(make: Make, place: Place) -> None:
    house = make()
    await house.add(some(), SPACE)
    first, _ = await house.back_up(place, each=20)
    again, unchanged = await house.back_up(place, each=20)
    assert unchanged.written == 0
    assert again.files == first.files
    await house.add([moment("gate", NOON + MINUTE)], SPACE)
    last, writing = await house.back_up(place, each=20)
    assert last.count("moments") == 8
    assert sorted(one.kind for one in set(last.files) - set(first.files)) == ["moments", "pictures"]
    assert 0 < writing.written < last.bytes / 2


async def test_a_day_that_is_final_is_not_even_read_until_its_count_changes(make: Make, place: Place) -> None:
    house = make()
    old = [moment("gate", NOON - 9 * DAY + number) for number in range(2)]
    await house.add(old, SPACE)
    await house.back_up(place)
    house.held["http://0"][SPACE.id][next(iter(house.held["http://0"][SPACE.id]))].pop(old[0].id)
    manifest, _ = await house.back_up(place)
    assert manifest.count("moments") == 1
    assert sum(manifest.left.values()) == 1


async def test_what_is_erased_or_too_old_leaves_the_backup_at_the_next_run(make: Make, place: Place) -> None:
    house = make()
    moments = some()
    await house.add(moments, SPACE)
    await house.back_up(place)
    house.life.erase(Stretch("gate", moments[0].start_ms, moments[0].end_ms + 1), NOON)
    house.life.keep("gate", 2)
    second, _ = await house.back_up(place)
    assert second.left_out == {"erased": 1, "expired": 2}
    assert second.count("moments") == 4
    assert sum(second.left.values()) == 3
    assert second.erasures == 1
    names = {one.name for folder in ("moments", "pictures") for one in FolderObjects(_folder(place)).list(folder)}
    assert names == {one.name for one in second.files if one.kind != "facts"}
    assert second.count("pictures") == 8


def _folder(place: Place) -> Path:
    return place._objects._folder  # type: ignore[attr-defined, no-any-return]


async def test_what_was_erased_leaves_an_old_day_even_if_as_much_came_meanwhile(make: Make, place: Place) -> None:
    house = make()
    old, late = moment("gate", NOON - 9 * DAY), moment("gate", NOON - 9 * DAY + HOUR)
    await house.add([old], SPACE)
    await house.back_up(place)
    house.life.erase(Stretch("gate", old.start_ms, old.end_ms + 1), NOON)
    for buckets in house.held["http://0"].values():
        for moments in buckets.values():
            moments.pop(old.id)
    await house.add([late], SPACE)
    await house.back_up(place)
    (name,) = [one.name for one in (await place.manifest()).files if one.kind == "moments"]
    assert ids_packed((_folder(place) / name).read_bytes(), name) == {late.id}


async def test_a_sample_of_what_was_erased_is_in_no_backup(make: Make, place: Place) -> None:
    house = make()
    old, kept = moment("gate", NOON - DAY), moment("yard", NOON - DAY)
    samples = Backgrounds(house.catalog)
    for one in (old, kept):
        samples.put(SPACE.id, Background(one.camera, 0, (one.vector[None, :],), (one.id,)))
    house.life.erase(Stretch("gate", old.start_ms, old.end_ms + 1), NOON)
    manifest, _ = await house.back_up(place)
    assert manifest.count("facts", "backgrounds") == 1


async def test_a_clock_in_doubt_takes_nothing_for_too_old(make: Make, place: Place) -> None:
    house = make()
    await house.add(some(), SPACE)
    house.life.keep("gate", 30)
    house.now_ms = NOON + 365 * DAY
    manifest, _ = await house.back_up(place)
    assert manifest.count("moments") == 7


async def test_what_came_after_a_cameras_mark_is_left_out(make: Make, place: Place) -> None:
    house, other = make(), make()
    before, after = moment("gate", NOON, first_offset=10), moment("gate", NOON + MINUTE, first_offset=20)
    elsewhere = moment("yard", NOON, first_offset=30, partition=1)
    await house.add([before, after, elsewhere], SPACE)
    house.cameras.add(Camera("gate", "rtsp://gate"))
    house.coverage.looked([Looked("gate", NOON + 2000, LOG, 0, 12)], {})
    manifest, _ = await house.back_up(place)
    assert manifest.left_out == {"newer": 1}
    other.now_ms = NOON + HOUR
    given = await other.restore(place)
    assert other.moments(SPACE.id).keys() == {before.id, elsewhere.id}
    assert given.lost == 1
    assert other.coverage.looked_until() == {"gate": NOON + 2000}
    (gap,) = other.coverage.gaps(None, None, None)
    assert (gap.camera, gap.reason, gap.start_ms, gap.end_ms) == ("gate", Reason.LOST, NOON + 2000, NOON + HOUR)
    assert (await other.restore(place)).lost == 0


async def test_an_index_that_was_lost_says_what_is_missing_since_the_backup(make: Make, place: Place) -> None:
    house = make()
    await house.add(some(), SPACE)
    house.coverage.looked([Looked("gate", NOON, LOG, 0, 12)], {})
    await house.back_up(place)
    house.coverage.looked([Looked("gate", NOON + HOUR, LOG, 0, 90)], {})
    house.held["http://0"].clear()
    assert (await house.restore(place)).lost == 1
    (gap,) = house.coverage.gaps(None, None, None)
    assert (gap.reason, gap.start_ms, gap.end_ms) == (Reason.LOST, NOON, NOON + HOUR)


async def test_a_moment_that_was_open_comes_back_closed_and_one_that_is_fuller_stays(make: Make, place: Place) -> None:
    house, other = make(), make()
    opened = moment("gate", NOON, closed=False, resume="how to go on")
    shorter = moment("yard", NOON, frames=3, closed=False)
    await house.add([opened, shorter], SPACE)
    await house.back_up(place)
    fuller = replace(shorter, frames=9, last_offset=shorter.last_offset + 6)
    await other.add([fuller], SPACE)
    given = await other.restore(place)
    assert (given.moments, given.there) == (1, 1)
    back = other.moments(SPACE.id)
    assert (back[opened.id].closed, back[opened.id].resume) == (True, "")
    assert same(back[shorter.id], fuller)
    again = await other.restore(place)
    assert (again.moments, again.there, again.pictures) == (0, 2, 0)
    assert (await other.verify(place)).good


async def test_what_was_erased_on_either_side_stays_away_with_its_pictures(make: Make, place: Place) -> None:
    house, other = make(), make(2)
    moments = [moment("gate", NOON - number * MINUTE) for number in range(4)]
    await house.add(moments, SPACE)
    held = other.life.hold(Stretch("yard", 0, NOON), NOON, "a quarrel")
    there = other.life.erase(Stretch("gate", moments[1].start_ms, moments[1].end_ms + 1), NOON)
    await house.back_up(place)
    house.life.erase(Stretch("gate", moments[2].start_ms, moments[2].end_ms + 1), NOON, reason="a request")
    await house.back_up(place)
    given = await other.restore(place)
    assert given.rules == 1
    assert given.left_out == {"erased": 1}
    assert other.moments(SPACE.id).keys() == {moments[0].id, moments[3].id} == other.pictured()
    rules = other.life.rules()
    assert [one.number for one in rules.erasures] == [there.number, there.number + 1]
    assert [one.reason for one in rules.erasures] == ["", "a request"]
    assert [one.number for one in rules.holds] == [held.number]
    assert (await other.restore(place)).rules == 0


async def test_limits_here_count_and_cameras_here_stay(make: Make, place: Place) -> None:
    house, other = make(), make()
    await house.add([moment("gate", NOON - 5 * DAY), moment("gate", NOON)], SPACE)
    house.life.keep("gate", 90)
    house.cameras.add(Camera("gate", "rtsp://house"))
    house.cameras.add(Camera("yard", "rtsp://house"))
    await house.back_up(place)
    other.life.keep("gate", 2)
    other.cameras.add(Camera("gate", "rtsp://other"))
    given = await other.restore(place, disable=True)
    assert given.left_out == {"expired": 1}
    assert other.life.rules().days == {"gate": 2}
    assert (other.cameras.get("gate").url, other.cameras.get("gate").enabled) == ("rtsp://other", True)
    assert not other.cameras.get("yard").enabled


async def test_tokens_and_keys_are_in_no_file(make: Make, place: Place) -> None:
    house = make()
    house.life.key("receipts", b"very secret key")
    await house.add(some(), SPACE)
    manifest, _ = await house.back_up(place)
    tables = {one.of for one in manifest.files if one.kind == "facts"}
    assert not tables & {"tokens", "keys", "leases", "statuses"}
    assert not any(b"secret" in path.read_bytes() for path in _folder(place).rglob("*") if path.is_file())


async def test_two_runs_to_one_place_do_not_meet(make: Make, place: Place) -> None:
    house = make()
    await house.add(some(), SPACE)
    from catalog.leases import Leases
    from proto.types import now_ms

    leases = Leases(house.catalog)
    await house.back_up(place)
    import hashlib

    name = f"backup/{hashlib.sha256(place.shown.encode()).hexdigest()[:16]}"
    assert leases.take(name, "another", now_ms(), 60_000)
    with pytest.raises(Overloaded, match="another process"):
        await house.back_up(place)


async def test_the_backup_of_another_installation_is_not_written_over(make: Make, place: Place) -> None:
    house, other = make(), make(name="elsewhere")
    await house.back_up(place)
    with pytest.raises(Invalid, match="another installation"):
        await other.back_up(place)


async def test_a_shard_that_is_away_ends_the_run_and_the_backup_stays(make: Make, place: Place) -> None:
    house = make(2)
    await house.add(some(), SPACE)
    before, _ = await house.back_up(place)
    from index.removal import Removal
    from tests.index.shards import AWAY, MemoryShard

    def opened(entry: ShardEntry, _: ShardMap, /, *, space: str) -> MemoryShard:
        return MemoryShard(SpaceInfo(space, 2), house.held[entry.name], away=entry.name == "http://1")

    house.rows = Removal(FixedMap({name: name for name in house.held}), opened)
    with pytest.raises(type(AWAY)):
        await house.back_up(place)
    assert await place.manifest() == before


def _edited(place: Place, change: Callable[[dict], None]) -> None:  # type: ignore[type-arg]
    path = _folder(place) / NAME
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))


async def test_what_is_no_backup_or_was_changed_is_refused_in_one_line(make: Make, place: Place) -> None:
    house = make()
    with pytest.raises(Invalid, match="there is no backup in the backup"):
        await house.restore(place)
    await house.add(some(), SPACE)
    manifest, _ = await house.back_up(place)
    with pytest.raises(Mismatch, match="no moments of the space"):
        await house.restore(place, spaces=["ab" * 8])
    whole = shutil.copytree(_folder(place), _folder(place).with_name("whole"))
    changes: list[tuple[type[Exception], str, Callable[[dict], None]]] = [  # type: ignore[type-arg]
        (Broken, "was changed", lambda told: told["files"].pop()),
        (Invalid, "knows 1", lambda told: told.update(version=2)),
        (Broken, "was changed", lambda told: told["files"][0].update(of="../..")),
        (Invalid, "something else", lambda told: told.update(form="a cake")),
    ]
    for kind, words, change in changes:
        _edited(place, change)
        with pytest.raises(kind, match=words):
            await house.restore(place)
        shutil.copy(whole / NAME, _folder(place) / NAME)
    victim = _folder(place) / next(one.name for one in manifest.files if one.kind == "moments")
    data = victim.read_bytes()
    victim.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(Broken, match="not as it was written"):
        await house.restore(place)
    victim.unlink()
    with pytest.raises(Broken, match="is missing"):
        await house.restore(place)
    await house.back_up(place)
    assert (await house.restore(place)).there == 7


async def test_moments_of_another_space_under_a_name_of_ours_are_refused(make: Make, place: Place) -> None:
    house = make()
    await house.add(some(), SPACE)
    manifest, _ = await house.back_up(place)
    forged = replace(
        manifest,
        spaces={OTHER.id: 16},
        files=tuple(replace(one, of=OTHER.id) if one.kind == "moments" else one for one in manifest.files),
    )
    for one, other in zip(manifest.files, forged.files, strict=True):
        if one != other:
            (_folder(place) / one.name).rename(_folder(place) / other.name)
    (_folder(place) / NAME).write_bytes(packed(forged))
    assert unpacked(packed(forged), "x") == forged
    with pytest.raises(Mismatch, match="another space"):
        await house.restore(place)


async def test_a_full_run_repairs_what_was_damaged(make: Make, place: Place) -> None:
    house = make()
    await house.add(some(), SPACE)
    manifest, _ = await house.back_up(place)
    victim = _folder(place) / next(one.name for one in manifest.files if one.kind == "pictures")
    victim.write_bytes(b"")
    await house.back_up(place, whole=True)
    assert victim.read_bytes()
    assert (await house.restore(place)).there == 7


@settings(max_examples=6)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["gate", "yard"]), st.integers(0, 200)), min_size=1, max_size=14, unique=True
    ),
    erased=st.lists(st.tuples(st.sampled_from(["gate", "yard"]), st.integers(0, 200), st.booleans()), max_size=3),
    days=st.sampled_from([None, 3.0]),
    dies=st.lists(st.integers(0, 30), max_size=3),
    layout=st.tuples(st.integers(1, 3), st.sampled_from([1, 24, 168])),
)
async def test_restored_is_the_flat_list_without_what_is_gone_whatever_is_killed_when(
    rows: set[tuple[str, int]],
    erased: list[tuple[str, int, bool]],
    days: float | None,
    dies: list[int],
    layout: tuple[int, int],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("history")
    house, other = Installation(folder / "house", 2), Installation(folder / "other", *layout)
    flat = {one.id: one for one in (moment(camera, NOON - 40 * MINUTE * number) for camera, number in sorted(rows))}
    objects = FolderObjects(folder / "backup")
    try:
        await house.add(list(flat.values()), SPACE)
        if days:
            house.life.keep("gate", days)
        for camera, number, here in erased:
            begins = NOON - 40 * MINUTE * number
            (other if here else house).life.erase(Stretch(camera, begins, begins + 2 * HOUR), NOON)
        for after in dies:
            with pytest.raises(Killed):
                await house.back_up(Place(Dying(objects, after % 7), "x"))
        await house.back_up(Place(objects, "x"))
        for after in dies:
            try:
                await other.restore(Place(Dying(objects, after), "x"))
            except Killed:
                continue
        await other.restore(Place(objects, "x"))
        gone = [one.life.rules().gone(NOON) for one in (house, other)]
        left = {
            name
            for name, one in flat.items()
            if not any(rule.covers(one.camera, one.start_ms, one.end_ms) for rule in gone)
        }
        assert other.moments(SPACE.id).keys() == left == other.pictured()
        assert all(same(other.moments(SPACE.id)[name], flat[name]) for name in left)
        assert (await other.verify(Place(objects, "x"))).good
    finally:
        house.close()
        other.close()
