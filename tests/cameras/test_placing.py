"""Which process watches which camera: the promises of the policy, on any fleet."""

from __future__ import annotations

from collections import Counter
from statistics import median_low

from hypothesis import given, settings
from hypothesis import strategies as st

from cameras.placing import TOO_MUCH, WORTH, Wanted, costs_of, placed, reaches

SITES = ("", "", "north", "south")
COSTS = st.sampled_from([0.0, 0.01, 0.02, 0.05, 0.3])


@st.composite
def fleets(draw: st.DrawFn) -> tuple[dict[str, Wanted], dict[str, str], dict[str, str]]:
    """Cameras, processes and who holds what now, which may be wrong in every way."""
    sites = {f"p{n}": draw(st.sampled_from(SITES)) for n in range(draw(st.integers(0, 4)))}
    names = [f"c{n:02}" for n in range(draw(st.integers(0, 12)))]
    cameras = {name: Wanted(draw(st.sampled_from(SITES)), draw(COSTS)) for name in names}
    holders = st.sampled_from([None, "gone", *sites])
    held = {name: holder for name in names if (holder := draw(holders)) is not None}
    return cameras, sites, held


def loads_of(cameras: dict[str, Wanted], sites: dict[str, str], places: dict[str, str]) -> Counter[str]:
    costs = costs_of(cameras)
    found = Counter(dict.fromkeys(sites, 0))
    for name, process in places.items():
        found[process] += costs[name]
    return found


@settings(max_examples=60, deadline=None)
@given(fleets())
def test_every_camera_that_can_be_reached_has_one_place_and_it_stays_there(
    fleet: tuple[dict[str, Wanted], dict[str, str], dict[str, str]],
) -> None:
    cameras, sites, held = fleet
    places = placed(cameras, sites, held)
    assert places.keys() == {
        name for name, one in cameras.items() if any(reaches(site, one.site) for site in sites.values())
    }
    assert all(reaches(sites[process], cameras[name].site) for name, process in places.items())
    assert placed(cameras, sites, places) == places
    assert placed(dict(reversed(cameras.items())), dict(reversed(sites.items())), held) == places


@settings(max_examples=60, deadline=None)
@given(fleets())
def test_nobody_has_much_more_than_another_that_could_take_some_of_it(
    fleet: tuple[dict[str, Wanted], dict[str, str], dict[str, str]],
) -> None:
    cameras, sites, held = fleet
    places, costs = placed(cameras, sites, held), costs_of(cameras)
    loads = loads_of(cameras, sites, places)
    worth = WORTH * median_low(costs.values()) if costs else 0
    for name, giver in places.items():
        for taker, site in sites.items():
            if reaches(site, cameras[name].site) and costs[name] >= worth:
                gap, mean = loads[giver] - loads[taker], (loads[giver] + loads[taker]) / 2
                assert gap <= max(TOO_MUCH * mean, 2 * costs[name])


@settings(max_examples=40, deadline=None)
@given(st.lists(COSTS, max_size=16), st.integers(1, 4))
def test_cameras_move_to_who_joins_and_to_no_other(costs: list[float], count: int) -> None:
    cameras = {f"c{n:02}": Wanted("", cost) for n, cost in enumerate(costs)}
    few = {f"p{n}": "" for n in range(count)}
    before = placed(cameras, few, {})
    joined = placed(cameras, {**few, "joins": ""}, before)
    assert {joined[name] for name in cameras if joined[name] != before[name]} <= {"joins"}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 20), st.integers(2, 5))
def test_who_leaves_gives_its_own_cameras_and_no_other_moves(count: int, processes: int) -> None:
    cameras = {f"c{n:02}": Wanted() for n in range(count)}
    sites = {f"p{n}": "" for n in range(processes)}
    before = placed(cameras, sites, {})
    del sites["p0"]
    after = placed(cameras, sites, before)
    assert {before[name] for name in cameras if after[name] != before[name]} <= {"p0"}
    assert max(Counter(after.values()).values(), default=0) <= -(-count // len(sites)) + 1


def test_two_processes_share_forty_cameras_and_a_third_one_gets_its_part_by_the_fewest_moves() -> None:
    cameras = {f"c{n:02}": Wanted() for n in range(40)}
    two = placed(cameras, {"one": "", "two": ""}, {})
    assert Counter(two.values()) == {"one": 20, "two": 20}
    three = placed(cameras, {"one": "", "two": "", "three": ""}, two)
    assert sorted(Counter(three.values()).values()) == [13, 13, 14]
    assert sum(three[name] != two[name] for name in cameras) == 13


def test_a_camera_that_costs_much_counts_as_much() -> None:
    cameras = {"wide": Wanted(cost=0.4)} | {f"c{n}": Wanted(cost=0.1) for n in range(4)}
    places = placed(cameras, {"one": "", "two": ""}, {})
    assert [name for name in cameras if places[name] == places["wide"]] == ["wide"]


def test_costs_that_vary_move_nothing() -> None:
    names = [f"c{n:02}" for n in range(20)]
    held = {name: "one" if n % 2 else "two" for n, name in enumerate(names)}
    for cheap in ("one", "two"):
        cameras = {name: Wanted(cost=0.09 if held[name] == cheap else 0.11) for name in names}
        assert placed(cameras, {"one": "", "two": ""}, held) == held


def test_a_camera_of_a_site_is_watched_from_there_alone() -> None:
    cameras = {"gate": Wanted("north"), "dock": Wanted("south"), "yard": Wanted()}
    assert placed(cameras, {"n": "north", "any": ""}, {"gate": "any", "yard": "any"}) == {"gate": "n", "yard": "any"}
