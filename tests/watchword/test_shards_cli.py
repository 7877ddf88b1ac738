"""What `index shards` and `index rebalance` refuse, without servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalog.shards import Shards
from index.marks import Mark
from index.settings import MilvusSettings
from proto.errors import Broken
from tests.watchword.terminal import Cli, refused
from watchword.catalogs import open_catalog
from watchword.settings import Settings
from watchword.sharding import known_shards

NOBODY = "http://127.0.0.1:1"
AT = ("--set", f'milvus.endpoints=["a={NOBODY}"]', "--set", "milvus.timeout_s=1")


@pytest.fixture
def shards(tmp_path: Path, cli: Cli) -> None:
    """Shard a, which is away, and b, which is said to be elsewhere."""
    with open_catalog(Settings(data_dir=tmp_path / "data")) as catalog:
        known = Shards(catalog)
        known.take_over([f"a={NOBODY}"])
        known.add("b", "http://127.0.0.1:2")
        known.begin([1], "b")


@pytest.mark.usefixtures("shards")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("shards", "add", "B!", NOBODY), "'B!' cannot be a shard's name"),
        (("shards", "add", "c", NOBODY), f"{NOBODY} is the address of shard a"),
        (("shards", "address", "b", NOBODY), f"{NOBODY} is the address of shard a"),
        (("shards", "address", "x", NOBODY), "there is no shard 'x'"),
        (("shards", "drain", "x"), "there is no shard 'x'"),
        (("shards", "remove", "x"), "there is no shard 'x'"),
        (("shards", "remove", "a"), "shard a holds moments, or may get some"),
        (("rebalance", "--rate", "0"), "a rate of 0 moves nothing"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(cli: Cli, words: tuple[str, ...], says: str) -> None:
    assert says in refused(cli(*AT, "index", *words))


@pytest.mark.usefixtures("shards")
def test_the_list_says_who_does_not_answer_and_the_plan_what_would_move(cli: Cli) -> None:
    told = cli(*AT, "index", "shards", "list").out.splitlines()
    assert told[0].startswith(f"a  active  {NOBODY}  100% of cameras; Milvus at {NOBODY}")
    assert "0% of cameras" in told[1]
    plan = cli(*AT, "index", "rebalance", "--dry-run").out
    assert plan.splitlines() == [
        "a -> b: 127 of 256 slots",
        "1 slots have former places that are looked through and cleared",
    ]


def test_without_a_milvus_there_is_nothing_to_list(cli: Cli) -> None:
    assert "no stack runs" in refused(cli("index", "shards", "list"))


async def test_a_folder_does_not_take_the_place_of_a_milvus_and_the_map_stays_as_it_was(tmp_path: Path) -> None:
    folder, milvus = f"faiss:{tmp_path / 'index'}", f"embedded={NOBODY}"

    async def starts(name: str, *endpoints: str) -> set[str]:
        with open_catalog(Settings(data_dir=tmp_path / name)) as catalog:
            known = await known_shards(MilvusSettings(endpoints=endpoints, timeout_s=1), catalog)
            return {one.address for one in known.map().serving}

    with pytest.raises(Broken, match="name one kind of index"):
        await starts("a", milvus, f"b={folder}")
    assert await starts("a", folder) == {folder}
    with pytest.raises(Broken, match="some shards are folders and some a Milvus: leave"):
        await starts("a", milvus)
    with pytest.raises(Broken, match="shard shard-1 is a folder"):
        await starts("a", NOBODY)
    assert await starts("a", folder) == {folder}
    assert await starts("b", milvus) == {NOBODY}
    with pytest.raises(Broken, match="shard embedded is a Milvus"):
        await starts("b", folder)
    assert await starts("b", milvus) == {NOBODY}


def test_a_folder_may_be_drained_come_back_and_have_another_place(cli: Cli, tmp_path: Path) -> None:
    at = ("--set", f'milvus.endpoints=["a=faiss:{tmp_path / "a"}"]', "index", "shards")
    place = f"faiss:{tmp_path / 'b'}"
    for words in (("add", "b", place), ("drain", "b"), ("add", "b", place), ("address", "b", place)):
        assert cli(*at, *words).code == 0
    assert cli(*at, "drain", "b").code == 0
    assert cli(*at, "remove", "b").code == 0
    assert "some shards are folders and some a Milvus" in refused(cli(*at, "add", "b", NOBODY))


def test_a_store_is_known_by_its_mark() -> None:
    mark = Mark(7, "a")
    assert mark.collection == "watchword_shard_0000000000000007_61"
    others = ["watchword4_5ace5ace5ace5ace_24h_1", Mark(8, "b").collection, f"{mark.collection}x"]
    assert not mark.check(others, NOBODY)
    assert mark.check([*others, mark.collection], NOBODY)
    with pytest.raises(Broken, match="is shard b, not a"):
        mark.check([mark.collection, Mark(7, "b").collection], NOBODY)
    with pytest.raises(Broken, match="is not shard a: it has not its mark"):
        Mark(7, "a", needed=True).check(others, NOBODY)
    assert not Mark(0, "a", needed=False).check([mark.collection], NOBODY)
