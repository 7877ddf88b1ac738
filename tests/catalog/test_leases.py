from __future__ import annotations

import pytest

from catalog.leases import Leases
from tests.catalog.shared import opened, run_together

NOW = 1_767_268_800_000


@pytest.fixture
def leases(url: str) -> Leases:
    return Leases(opened(url))


def test_a_lease_is_one_holders_until_it_runs_out(leases: Leases) -> None:
    assert leases.take("gate", "a", NOW, 1000)
    assert not leases.take("gate", "b", NOW + 999, 1000)
    assert leases.holder("gate", NOW + 999) == "a"
    assert leases.holder("gate", NOW + 1000) is None
    assert leases.take("gate", "b", NOW + 1000, 1000)
    assert not leases.take("gate", "a", NOW + 1001, 1000)


def test_renewing_makes_it_run_from_now(leases: Leases) -> None:
    assert leases.take("gate", "a", NOW, 1000)
    assert leases.take("gate", "a", NOW + 900, 1000)
    assert not leases.take("gate", "b", NOW + 1899, 1000)


def test_leases_of_other_names_are_apart(leases: Leases) -> None:
    assert leases.take("gate", "a", NOW, 1000)
    assert leases.take("dock", "b", NOW, 1000)
    assert (leases.holder("gate", NOW), leases.holder("dock", NOW)) == ("a", "b")


def test_a_lease_that_was_given_back_is_free_at_once(leases: Leases) -> None:
    leases.take("gate", "a", NOW, 60_000)
    leases.give_back("gate", "a")
    assert leases.holder("gate", NOW) is None
    assert leases.take("gate", "b", NOW, 60_000)


def test_nobody_gives_back_anothers_lease(leases: Leases) -> None:
    leases.take("gate", "a", NOW, 60_000)
    leases.give_back("gate", "b")
    assert leases.holder("gate", NOW) == "a"


def test_many_are_taken_at_once_but_those_of_another_holder(leases: Leases) -> None:
    names = [f"cam-{number}" for number in range(1200)]
    assert leases.take("cam-7", "b", NOW, 60_000)
    assert leases.take("cam-8", "b", NOW - 60_000, 60_000)
    assert leases.take_all(names, "a", NOW, 1000) == set(names) - {"cam-7"}
    assert leases.take_all([*names, "cam-9"], "a", NOW + 500, 1000) == set(names) - {"cam-7"}
    assert leases.holder("cam-9", NOW + 1400) == "a"
    assert leases.take_all([], "a", NOW, 1000) == set()


def test_a_lease_taken_before_the_clock_was_set_back_does_not_run_for_hours(leases: Leases) -> None:
    leases.take("gate", "a", NOW + 3_600_000, 10_000)
    assert leases.take("gate", "b", NOW, 10_000)


def test_a_clock_that_is_a_little_behind_takes_no_running_lease(leases: Leases) -> None:
    leases.take("gate", "a", NOW, 10_000)
    assert not leases.take("gate", "b", NOW - 2_000, 10_000)


_TAKES = f"""
import sys
from catalog.leases import Leases
from catalog.store import Catalog
catalog = Catalog(sys.argv[1], 60)
input()
catalog.open()
taken = [n for n in range(100) if Leases(catalog).take(f"cam-{{n}}", sys.argv[2], {NOW}, 60_000)]
print(*taken)
"""


def test_of_several_processes_exactly_one_gets_each_lease(url: str) -> None:
    said = run_together(_TAKES, [(url, holder) for holder in "abcd"])
    taken = [int(number) for line in said for number in line.split()]
    assert sorted(taken) == list(range(100))
