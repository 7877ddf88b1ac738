"""Facts go from one catalog into another, whatever database each is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from catalog.backgrounds import Background, Backgrounds
from catalog.cameras import CameraRegistry
from catalog.coverage import Coverage, Gap, Looked, Reason
from catalog.facts import TABLES, Fact, Facts
from catalog.life import Life
from catalog.store import Catalog
from proto.errors import Invalid
from proto.life import Stretch
from proto.types import Camera
from tests.catalog.shared import opened

LOG = "106a" * 8
NOON = 1_767_268_800_000


def filled(catalog: Catalog) -> None:
    CameraRegistry(catalog).add(Camera("gate", "rtsp://gate", groups=("doors",)))
    coverage = Coverage(catalog)
    coverage.declare([Gap("gate", Reason.AWAY, 1000, 2000), Gap("gate", Reason.SHED, 5, 9, 3, LOG, 0, 1, 4)])
    coverage.looked([Looked("gate", NOON, LOG, 0, 7), Looked("yard", NOON - 1, LOG, 1, 9)], {(LOG, 0): (8, NOON)})
    rows = np.eye(4, dtype=np.float32)
    for camera in ("gate", "yard"):
        Backgrounds(catalog).put("5ace" * 4, Background(camera, 3, (rows[:2], rows[2:]), ("0" * 32, "1" * 32)))


def told(catalog: Catalog) -> dict[str, list[Fact]]:
    found: dict[str, list[Fact]] = {}
    Facts(catalog).read(lambda name, facts: found.setdefault(name, []).extend(facts))
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


@pytest.mark.parametrize("there", [True, False], ids=["into", "out of"])
def test_they_arrive_as_they_were_and_once(url: str, tmp_path: Path, there: bool) -> None:
    (tmp_path / "other").mkdir()
    here = opened(tmp_path / "other")
    source, target = (here, opened(url)) if there else (opened(url), here)
    filled(source)
    facts = told(source)
    assert list(facts) == [name for name in TABLES if name in facts]
    assert {"backgrounds", "declared_gaps", "partition_marks", "marks", "cameras"} == set(facts)
    into = Facts(target)
    for _ in range(2):
        for name in facts:
            if name not in {"marks", "cameras"}:
                into.merge(name, facts[name])
        into.merge_marks(facts["marks"], NOON)
        CameraRegistry(target).add_stored({one["name"]: one["settings"] for one in facts["cameras"]})
    after = told(target)
    assert {name: after[name] for name in facts if name not in {"declared_gaps", "cameras"}} == {
        name: facts[name] for name in facts if name not in {"declared_gaps", "cameras"}
    }
    assert CameraRegistry(target).get("gate") == CameraRegistry(source).get("gate")
    lost = [gap for gap in Coverage(target).gaps(None, None, None) if gap.reason is Reason.LOST]
    assert [(gap.camera, gap.start_ms, gap.end_ms) for gap in lost] == [("yard", NOON - 1, NOON)]
    (back, _) = Backgrounds(target).get("5ace" * 4)
    assert (back.samples[1] == np.eye(4)[2:]).all()


def test_rules_arrive_in_their_order_after_those_that_are_there(url: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    theirs, ours = Life(opened(tmp_path / "other")), Life(opened(url))
    stretch = Stretch("gate", 0, 1000)
    theirs.erase(stretch, 1, reason="first")
    theirs.hold(stretch, 2, "kept")
    theirs.erase(stretch, 3, reason="second")
    theirs.keep("gate", 5)
    assert ours.take_over(theirs.rules()) == [1, 2, 3]
    assert ours.rules().erased == theirs.rules().erased
    assert ours.take_over(theirs.rules()) == []
    mine = ours.erase(stretch, 4, reason="ours")
    assert mine.number > 3
    theirs.hold(stretch, 5, "later")
    (number,) = ours.take_over(theirs.rules())
    assert number > mine.number
    assert not ours.rules().spared(mine).unless[1:]
    ours.lift(number, 6)
    assert ours.take_over(theirs.rules()) == []


def test_facts_of_another_form_are_refused(tmp_path: Path) -> None:
    facts = Facts(opened(tmp_path))
    with pytest.raises(Invalid, match="facts of 'tokens'"):
        facts.merge("tokens", [])
    with pytest.raises(Invalid, match="other fields"):
        facts.merge("views", [{"camera": "gate"}])
