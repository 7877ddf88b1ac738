from __future__ import annotations

from pathlib import Path

from catalog.coverage import Coverage, Gap, Reason
from catalog.store import Catalog
from loadtests.declared import Declared, understated

LOG = "a" * 32


def shed(first: int, last: int) -> Gap:
    return Gap("gate", Reason.SHED, 1000 * first, 1000 * last, last - first + 1, LOG, 0, first, last)


def test_gaps_are_kept_as_they_were_declared_also_when_the_catalog_merges_them(tmp_path: Path) -> None:
    declared = Declared(tmp_path)
    catalog = Catalog(f"sqlite:///{tmp_path / 'catalog.db'}")
    catalog.open()
    coverage = Coverage(catalog)
    coverage.declare([shed(0, 1), shed(5, 6)])
    for _ in range(3):
        coverage.looked([], {(LOG, 0): (100, 1)})
    assert coverage.declared(LOG, 0, 0) == []
    assert declared.gaps() == [shed(0, 1), shed(5, 6)]
    assert understated(declared.told(), 4) == []
    catalog.close()
    declared.close()


def test_a_gap_that_grew_is_kept_again(tmp_path: Path) -> None:
    declared = Declared(tmp_path)
    catalog = Catalog(f"sqlite:///{tmp_path / 'catalog.db'}")
    catalog.open()
    Coverage(catalog).declare([shed(0, 1)])
    Coverage(catalog).declare([shed(0, 3)])
    assert declared.gaps() == [shed(0, 1), shed(0, 3)]
    catalog.close()
    declared.close()


def test_answers_that_tell_of_fewer_frames_are_found() -> None:
    assert understated([shed(0, 1)], 3) == ["answers tell of 2 shed frames, 3 were declared"]
