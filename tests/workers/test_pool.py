from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import pytest

from proto.errors import Broken, Late, Mismatch, Overloaded, Transient
from tests.workers.fakes import until
from workers.pool import Budget, Pool, Worker, choose, resolve

AWAY, FULL, STRANGE = Transient("away"), Overloaded("full"), Mismatch("another space")


@asynccontextmanager
async def workers(count: int) -> AsyncIterator[list[Worker]]:
    found = [Worker(f"127.0.0.1:{number + 1}") for number in range(count)]
    yield found
    for worker in found:
        await worker.close()


@asynccontextmanager
async def following(address: str, names: dict[str, list[str]]) -> AsyncIterator[Pool]:
    async def look_up(host: str, port: int) -> Collection[str]:
        if host not in names:
            raise OSError("no such name")
        return [f"{number}:{port}" for number in names[host]]

    pool = Pool(address, look_up, grace_s=1, every_s=0)
    yield pool
    await pool.close()


async def known(pool: Pool) -> set[str]:
    return {worker.address for worker in await pool.workers()}


async def test_the_least_busy_worker_is_chosen() -> None:
    async with workers(3) as (first, second, third):
        first.items, second.items, third.items = 5, 2, 3

        assert choose([first, second, third], 0) is second


async def test_equally_busy_workers_are_chosen_by_chance() -> None:
    async with workers(3) as found:
        assert {id(choose(found, 0)) for _ in range(200)} == {id(worker) for worker in found}


async def test_a_worker_that_rests_is_chosen_last_and_the_soonest_first() -> None:
    async with workers(3) as (first, second, third):
        for _ in range(3):
            first.failed(AWAY, 0)
        second.failed(AWAY, 0)
        third.items = 99

        assert choose([first, second, third], 0.01) is third
        assert choose([first, second], 0.01) is second


async def test_a_worker_of_another_space_is_the_last_resort_until_it_has_rested() -> None:
    async with workers(2) as (ours, other):
        other.failed(STRANGE, 0)
        ours.failed(AWAY, 4)
        ours.failed(AWAY, 4)

        assert choose([ours, other], 4.01) is ours
        assert choose([ours, other], 100) in (ours, other)


async def test_nobody_to_choose_from_is_nobody() -> None:
    assert choose([], 0) is None


async def test_each_failure_lets_a_worker_rest_longer_and_an_answer_ends_it() -> None:
    async with workers(1) as (worker,):
        rests = []
        for _ in range(10):
            worker.failed(AWAY, 0)
            rests.append(worker.rests_until)
        worker.answered()

        assert rests == sorted(rests)
        assert rests[0] == 0.1
        assert rests[-1] == 5.0
        assert not worker.rests(0)


@pytest.mark.parametrize("error", [AWAY, STRANGE, Late("late")])
async def test_a_doubtful_worker_is_tried_by_one_caller_in_a_while(error: Transient | Mismatch | Late) -> None:
    async with workers(1) as (worker,):
        worker.failed(error, 0)
        later = worker.rests_until
        assert not worker.rests(later)
        worker.chosen(later, 1)

        assert worker.rests(later)


async def test_a_full_worker_rests_for_a_moment_only() -> None:
    async with workers(1) as (worker,):
        for _ in range(10):
            worker.failed(FULL, 0)

        assert worker.rests_until == 0.05


def test_a_budget_allows_every_repeat_while_most_calls_succeed() -> None:
    budget = Budget(most=2, a_second=0, a_call=0.2)
    for _ in range(20):
        for _ in range(5):
            budget.earn()
        assert budget.take(0)


def test_a_budget_ends_repeats_when_most_calls_fail() -> None:
    budget = Budget(most=10, a_second=0, a_call=0.2)
    taken = 0
    for _ in range(100):
        budget.earn()
        taken += budget.take(0)

    assert 20 <= taken <= 30


def test_a_budget_grows_with_time_up_to_its_most() -> None:
    budget = Budget(most=3, a_second=1, a_call=0)
    assert [budget.take(0) for _ in range(4)] == [True, True, True, False]
    assert [budget.take(1) for _ in range(2)] == [True, False]
    assert [budget.take(1000) for _ in range(4)] == [True, True, True, False]


async def test_an_address_names_several_workers() -> None:
    async with following("127.0.0.1:8701, a:2,[::1]:3", {"a": ["10.0.0.1", "10.0.0.2"]}) as pool:
        assert await known(pool) == {"127.0.0.1:8701", "10.0.0.1:2", "10.0.0.2:2", "[::1]:3"}


@pytest.mark.parametrize("address", ["", "host", "host:", ":8701", "host:port", "host:0", "host:70000", "a:1,,b:2"])
def test_what_is_no_address_is_broken(address: str) -> None:
    with pytest.raises(Broken, match="HOST:PORT"):
        Pool(address, resolve, grace_s=1)


async def test_workers_come_and_go_with_their_name() -> None:
    names = {"a": ["10.0.0.1", "10.0.0.2"]}
    async with following("a:2", names) as pool:
        first = {worker.address: worker for worker in await pool.workers()}
        names["a"] = ["10.0.0.2", "10.0.0.3"]
        await known(pool)
        await until(lambda: set(pool.known) == {"10.0.0.2:2", "10.0.0.3:2"})

        (stayed,) = [worker for worker in await pool.workers() if worker.address == "10.0.0.2:2"]
        assert stayed is first["10.0.0.2:2"]


async def test_a_name_that_leads_nowhere_is_transient() -> None:
    async with following("a:2", {}) as pool:
        with pytest.raises(Transient, match="known as a"):
            await pool.workers()


async def test_a_name_that_is_lost_keeps_its_workers_and_does_not_harm_the_others() -> None:
    names = {"a": ["10.0.0.1"]}
    async with following("a:2,b:2", names) as pool:
        assert await known(pool) == {"10.0.0.1:2"}
        del names["a"]
        names["b"] = ["10.0.0.9"]
        await known(pool)
        await until(lambda: set(pool.known) == {"10.0.0.1:2", "10.0.0.9:2"})


async def test_a_real_name_is_looked_up_in_one_family() -> None:
    assert await resolve("localhost", 80) in (["127.0.0.1:80"], ["[::1]:80"])


async def test_callers_at_once_look_a_name_up_once() -> None:
    asked = 0

    async def look_up(host: str, port: int) -> Collection[str]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return [f"10.0.0.1:{port}"]

    pool = Pool("a:2", look_up, grace_s=1)
    await asyncio.gather(*(pool.workers() for _ in range(10)))
    await pool.close()

    assert asked == 1
