from __future__ import annotations

import asyncio
from unittest import mock

import pytest

from catalog.known_life import KnownLife
from catalog.life import Life, Work
from proto.errors import Broken, Invalid, Transient, Unknown
from proto.life import DEFAULT, Erasure, Hold, Rules, Stretch
from tests.catalog.shared import opened

GATE = Stretch("gate", 1000, 2000)


def test_limits_erasures_and_holds_are_read_back_by_everybody(url: str) -> None:
    one, other = Life(opened(url)), Life(opened(url))
    assert other.rules() == Rules(0)
    one.keep(DEFAULT, 30)
    one.keep("gate", 7)
    held = one.hold(Stretch("dock", 0, 500), 5, "case 12")
    erased = one.erase(GATE, 6, moment="ab", reason="asked for")
    assert other.rules() == Rules(4, {DEFAULT: 30.0, "gate": 7.0}, (erased,), (held,))
    assert erased == Erasure(4, GATE, "ab", "asked for", 6) == other.erasure(4)
    assert held == Hold(3, Stretch("dock", 0, 500), "case 12", 5)


def test_a_limit_is_replaced_and_dropped(url: str) -> None:
    life = Life(opened(url))
    life.keep("gate", 7)
    life.keep("gate", 8)
    assert life.rules().days == {"gate": 8.0}
    life.keep_as_others("gate")
    assert life.rules().days == {}
    with pytest.raises(Unknown, match="no limit of its own"):
        life.keep_as_others("gate")
    with pytest.raises(Unknown, match="no limit for all"):
        life.keep_as_others(DEFAULT)


def test_limits_in_bytes_are_read_back_replaced_and_dropped_by_kind(url: str) -> None:
    one, other = Life(opened(url)), Life(opened(url))
    one.keep("gate", 7)
    one.keep_within(DEFAULT, 5 * 10**9)
    one.keep_within("gate", 10**9)
    one.keep_within("gate", 2 * 10**9)
    assert other.rules() == Rules(4, {"gate": 7.0}, bytes={DEFAULT: 5 * 10**9, "gate": 2 * 10**9})
    one.keep_as_others("gate", ["bytes"])
    assert other.rules() == Rules(5, {"gate": 7.0}, bytes={DEFAULT: 5 * 10**9})
    with pytest.raises(Unknown, match="no limit of its own"):
        one.keep_as_others("gate", ["bytes"])
    one.keep_within("gate", 10**9)
    one.keep_as_others("gate")
    assert other.rules() == Rules(7, bytes={DEFAULT: 5 * 10**9})


def test_a_floor_only_rises(url: str) -> None:
    one, other = Life(opened(url)), Life(opened(url))
    one.raise_floors({"gate": 1000, "dock": 500})
    one.raise_floors({"gate": 900, "dock": 600})
    assert other.rules() == Rules(2, floors={"gate": 1000, "dock": 600})


def test_limits_in_bytes_and_floors_of_a_backup_are_taken_over(url: str) -> None:
    life = Life(opened(url))
    life.keep_within("gate", 10**9)
    life.raise_floors({"gate": 1000, "dock": 500})
    life.take_over(Rules(9, bytes={"gate": 2 * 10**9, DEFAULT: 10**10}, floors={"gate": 900, "dock": 600}))
    found = life.rules()
    assert (found.bytes, found.floors) == ({"gate": 10**9, DEFAULT: 10**10}, {"gate": 1000, "dock": 600})


def test_what_cannot_be_is_refused_and_changes_nothing(url: str) -> None:
    life = Life(opened(url))
    for days in (0, -3):
        with pytest.raises(Invalid, match="cannot be kept"):
            life.keep("gate", days)
    for size in (0, -3, 9_999_999):
        with pytest.raises(Invalid, match="cannot be kept within"):
            life.keep_within("gate", size)
    for stretch in (Stretch("gate", 5, 5), Stretch("gate", -1, 5), Stretch("../gate", 1, 5)):
        with pytest.raises(Invalid):
            life.erase(stretch, 1)
        with pytest.raises(Invalid):
            life.hold(stretch, 1, "")
    with pytest.raises(Invalid, match="characters"):
        life.erase(GATE, 1, reason="x" * 1001)
    with pytest.raises(Unknown, match="no erasure 9"):
        life.erasure(9)
    assert life.rules() == Rules(0)


def test_a_hold_that_is_lifted_has_later_erasures_carried_out_anew(url: str) -> None:
    life = Life(opened(url))
    before = life.erase(GATE, 1)
    held = life.hold(Stretch("gate", 0, 9000), 2, "")
    after = life.erase(GATE, 3)
    for one in (before, after):
        life.worked(one.number, "index", 3, 4, done=True)
        life.done(one.number, 5)
    life.lift(held.number, 6)
    assert life.rules().holds == ()
    assert life.erasure(before.number).done_ms == 5
    assert life.erasure(after.number).done_ms == 0
    assert life.work(before.number) == [Work("index", "", 3, 4, 4)]
    assert life.work(after.number) == [Work("index", "", 3, 6, 0)]
    with pytest.raises(Unknown, match="no hold"):
        life.lift(held.number, 7)


def test_what_was_removed_is_summed_by_store_and_place(url: str) -> None:
    life = Life(opened(url))
    one = life.erase(GATE, 1)
    life.worked(one.number, "recordings", 2, 10, place="host-a", done=False)
    life.worked(one.number, "recordings", 3, 20, place="host-a", done=True)
    life.worked(one.number, "recordings", 0, 30, place="host-b", done=True)
    assert life.work(one.number) == [
        Work("recordings", "host-a", 5, 10, 20),
        Work("recordings", "host-b", 0, 30, 30),
    ]


def test_a_trusted_clock_changes_no_rule(url: str) -> None:
    life = Life(opened(url))
    life.trust(77)
    assert life.rules() == Rules(0, trusted_ms=77)
    assert (life.clock_ms() is None) == url.startswith("sqlite")


def test_a_key_is_made_once(url: str) -> None:
    one, other = Life(opened(url)), Life(opened(url))
    assert one.key("receipts", b"a") == other.key("receipts", b"b") == b"a"


class Away:
    """Rules that can be away."""

    def __init__(self) -> None:
        self.found = Rules(1, {DEFAULT: 1.0})
        self.away = True
        self.asked = 0

    def rules(self) -> Rules:
        self.asked += 1
        if self.away:
            raise Transient("the catalog is away")
        return self.found


def known_of(at: Away, now: list[float], every_s: float = 1.0) -> KnownLife:
    return KnownLife(at, every_s, clock=lambda: now[0], now=lambda: 10**12)


async def test_what_is_known_goes_on_while_the_catalog_is_away() -> None:
    at, now = Away(), [0.0]
    known = known_of(at, now)
    with pytest.raises(Transient):
        await known.rules()
    at.away = False
    assert await known.rules() is at.found
    await known.rules()
    assert at.asked == 2
    at.away, now[0] = True, 1.5
    assert await known.rules() is at.found
    at.away, at.found, now[0] = False, Rules(2), 3.0
    assert await known.gone() == Rules(2).gone(10**12)


async def test_a_fault_in_reading_is_as_an_outage_and_costs_a_question_one_reading() -> None:
    at, now = Away(), [0.0]
    at.away = False
    known = known_of(at, now)
    await known.rules()
    now[0] = 5.0
    with mock.patch.object(at, "rules", side_effect=ZeroDivisionError) as rules:
        assert await known.rules() is at.found
    assert rules.call_count == 1


async def test_every_question_gets_rules_that_were_read_after_it_came() -> None:
    at, now = Away(), [0.0]
    at.away = False
    known = known_of(at, now, 0.0)
    await known.rules()
    now[0] = 0.001
    at.found = Rules(2)
    assert set(map(id, await asyncio.gather(known.rules(), known.rules()))) == {id(at.found)}


async def test_a_clock_in_doubt_lets_everything_be_written_that_was_not_erased() -> None:
    at = Away()
    at.away = False
    erasures = (Erasure(1, GATE, "", "", 0),)
    at.found = Rules(1, {DEFAULT: 1.0}, erasures, trusted_ms=10**12 - 2 * 86_400_000)
    known = known_of(at, [0.0])
    assert (await known.unwritable()).floor_ms > 0
    assert known.as_known() == await known.unwritable()
    at.found = Rules(2, {DEFAULT: 1.0}, erasures, trusted_ms=10**12 - 4 * 86_400_000)
    known = known_of(at, [0.0])
    assert await known.unwritable() == at.found.erased == known.as_known()
    assert (await known.gone()).floor_ms > 0


def test_rules_of_a_catalog_that_lost_their_count_are_an_error(url: str) -> None:
    catalog = opened(url)
    with catalog.writing() as connection:
        connection.exec_driver_sql("DELETE FROM meta WHERE name = 'life'")
    with pytest.raises(Broken, match="does not count"):
        Life(catalog).rules()
    with catalog.writing() as connection:
        connection.exec_driver_sql("INSERT INTO meta VALUES ('life', 0)")
