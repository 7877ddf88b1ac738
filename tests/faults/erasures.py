"""A drill about what must go: erased under load, the topic read again, and absent everywhere."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace

from catalog.life import Life
from catalog.store import Catalog, sqlite_url
from index.settings import MilvusSettings
from life.receipts import RECEIPT, told_of
from life.signing import Signer
from life.verifying import present
from loadtests.fleet import Plan
from loadtests.topics import dead_letters, rewind, until_drained
from proto.life import Stretch
from proto.types import now_ms
from tests.faults.house import Drill, House, Outcome, a_drill
from tests.tools.servers import Server
from watchword.settings import Settings
from watchword.sweeping import asked_stores

SETTLE_S = 2


async def erased(house: House, *, frames: int, cameras: int = 20) -> Outcome:
    """A camera's past is erased while frames come and are stored. Then the whole topic is processed again."""
    async with a_drill(house, "erased", Plan(cameras=cameras)) as drill:
        catalog = Catalog(sqlite_url(drill.folder / "catalog.db"))
        worker = drill.worker(
            static=False,
            WATCHWORD_RETENTION__CHECK_S="0.5",
            WATCHWORD_RETENTION__SETTLE_S=str(SETTLE_S),
        )
        try:
            catalog.open()
            return await _erased(drill, worker, Life(catalog), catalog, frames)
        finally:
            catalog.close()


async def _erased(drill: Drill, worker: Server, life: Life, catalog: Catalog, frames: int) -> Outcome:
    publishing = asyncio.create_task(drill.fleet.publish(frames))
    await worker.start()
    await drill.until_stored(len(drill.fleet.cameras))
    camera = min(drill.fleet.cameras)
    until_ms = max(one.captured_ms for one in drill.fleet.sent if one.camera == camera) + 1
    number = life.erase(Stretch(camera, 0, until_ms), now_ms(), reason="a drill").number
    await publishing
    assert await until_drained(drill.kafka, drill.fleet.sent, 60) == 0, "it did not come to rest"
    await _until_done(life, number)
    await worker.stop()
    await rewind(drill.kafka)
    await worker.start()
    assert await until_drained(drill.kafka, drill.fleet.sent, 60) == 0, "the replay did not end"
    outcome = await drill.outcome()
    left = [one for one in outcome.moments if one.camera == camera and one.start_ms < until_ms]
    wrong = [f"{len(left)} moments of what was erased are there"] if left else []
    settings = Settings(data_dir=drill.folder, milvus=MilvusSettings(endpoints=tuple(drill.milvus)))
    at = asked_stores(settings, settings.milvus, catalog)
    try:
        rules = life.rules()
        found = await present(at, rules.spared(life.erasure(number)), now_ms() - SETTLE_S * 1000)
    finally:
        await at.rows.close()
    wrong += [f"{count} of {store} are left" for store, count in found.items() if count]
    receipt = Signer(life).signed(RECEIPT, told_of(life.erasure(number), rules, life.work(number), [], now_ms()))
    Signer(life).check(RECEIPT, json.loads(json.dumps(receipt)))
    removed = {one["store"]: one["count"] for one in receipt["removed"]}
    outcome.notes |= {f"removed: {store}": count for store, count in removed.items()}
    if not removed["index"]:
        wrong.append("nothing was there to be erased: the drill shows nothing")
    # What was erased is in nobody's books; all the rest must be.
    kept = [one for one in drill.fleet.sent if one.camera != camera or one.captured_ms >= until_ms]
    balance = await drill._balance(kept, outcome.moments)
    assert not await dead_letters(drill.kafka)
    return replace(outcome, balance=balance, wrong=(*outcome.wrong, *wrong))


async def _until_done(life: Life, number: int) -> None:
    deadline = time.monotonic() + 60
    while not await asyncio.to_thread(lambda: life.erasure(number).done_ms):
        assert time.monotonic() < deadline, "the erasure was not carried out within a minute"
        await asyncio.sleep(0.1)
