"""Every test that asks for `url` runs on a SQLite file and on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog.objects import FolderObjects, Objects, objects_of
from catalog.tables import META, METADATA
from tests.catalog.shared import OPEN, opened, url_of
from tests.tools.catalogs import begun
from tests.tools.postgres import Postgres
from tests.tools.s3 import S3


@pytest.fixture(scope="session")
def postgres_url(postgres: Postgres) -> str:
    """An empty catalog in PostgreSQL."""
    url = postgres.new_database()
    opened(url).close()
    return url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.stack)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty catalog."""
    if request.param == "sqlite":
        begun(tmp_path / "catalog.db")
        found = url_of(tmp_path)
    else:
        found = request.getfixturevalue("postgres_url")
        _empty(request.getfixturevalue("postgres"), found)
    yield found
    while OPEN:
        OPEN.pop().close()


def _empty(postgres: Postgres, url: str) -> None:
    names = ", ".join(name for name in METADATA.tables if name != META.name)
    postgres.sql(
        f"TRUNCATE {names}; UPDATE meta SET value = 0 WHERE name IN ('cameras', 'life', 'shards')",
        url.rpartition("/")[2],
    )


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.stack)])
def nowhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a store without any tables."""
    yield url_of(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres").new_database()
    while OPEN:
        OPEN.pop().close()


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.stack)])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    """An empty store of objects: a folder, and a bucket of a real S3 server."""
    if request.param == "folder":
        return FolderObjects(tmp_path / "pictures")
    server: S3 = request.getfixturevalue("s3")
    return objects_of(server.settings(server.new_bucket()), tmp_path)
