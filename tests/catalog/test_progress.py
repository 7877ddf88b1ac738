from __future__ import annotations

from dataclasses import replace

from catalog.progress import Progress, Progresses
from tests.catalog.shared import opened

HALF_WAY = Progress("gate", "gate.mp4 0 loop", 1_767_268_800_123, 1_767_268_800_000, 12.345678901234567, 2**40, False)


def test_a_restart_finds_what_was_put_to_the_last_digit(url: str) -> None:
    Progresses(opened(url)).put(HALF_WAY)
    assert Progresses(opened(url)).get("gate") == HALF_WAY
    assert Progresses(opened(url)).get("dock") is None


def test_the_last_one_put_counts(url: str) -> None:
    progresses = Progresses(opened(url))
    progresses.put(HALF_WAY)
    ended = replace(HALF_WAY, source="other.mp4", at_s=20.0, ended=True)
    progresses.put(ended)
    assert progresses.get("gate") == ended


def test_what_is_forgotten_begins_anew(url: str) -> None:
    progresses = Progresses(opened(url))
    progresses.put(HALF_WAY)
    progresses.put(replace(HALF_WAY, camera="dock"))
    progresses.forget("gate")
    assert progresses.get("gate") is None
    assert progresses.get("dock") is not None
