from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from catalog.progress import Progress, Progresses
from tests.catalog.shared import opened

HALF_WAY = Progress("gate", "gate.mp4 0 loop", 1_767_268_800_123, 1_767_268_800_000, 12.345678901234567, 2**40, False)


def test_a_restart_finds_what_was_put_to_the_last_digit(tmp_path: Path) -> None:
    Progresses(opened(tmp_path)).put(HALF_WAY)
    assert Progresses(opened(tmp_path)).get("gate") == HALF_WAY
    assert Progresses(opened(tmp_path)).get("dock") is None


def test_the_last_one_put_counts(tmp_path: Path) -> None:
    progresses = Progresses(opened(tmp_path))
    progresses.put(HALF_WAY)
    ended = replace(HALF_WAY, source="other.mp4", at_s=20.0, ended=True)
    progresses.put(ended)
    assert progresses.get("gate") == ended


def test_what_is_forgotten_begins_anew(tmp_path: Path) -> None:
    progresses = Progresses(opened(tmp_path))
    progresses.put(HALF_WAY)
    progresses.put(replace(HALF_WAY, camera="dock"))
    progresses.forget("gate")
    assert progresses.get("gate") is None
    assert progresses.get("dock") is not None
