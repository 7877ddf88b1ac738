"""The index in a folder: filters, codes, and random histories against one list."""

from __future__ import annotations

import asyncio
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.filters import Filter, asked, overlapping
from index.memory import bare, nearest
from index.opening import new_removal, new_store
from index.places import Bucket
from index.scan import bucket as scan_bucket
from index.scan import building, rows
from index.scan.bases import load_base
from index.scan.bucket import BucketRows
from index.scan.masks import Columns, Names, passing
from index.scan.store import ScanStore, folder_of
from index.scan.view import Base, Told, View
from index.settings import MilvusSettings
from index.sharded import ShardedStore
from index.store import Ask
from proto.errors import Broken
from proto.life import Erased, Gone, Stretch
from proto.types import Moment, SpaceInfo
from tests.contracts.moments import DAY, HOUR, NOON, SPACE, ids, moment, near, of, ranked, region, unit, until
from tests.index.scan_writer import BUCKET, folder_in
from tests.index.test_sharded_properties import NAMES, WINDOWS, Window, moments

OLD = NOON + 40 * DAY


def settings_of(folder: Path) -> MilvusSettings:
    return MilvusSettings(endpoints=(f"faiss:{folder}",), timeout_s=120.0)


def questions_in(folder: Path, space: SpaceInfo = SPACE) -> Path:
    file = folder / "questions.npy"
    np.save(file, np.stack([unit(5000 + n, space.dimension) for n in range(30)]))
    return file


def build(folder: Path) -> Base | None:
    return building.build(folder_in(folder), SPACE, questions_in(folder), 60.0, OLD)


def at(folder: Path) -> BucketRows:
    return BucketRows(folder_in(folder), SPACE, 60.0)


# ---- what passes ----


@pytest.mark.parametrize("seed", range(3))
def test_masks_pass_what_filters_pass(seed: int) -> None:
    numbers = random.Random(seed)
    times = [NOON + n * HOUR for n in range(-9, 10)]

    def stretch() -> Stretch:
        begin = numbers.choice(times)
        return Stretch(numbers.choice([*NAMES, "nobody"]), begin, begin + numbers.choice([1, HOUR, DAY]))

    def gone() -> Gone:
        own = ((numbers.choice(times), frozenset(numbers.sample(NAMES, 2))),) if numbers.random() < 0.5 else ()
        erased = tuple(Erased(stretch(), (stretch(),) * numbers.randrange(2)) for _ in range(numbers.randrange(4)))
        return Gone(numbers.choice([0, *times]), own, erased, tuple(stretch() for _ in range(numbers.randrange(3))))

    kinds = [(), ("car",), ("car", "dog")]
    spans = []
    for _ in range(60):
        told = tuple((kind, 1) for kind in numbers.choice(kinds))
        begin = numbers.choice(times) + numbers.randrange(-1, 2)
        spans.append(bare(moment(numbers.choice(NAMES), begin, length_ms=numbers.choice([0, HOUR]), objects=told)))
    names = Names(NAMES, [frozenset(some) for some in kinds])
    columns = Columns(
        np.array([NAMES.index(one.camera) for one in spans]),
        np.array([one.start_ms for one in spans]),
        np.array([one.end_ms for one in spans]),
        np.array([kinds.index(tuple(kind for kind, _ in one.objects)) for one in spans]),
    )
    for _ in range(60):
        which = Filter(
            frozenset(numbers.sample(NAMES, numbers.randrange(1, 5))) if numbers.random() < 0.5 else None,
            ends_from=numbers.choice([None, *times]),
            starts_from=numbers.choice([None, *times]),
            starts_before=numbers.choice([None, *times]),
            objects=frozenset(numbers.choice([(), ("car",), ("dog",), ("cat",)])),
            without=gone(),
            only=gone() if numbers.random() < 0.3 else None,
        )
        assert passing(columns, names, which).tolist() == [which.passes(one) for one in spans]


def test_codes_are_due_when_a_bucket_is_over_or_has_grown_by_half() -> None:
    def view(coded: int, later: int, lost: int = 0) -> View:
        table = np.zeros((max(coded, later), 8), np.int64)
        counts = np.arange(coded) >= lost
        return View(base=Base(1, Told.of(table[:coded]), None, 0, OLD), counts=counts, tail=Told.of(table[:later]))

    day = Bucket(24, NOON // DAY)
    growing, over = day.end_ms, day.end_ms + HOUR
    due = {
        (0, 1_999, 0, over): False,
        (0, 2_000, 0, over): True,
        (0, 2_000, 0, growing): False,
        (0, 32_768, 0, growing): True,
        (100_000, 49_999, 0, growing): False,
        (100_000, 50_000, 0, growing): True,
        (100_000, 9_999, 0, over): False,
        (100_000, 10_000, 0, over): True,
        # What was removed leaves the codes within an hour of them; what was replaced may be many.
        (100_000, 0, 1, OLD + HOUR): False,
        (100_000, 0, 1, OLD + HOUR + 1): True,
        (100_000, 0, 10_001, over): True,
    }
    for (coded, later, lost, now_ms), expected in due.items():
        assert building.is_due(day, view(coded, later, lost), now_ms) is expected, (coded, later, lost)


@pytest.mark.parametrize("endpoint", ["faiss:", "faiss:here", "faiss:./x"])
def test_a_folder_is_named_by_its_whole_path(endpoint: str) -> None:
    with pytest.raises(Broken, match="names no folder"):
        folder_of(endpoint)


def test_folders_and_a_milvus_are_not_mixed() -> None:
    with pytest.raises(Broken, match="one kind"):
        new_store(SPACE, MilvusSettings(endpoints=("faiss:/a", "http://b:1")))


# ---- codes ----


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


async def filled(folder: Path, count: int = 3000) -> tuple[ShardedStore, list[Moment]]:
    store = new_store(SPACE, settings_of(folder))
    await store.open()
    some = [moment(f"cam-{n % 9}", NOON + n, vector=near(unit(n % 40), n, by=0.8)) for n in range(count)]
    assert await store.upsert(some) == {}
    return store, some


@pytest.mark.long
async def test_codes_find_the_nearest_behind_every_filter_also_after_changes(folder: Path) -> None:
    store, some = await filled(folder)
    base = build(folder)
    assert base is not None
    assert base.codes is not None
    again = [moment(one.camera, one.start_ms, vector=unit(n), frames=4) for n, one in enumerate(some[::50])]
    new = [moment("cam-new", NOON + n) for n in range(20)]
    await store.upsert([*again, *new])
    removal = new_removal(settings_of(folder))
    (holding,) = (await removal.holdings()).known
    await removal.remove(holding, [one.id for one in some[1::50]])
    left = {one.id: one for one in [*some, *again, *new] if one.id not in {gone.id for gone in some[1::50]}}
    right = 0
    filters = [{}, {"cameras": of("cam-1")}, {"cameras": of("cam-new")}, {"end_ms": NOON + 1500}]
    for seed in range(25):
        for some_filter in filters:
            ask = Ask(unit(seed + 900), 10, **some_filter)  # type: ignore[arg-type]
            hits = (await store.search(ask)).hits
            exact = nearest([one for one in left.values() if asked(ask).passes(one)], ask)
            right += len(set(ids(hits)) & set(ids(exact)))
            assert len(hits) == 10
            for hit in hits:
                assert hit.score == pytest.approx(float(left[hit.span.id].vector @ ask.vector), abs=1e-5)
                assert hit.span.frames == left[hit.span.id].frames
    assert right >= 0.98 * 25 * 10 * len(filters)
    await removal.close()
    await store.close()


@pytest.mark.long
async def test_codes_that_find_too_little_are_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, some = await filled(folder, 600)
    monkeypatch.setattr(building, "_DEPTHS", (10,))
    base = build(folder)
    assert base is not None
    assert base.codes is None
    view = at(folder).view()
    assert (len(view.base.told), len(view.tail), view.base.codes) == (600, 0, None)
    assert not building.is_due(BUCKET, view, OLD)
    assert ids((await store.search(Ask(unit(1), 10))).hits) == ranked(some, unit(1))[:10]
    await store.close()


@pytest.mark.long
@pytest.mark.parametrize("harm", ["codes.faiss", "rows.npy", "about.json", "all"])
async def test_codes_that_are_damaged_cost_time_and_no_answer(folder: Path, harm: str) -> None:
    store, some = await filled(folder, 600)
    base = build(folder)
    assert base is not None
    (made,) = folder_in(folder).glob("codes-*")
    if harm == "all":
        shutil.rmtree(made)
    else:
        (made / harm).write_bytes((made / harm).read_bytes()[:30])
    await store.close()
    store = new_store(SPACE, settings_of(folder))
    assert ids((await store.search(Ask(unit(1), 10))).hits) == ranked(some, unit(1))[:10]
    assert build(folder) is not None
    assert len(load_base(folder_in(folder), at(folder).view().codes).told) == 600
    await store.close()


@pytest.mark.long
async def test_a_search_in_a_bucket_that_is_over_has_codes_made_and_checked_with_everyday_questions(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("index.scan.shard.LEAST_ROWS", 500)

    async def questions() -> np.ndarray:
        return np.stack([unit(n) for n in range(20)])

    store = ScanStore(SPACE, settings_of(folder), questions)
    await store.open()
    await until((folder / SPACE.id / "questions.npy").is_file)
    await store.upsert([moment("gate", NOON + n) for n in range(600)])
    await store.search(Ask(unit(1), 3))
    made = folder_in(folder)
    await until(lambda: any(path.name != "codes-new" for path in made.glob("codes-*")), within_s=120)
    assert len((await store.search(Ask(unit(1), 3))).hits) == 3
    await store.close()


@pytest.mark.long
async def test_what_is_removed_is_overwritten_and_leaves_the_codes_with_the_next(folder: Path) -> None:
    store, _ = await filled(folder, 600)
    secret = moment("cam-1", NOON + 70_000, vector=unit(77), regions=[region(78, at_ms=NOON + 70_000)])
    await store.upsert([secret])
    await store.upsert([secret])  # the vector of the first telling is in a slot that is free now
    build(folder)
    file = folder_in(folder) / rows.VECTORS
    assert file.read_bytes().count(secret.vector.tobytes()) == 2
    removal = new_removal(settings_of(folder))
    (holding,) = (await removal.holdings()).known
    await removal.remove(holding, [secret.id, f"{secret.id}.1"])
    for vector in (secret.vector, secret.regions[0].vector):
        assert vector.tobytes() not in file.read_bytes()
    assert building.is_due(BUCKET, at(folder).view(), OLD + DAY)
    build(folder)
    assert len(at(folder).view().base.told) == 600
    await removal.close()
    await store.close()


# ---- histories ----


@dataclass
class History:
    batches: list[list[Moment]]
    steps: list[str] = field(default_factory=list)


HISTORIES = st.builds(
    History,
    st.lists(st.lists(moments(), max_size=25), min_size=1, max_size=4),
    st.lists(st.sampled_from(["none", "build", "exact", "remove", "reopen"]), min_size=4, max_size=4),
)


@pytest.mark.long
@settings(max_examples=25, deadline=None)
@given(HISTORIES, st.lists(WINDOWS, min_size=1, max_size=4))
def test_a_folder_answers_as_one_list(
    tmp_path_factory: pytest.TempPathFactory, history: History, windows: list[Window]
) -> None:
    """Whatever is stored again, removed, coded, or opened anew, and though slots are used again at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "LEAST_FREE", 0)
        patch.setattr(scan_bucket, "_FEW", 0)
        patch.setattr(building, "LEAST_CODED", 16)
        patch.setattr(building, "_DEPTHS", (8,))
        asyncio.run(compare(tmp_path_factory.mktemp("history"), history, windows, patch))


async def compare(folder: Path, history: History, windows: list[Window], patch: pytest.MonkeyPatch) -> None:
    told: dict[str, Moment] = {}
    store = new_store(SPACE, settings_of(folder))
    exact = True
    for batch, step in zip(history.batches, history.steps, strict=False):
        assert await store.upsert(batch) == {}
        told.update({one.id: one for one in batch})
        match step:
            case "build" | "exact":
                patch.setattr(building, "RECALL", 0.0 if step == "build" else 2.0)
                patch.setattr(building, "_SURE", 2.0)
                for one in (folder / SPACE.id).glob("*h_*"):
                    building.build(one, SPACE, questions_in(folder), 60.0, OLD)
                exact = exact and step == "exact"
            case "remove":
                await removed(folder, told)
            case "reopen":
                await store.close()
                store = new_store(SPACE, settings_of(folder))
    for window in windows:
        await asked_both(store, list(told.values()), window, exact=exact)
    found = await store.fetch(list(told))
    assert [(m.id, m.frames, m.objects, len(m.regions)) for m in found] == [
        (m.id, m.frames, m.objects, len(m.regions)) for m in told.values()
    ]
    await store.close()
    shutil.rmtree(folder)


async def removed(folder: Path, told: dict[str, Moment]) -> None:
    removal = new_removal(settings_of(folder))
    which = Filter(of("gate", "dock"), only=Gone(before_ms=NOON))
    for holding in (await removal.holdings()).known:
        await removal.remove(holding, [row.id for row in await removal.rows(holding, which, 10_000)])
    for one in list(told.values()):
        if which.passes(one):
            del told[one.id]
    await removal.close()


async def asked_both(store: ShardedStore, told: list[Moment], window: Window, *, exact: bool) -> None:
    where = (window.cameras, window.start_ms, window.end_ms)
    erased = Erased(Stretch("yard", window.start_ms, window.start_ms + HOUR))
    gone = Gone(window.start_ms - DAY, ((NOON, of("hall")),), (erased,))
    ask = Ask(unit(1), window.limit, *where, objects=window.objects, with_vectors=True, without=gone)
    passed = [one for one in told if window.cameras and asked(ask).passes(one)]
    hits = (await store.search(ask)).hits
    expected = nearest(passed, ask)
    assert len(hits) == len(expected)
    by_id = {one.id: one for one in passed}
    for hit in hits:
        assert hit.span == bare(by_id[hit.span.id])
        assert hit.vector is not None
        assert hit.score == pytest.approx(float(hit.vector @ ask.vector), abs=1e-5)
    if exact:
        assert [(hit.span.id, hit.at_ms, hit.box) for hit in hits] == [(h.span.id, h.at_ms, h.box) for h in expected]
    between = await store.between(*where)
    assert [m.id for m in between] == [
        m.id
        for m in sorted(told, key=lambda m: (m.camera, m.start_ms, m.id))
        if window.cameras and overlapping(*where).passes(m)
    ]
    assert await store.count(*where) == len(between)


# ---- kills and several processes ----
