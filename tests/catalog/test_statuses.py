from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from catalog.known import KnownStatuses
from catalog.statuses import CameraStatus, Statuses
from catalog.store import Catalog
from proto.errors import Transient
from tests.catalog.shared import opened

GATE = CameraStatus(
    "gate",
    "failing",
    1_767_268_800_123,
    1_767_268_800_456,
    'no "camera" answers: é',
    2.0,
    advice=("do this", "and that"),
)


def test_what_was_told_is_found_by_the_next_process_and_replaces_what_was_told_before(url: str) -> None:
    statuses = Statuses(opened(url))
    statuses.put_statuses([])
    statuses.put_statuses([GATE, replace(GATE, camera="dock", state="live")])
    statuses.put_statuses([replace(GATE, camera="dock", state="silent", lost=2**33)])
    dock = replace(GATE, camera="dock", state="silent", lost=2**33)
    assert Statuses(opened(url)).all() == {"gate": GATE, "dock": dock}


def test_thousands_are_told_at_once(url: str) -> None:
    many = [replace(GATE, camera=f"cam-{number:05}") for number in range(12_000)]
    statuses = Statuses(opened(url))
    statuses.put_statuses(many)
    assert len(statuses.all()) == len(many)


class Away(Statuses):
    trouble: Transient | None = None
    asked = 0

    def all(self) -> dict[str, CameraStatus]:
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble
        return super().all()


def test_what_is_known_is_shown_while_the_catalog_is_away(url: str) -> None:
    now_s = 0.0
    catalog: Catalog = opened(url)
    store = Away(catalog)
    known = KnownStatuses(store, clock=lambda: now_s)
    store.trouble = Transient("away")
    assert known.all() == {}
    store.trouble = None
    store.put_statuses([GATE])
    now_s = 2.0
    assert known.all() == known.all() == {"gate": GATE}
    assert store.asked == 2
    store.trouble, now_s = Transient("away"), 4.0
    assert known.all() == {"gate": GATE}


class Slow:
    """Answers when it is let."""

    def __init__(self) -> None:
        self.asked = 0
        self.let = threading.Event()

    def all(self) -> dict[str, CameraStatus]:
        self.asked += 1
        assert self.let.wait(10)
        raise Transient("away")


def test_those_who_wait_for_the_first_answer_do_not_ask_one_after_the_other() -> None:
    store = Slow()
    known = KnownStatuses(store, clock=lambda: 0.0)  # type: ignore[arg-type]
    with ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(known.all) for _ in range(8)]
        store.let.set()
        assert [call.result(10) for call in calls] == [{}] * 8
    assert store.asked == 1
