from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog.coverage import Coverage, Gap, Reason
from catalog.store import Catalog, sqlite_url
from loadtests.declared import Declared, understated

LOG = "a" * 32


def shed(first: int, last: int) -> Gap:
    return Gap("gate", Reason.SHED, 1000 * first, 1000 * last, last - first + 1, LOG, 0, first, last)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.stack)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty store."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "catalog.db")
    made: str = request.getfixturevalue("postgres").new_database()
    return made


@pytest.fixture
def declared(url: str) -> Iterator[Declared]:
    kept = Declared(Catalog(url))
    yield kept
    kept.close()


@pytest.fixture
def coverage(declared: Declared, url: str) -> Iterator[Coverage]:
    """As another process has it."""
    catalog = Catalog(url)
    catalog.open()
    yield Coverage(catalog)
    catalog.close()


def test_gaps_are_kept_as_they_were_declared_also_when_the_catalog_merges_them(
    declared: Declared, coverage: Coverage
) -> None:
    coverage.declare([shed(0, 1), shed(5, 6)])
    for _ in range(3):
        coverage.looked([], {(LOG, 0): (100, 1)})
    assert coverage.declared(LOG, 0, 0) == []
    assert declared.gaps() == [shed(0, 1), shed(5, 6)]
    assert understated(declared.told(), 4) == []


def test_a_gap_that_grew_is_kept_again(declared: Declared, coverage: Coverage) -> None:
    coverage.declare([shed(0, 1)])
    coverage.declare([shed(0, 3)])
    assert declared.gaps() == [shed(0, 1), shed(0, 3)]


def test_a_catalog_keeps_each_gap_once_however_often_it_is_opened(
    declared: Declared, coverage: Coverage, url: str
) -> None:
    again = Declared(Catalog(url))
    coverage.declare([shed(0, 1)])
    assert again.gaps() == declared.gaps() == [shed(0, 1)]
    again.close()


def test_answers_that_tell_of_fewer_frames_are_found() -> None:
    assert understated([shed(0, 1)], 3) == ["answers tell of 2 shed frames, 3 were declared"]
