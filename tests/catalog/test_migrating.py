from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, select, text

import catalog.store
from catalog.backgrounds import Backgrounds
from catalog.coverage import Coverage, Gap, Looked, Reason
from catalog.leases import Leases
from catalog.migrating import migrate
from catalog.progress import Progress, Progresses
from catalog.store import Catalog
from catalog.tables import CAMERAS, FIRST_ROWS, META, METADATA, REVISION, REVISION_TABLE
from catalog.views import CameraView, Views
from proto.errors import Broken
from tests.catalog.shared import ROOT, opened, run_together, url_of

VERSION_1 = Path(__file__).with_name("version1.sql")
"""A catalog from before there were migrations, with one row in most tables."""
GAP = Gap("gate", Reason.AWAY, 1000, 2000)


def old_catalog(folder: Path) -> Path:
    path = folder / "catalog.db"
    with sqlite3.connect(path) as file:
        file.executescript(VERSION_1.read_text())
    file.close()
    return path


def dump(path: Path) -> list[str]:
    with sqlite3.connect(path) as file:
        lines = list(file.iterdump())
    file.close()
    return lines


def scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "catalog" / "migrations"))
    return ScriptDirectory.from_config(config)


def upgraded_by_alembic(url: str) -> Catalog:
    """A catalog whose tables were all made by migrations."""
    made = Catalog(url)
    with made.writing() as connection:
        connection.execute(text(f"CREATE TABLE {REVISION_TABLE} (version_num VARCHAR(32) PRIMARY KEY)"))
        migrate(connection, "it")
    return made


def test_the_newest_migration_is_the_one_that_the_code_wants() -> None:
    assert scripts().get_heads() == [REVISION]


def test_migrations_lead_to_the_same_tables_as_a_new_catalog_has(nowhere: str) -> None:
    made = upgraded_by_alembic(nowhere)
    with made.reading() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "include_name": lambda name, *_: name != REVISION_TABLE}
        )
        assert compare_metadata(context, METADATA) == []
        rows = [dict(row._mapping) for row in connection.execute(select(META).order_by(META.c.name.desc()))]
        assert rows == FIRST_ROWS
    made.open()
    made.close()


def test_alembic_keeps_its_version_in_a_table_like_the_one_of_a_new_catalog(nowhere: str) -> None:
    opened(nowhere).open()
    upgraded = Catalog(nowhere)
    with upgraded.writing() as connection:
        connection.execute(text(f"UPDATE {REVISION_TABLE} SET version_num = '{REVISION}'"))
        migrate(connection, "it")
    upgraded.close()


def test_a_catalog_from_before_migrations_is_taken_over_with_all_that_is_in_it(tmp_path: Path) -> None:
    old_catalog(tmp_path)
    taken = opened(tmp_path)
    assert Coverage(taken).gaps(None, None, None) == [GAP]
    assert Coverage(taken).marks() == [Looked("gate", 5, "a" * 32, 0, 7)]
    assert Leases(taken).holder("camera/gate", 11) == "me"
    assert Progresses(taken).get("gate") == Progress("gate", "gate.mp4", 3, 4, 1.5, 6, False)
    assert Views(taken).all() == {"gate": CameraView("gate", 2, "turned", 8)}
    assert Backgrounds(taken).get("s") == []
    with taken.reading() as connection:
        assert connection.execute(select(CAMERAS)).all() == []
        assert connection.scalar(select(META.c.value).where(META.c.name == "version")) == 2
    taken.close()
    opened(tmp_path)


def test_a_catalog_from_before_that_lacks_tables_of_later_gets_them(tmp_path: Path) -> None:
    with sqlite3.connect(old_catalog(tmp_path)) as file:
        file.execute("DROP TABLE backgrounds")
        file.execute("DROP TABLE views")
    file.close()
    assert Views(opened(tmp_path)).all() == {}


def test_a_catalog_of_a_later_version_is_refused_and_left_alone(nowhere: str) -> None:
    made = opened(nowhere)
    Coverage(made).declare([GAP])
    with made.writing() as connection:
        connection.execute(text(f"UPDATE {REVISION_TABLE} SET version_num = '0999'"))
    with pytest.raises(Broken, match="version 0999, this Watchword knows version") as caught:
        opened(nowhere)
    assert "use the Watchword that made it" in caught.value.todo
    assert Coverage(made).gaps(None, None, None) == [GAP]


def test_a_later_catalog_without_migrations_is_refused(tmp_path: Path) -> None:
    path = old_catalog(tmp_path)
    with sqlite3.connect(path) as file:
        file.execute("UPDATE meta SET value = 2")
    file.close()
    before = dump(path)
    with pytest.raises(Broken, match="version 2"):
        opened(tmp_path)
    assert dump(path) == before


def test_tables_of_another_program_are_not_touched(nowhere: str) -> None:
    engine = create_engine(nowhere.replace("postgresql:", "postgresql+pg8000:"))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE views (page INTEGER)"))
    engine.dispose()
    with pytest.raises(Broken, match=r"something else \(views\)") as caught:
        opened(nowhere)
    assert "database of its own" in caught.value.todo


def test_a_migration_that_fails_leaves_everything_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = old_catalog(tmp_path)
    before = dump(path)

    def fails(*_: object) -> None:
        raise KeyError("half way")

    monkeypatch.setattr("alembic.operations.Operations.bulk_insert", fails)
    with pytest.raises(KeyError, match="half way"):
        opened(tmp_path)
    assert dump(path) == before
    monkeypatch.undo()
    assert Coverage(opened(tmp_path)).gaps(None, None, None) == [GAP]


_DIES_HALF_WAY = """
import os, signal, sys
from alembic.operations import Operations
from catalog.store import Catalog
import catalog.migrating
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
Operations.bulk_insert = die
from catalog.tables import META
META.insert = die
Catalog(sys.argv[1]).open()
"""


def test_a_process_that_is_killed_while_it_migrates_leaves_nothing_half_done(tmp_path: Path) -> None:
    path = old_catalog(tmp_path)
    before = dump(path)
    died = subprocess.run([sys.executable, "-c", _DIES_HALF_WAY, url_of(tmp_path)], cwd=ROOT, check=False)
    assert died.returncode == -signal.SIGKILL
    assert dump(path) == before
    assert Coverage(opened(tmp_path)).gaps(None, None, None) == [GAP]


def test_a_process_that_is_killed_while_it_makes_the_tables_is_followed_by_another(nowhere: str) -> None:
    died = subprocess.run([sys.executable, "-c", _DIES_HALF_WAY, nowhere], cwd=ROOT, check=False)
    assert died.returncode == -signal.SIGKILL
    Coverage(opened(nowhere)).declare([GAP])


_OPENS = """
import sys
from catalog.coverage import Coverage, Gap, Reason
from catalog.store import Catalog
catalog = Catalog(sys.argv[1])
input()
catalog.open()
Coverage(catalog).declare([Gap(sys.argv[2], Reason.AWAY, 1, 2)])
catalog.close()
"""


def test_processes_that_open_a_new_catalog_at_once_all_use_it(nowhere: str) -> None:
    run_together(_OPENS, [(nowhere, f"cam-{number}") for number in range(3)])
    assert len(Coverage(opened(nowhere)).gaps(None, None, None)) == 3


def test_processes_that_migrate_at_once_lose_nothing(tmp_path: Path) -> None:
    old_catalog(tmp_path)
    run_together(_OPENS, [(url_of(tmp_path), f"cam-{number}") for number in range(3)])
    assert len(Coverage(opened(tmp_path)).gaps(None, None, None)) == 4


def test_opening_again_runs_no_migration(nowhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(nowhere)
    monkeypatch.setattr(catalog.store, "migrate", None)
    monkeypatch.setattr(command, "upgrade", None)
    opened(nowhere)
