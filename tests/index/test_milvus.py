"""Milvus that goes away and comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pymilvus import AsyncMilvusClient

from index.milvus import MilvusStore
from index.places import Bucket, bucket_of, collection_name
from index.settings import MilvusSettings
from index.store import Answer, Ask
from proto.errors import Broken, Invalid, Transient
from proto.types import Moment, SpaceInfo
from tests.conftest import CACHE
from tests.contracts.moments import DAY, MINUTE, NOON, SPACE, ids, moment, ranked, unit
from watchword.stack.parts import Part, milvus_part
from watchword.stack.ports import Port

Result = TypeVar("Result")

NOBODY = "http://127.0.0.1:1"
BACK_S = 60.0


class Server:
    """A Milvus of its own, to be killed, stopped and started on the same data."""

    def __init__(self, folder: Path) -> None:
        self._part: Part = milvus_part(Port(), folder / "data", CACHE, print)
        self._log = folder / "log"
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return self._part.address()

    def start(self) -> None:
        assert self._part.plan
        launch = self._part.plan()
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                launch.command(),
                cwd=launch.cwd,
                env=launch.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def send(self, number: signal.Signals) -> None:
        assert self._child
        os.kill(self._child.pid, number)

    def kill(self) -> None:
        if self._child:
            self._child.kill()
            self._child.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def store(server: Server) -> AsyncIterator[MilvusStore]:
    store = MilvusStore(SPACE, MilvusSettings(endpoints=(server.address,), timeout_s=5.0))
    await answered(store.open, BACK_S)
    yield store
    await store.close()


async def answered(call: Callable[[], Awaitable[Result]], within_s: float) -> Result:
    """The call's answer, repeated while its part is away."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            return await call()
        except Transient:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(0.1)


async def stored(store: MilvusStore, moments: Sequence[Moment]) -> None:
    """Store them all, or raise why one was not."""
    for error in (await store.upsert(moments)).values():
        raise error


async def found(store: MilvusStore, ask: Ask, wanted: int) -> Answer:
    """The answer once it has so many hits: a search sees an upsert a little later."""

    async def whole() -> Answer:
        answer = await store.search(ask)
        if len(answer.hits) < wanted:
            raise Transient(f"{len(answer.hits)} of {wanted} hits")
        return answer

    return await answered(whole, BACK_S)


@pytest.mark.stack
async def test_a_store_goes_on_by_itself_when_milvus_was_killed_and_started_again(
    store: MilvusStore, server: Server
) -> None:
    before = [moment("gate", NOON + n * MINUTE, vector=unit(n)) for n in range(20)]
    await store.upsert(before)

    server.kill()
    for call in (lambda: stored(store, before), lambda: store.search(Ask(unit(1), 5)), store.count):
        # "Could not", and not "did not within": it does not wait for the timeout.
        with pytest.raises(Transient, match=f"Milvus at {server.address} could not"):
            await call()

    server.start()
    after = [moment("dock", NOON + n * MINUTE, vector=unit(100 + n)) for n in range(20)]
    await answered(lambda: stored(store, after), BACK_S)
    assert await answered(store.count, BACK_S) == 40
    assert ids((await found(store, Ask(unit(1), 40), 40)).hits) == ranked([*before, *after], unit(1))


@pytest.mark.stack
async def test_a_milvus_that_hangs_is_away_when_the_time_of_the_call_is_over(
    store: MilvusStore, server: Server
) -> None:
    await store.upsert([moment("gate")])
    await found(store, Ask(unit(1), 5), 1)
    server.send(signal.SIGSTOP)
    with pytest.raises(Transient, match=r"did not answer within 0\.3 s"):
        await store.search(Ask(unit(1), 5, timeout_s=0.3))
    server.send(signal.SIGCONT)
    await found(store, Ask(unit(1), 5), 1)


@pytest.mark.stack
async def test_a_milvus_that_hung_during_a_write_is_not_waited_for_until_it_answers_again(server: Server) -> None:
    """It is stopped for a second only: this Milvus does not recover from ten."""
    store = MilvusStore(SPACE, MilvusSettings(endpoints=(server.address,), timeout_s=10.0))
    impatient = MilvusStore(SPACE, MilvusSettings(endpoints=(server.address,), timeout_s=1.0))
    await answered(store.open, BACK_S)
    await stored(store, [moment("gate")])
    await answered(lambda: stored(impatient, [moment("gate")]), BACK_S)
    server.send(signal.SIGSTOP)
    with pytest.raises(Transient, match=r"did not (list collections|store moments) within 1 s"):
        await stored(impatient, [moment("gate", NOON + MINUTE)])
    with pytest.raises(Transient, match="has not answered lately"):
        await stored(impatient, [moment("gate", NOON + MINUTE)])
    server.send(signal.SIGCONT)
    await answered(lambda: stored(impatient, [moment("gate", NOON + MINUTE)]), BACK_S)
    assert await store.count() == 2
    await store.close()
    await impatient.close()


@pytest.mark.stack
async def test_one_dead_endpoint_of_two_leaves_the_others_answers(milvus: str) -> None:
    space = SpaceInfo("2ead" * 4, SPACE.dimension)
    both = MilvusStore(space, MilvusSettings(endpoints=(milvus, NOBODY)))
    await both.open()
    batch = [moment(f"camera-{n}", NOON + n, space=space) for n in range(40)]
    failed = await both.upsert(batch)
    assert all(isinstance(error, Transient) for error in failed.values())
    there = [m for m in batch if m.id not in failed]
    assert 0 < len(there) < 40
    assert await both.between(frozenset({there[0].camera}), NOON, NOON + MINUTE) == [there[0]]
    with pytest.raises(Transient, match=NOBODY):
        await both.between(frozenset(m.camera for m in batch), NOON, NOON + MINUTE)
    answer = await found(both, Ask(unit(1), 40), len(there))
    assert ids(answer.hits) == ranked(there, unit(1))
    assert (answer.shards_missing, answer.shards_searched) == ([NOBODY], 1)
    await both.close()


@pytest.mark.stack
async def test_a_bucket_that_another_process_made_is_searched_too(milvus: str) -> None:
    space = SpaceInfo("ca11" * 4, SPACE.dimension)
    reader, writer = (MilvusStore(space, MilvusSettings(endpoints=(milvus,))) for _ in range(2))
    await reader.open()
    assert (await reader.search(Ask(unit(1), 5))).hits == []
    await writer.upsert([moment("gate", space=space)])
    (hit,) = (await found(reader, Ask(unit(1), 5), 1)).hits
    assert hit.span.camera == "gate"
    await reader.close()
    await writer.close()


@pytest.mark.stack
async def test_a_row_that_milvus_refuses_costs_only_itself(milvus: str) -> None:
    """The collection was made with less room for `resume`, as a later version of a row might."""
    space = SpaceInfo("5ca1" * 4, SPACE.dimension)
    with pytest.MonkeyPatch.context() as narrow:
        narrow.setattr("index.rows.MOST_RESUME_CHARS", 8)
        first = MilvusStore(space, MilvusSettings(endpoints=(milvus,)))
        await stored(first, [moment("gate", space=space)])
        await first.close()
    store = MilvusStore(space, MilvusSettings(endpoints=(milvus,)))
    batch = [moment("gate", NOON + n, closed=False, resume="x" * n, space=space) for n in range(12)]
    failed = await store.upsert(batch)
    assert failed.keys() == {m.id for m in batch if len(m.resume) > 8}
    assert all(isinstance(error, Invalid) and "exceeds max length" in error.message for error in failed.values())
    there = await store.between(frozenset({"gate"}), NOON, NOON + MINUTE)
    assert there == [m for m in batch if m.id not in failed]
    await store.close()


@pytest.fixture
async def lite(tmp_path: Path) -> AsyncIterator[MilvusStore]:
    """A store whose file holds moments of two days, and which has not met them yet."""
    settings = MilvusSettings(endpoints=(str(tmp_path / "moments.db"),))
    writer = MilvusStore(SPACE, settings)
    await stored(writer, [moment("gate", NOON), moment("gate", NOON + DAY)])
    store = MilvusStore(SPACE, settings)
    await store.open()
    yield store
    await store.close()
    await writer.close()


def hanging(monkeypatch: pytest.MonkeyPatch, call: str, bucket: Bucket) -> None:
    """From now on the client's call hangs for this bucket; real servers do so for one collection out of memory."""
    real = getattr(AsyncMilvusClient, call)

    async def hang(milvus: AsyncMilvusClient, name: str, *args: Any, **options: Any) -> Any:
        if name == collection_name(SPACE.id, bucket):
            await asyncio.Event().wait()
        return await real(milvus, name, *args, **options)

    monkeypatch.setattr(AsyncMilvusClient, call, hang)


async def test_a_bucket_that_cannot_be_loaded_holds_up_no_other(
    lite: MilvusStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = bucket_of(NOON, 24)
    hanging(monkeypatch, "get_load_state", first)
    answer = await lite.search(Ask(unit(1), 5, timeout_s=1.0))
    assert [hit.span.start_ms for hit in answer.hits] == [NOON + DAY]
    assert [(part.start_ms, part.end_ms) for part in answer.unsearched] == [(first.start_ms, first.end_ms)]
    (tomorrow,) = await lite.between(frozenset({"gate"}), NOON + DAY, NOON + DAY + MINUTE)
    assert tomorrow.start_ms == NOON + DAY


async def test_many_searches_that_one_bucket_does_not_answer_leave_room_for_the_others(
    lite: MilvusStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await found(lite, Ask(unit(1), 5), 2)
    hanging(monkeypatch, "search", bucket_of(NOON, 24))
    answers = await asyncio.gather(*(lite.search(Ask(unit(1), 5, timeout_s=8.0)) for _ in range(80)))
    assert {tuple(hit.span.start_ms for hit in answer.hits) for answer in answers} == {(NOON + DAY,)}


@pytest.mark.stack
async def test_collections_of_an_earlier_layout_are_told_once_and_not_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = str(tmp_path / "moments.db")
    client = AsyncMilvusClient(file, dedicated=True)
    await client.create_collection(f"watchword2_{SPACE.id}_24h_{NOON // DAY}", dimension=SPACE.dimension)
    await client.close()
    store = MilvusStore(SPACE, MilvusSettings(endpoints=(file,)))
    with caplog.at_level("WARNING"):
        await store.open()
        await stored(store, [moment("gate")])
        assert ids((await found(store, Ask(unit(1), 5), 1)).hits) == [moment("gate").id]
        assert await store.count() == 1
    assert [record.message for record in caplog.records if "drop them" in record.message] == [
        f"1 collections at {file} have the rows of an earlier version and are not read, such as "
        f"watchword2_{SPACE.id}_24h_{NOON // DAY}: drop them"
    ]
    await store.close()


async def test_no_milvus_at_all_is_transient_with_what_to_do() -> None:
    store = MilvusStore(SPACE, MilvusSettings(endpoints=(NOBODY,), timeout_s=3.0))
    with pytest.raises(Transient, match=f"Milvus at {NOBODY} .*is it running"):
        await store.open()
    await store.close()


@pytest.mark.parametrize("endpoint", ["moments.sqlite", "/nowhere/at/all/moments.db"])
async def test_a_file_that_milvus_lite_cannot_use_is_broken(endpoint: str) -> None:
    store = MilvusStore(SPACE, MilvusSettings(endpoints=(endpoint,)))
    with pytest.raises(Broken, match=r"\.db"):
        await store.open()


def test_no_endpoint_is_broken() -> None:
    with pytest.raises(Broken, match="no Milvus is configured"):
        MilvusStore(SPACE, MilvusSettings())


async def test_an_answer_tells_of_what_an_earlier_version_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MilvusStore(SPACE, MilvusSettings(endpoints=["http://127.0.0.1:1"]))
    shard = store._shards.get("http://127.0.0.1:1")
    bucket = Bucket(24, NOON // DAY)

    async def call(_: str, __: object) -> list[str]:
        return [f"watchword2_{SPACE.id}_24h_{bucket.number}"]

    monkeypatch.setattr(shard, "_call", call)
    for start_ms, told in ((NOON - DAY, [f"{SPACE.id} of an earlier version"]), (NOON + 3 * DAY, [])):
        answer = await store.search(Ask(unit(1), 5, start_ms=start_ms))
        assert (answer.hits, answer.spaces) == ([], told)
