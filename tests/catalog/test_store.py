from __future__ import annotations

import signal
import sqlite3
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from catalog.coverage import Coverage, Gap, Reason
from catalog.store import Catalog
from proto.errors import Broken, Transient
from tests.catalog.shared import ROOT, opened, url_of

GAP = Gap("gate", Reason.AWAY, 1000, 2000)


def test_opening_twice_keeps_what_is_there(tmp_path: Path) -> None:
    first = opened(tmp_path / "new" / "folder")
    Coverage(first).declare([GAP])
    first.close()
    assert Coverage(opened(tmp_path / "new" / "folder")).gaps(None, None, None) == [GAP]


def test_a_declared_gap_is_in_the_file_before_declare_returns(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    with catalog.reading() as connection:
        # Only with FULL is every commit synced in WAL mode: NORMAL loses the last ones when the power goes.
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    Coverage(catalog).declare([GAP])
    with sqlite3.connect(tmp_path / "catalog.db") as other:
        assert other.execute("SELECT count(*) FROM declared_gaps").fetchone() == (1,)
    other.close()


def test_a_file_that_is_no_database_is_told_as_damaged(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").write_text("these are my notes, " * 500)
    with pytest.raises(Broken, match="is damaged") as caught:
        opened(tmp_path)
    assert "move the file away" in caught.value.todo


def test_a_database_that_was_damaged_while_open_is_told(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    coverage = Coverage(catalog)
    coverage.declare([Gap("gate", Reason.AWAY, at, at) for at in range(0, 40_000_000, 100_000)])
    catalog.close()
    pages = bytearray((tmp_path / "catalog.db").read_bytes())
    pages[4096:] = b"\xff" * (len(pages) - 4096)
    (tmp_path / "catalog.db").write_bytes(bytes(pages))
    with pytest.raises(Broken, match="is damaged"):
        coverage.gaps(None, None, None)


def test_a_gap_for_a_reason_that_nobody_knows_is_not_passed_over(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    Coverage(catalog).declare([GAP])
    with catalog.writing() as connection:
        connection.execute(text("UPDATE declared_gaps SET reason = 'asleep'"))
    with pytest.raises(Broken, match="'asleep'"):
        Coverage(catalog).gaps(None, None, None)


def test_a_full_disk_is_told_and_nothing_of_the_change_is_kept(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    many = [Gap(f"cam-{number}", Reason.AWAY, 1000, 2000) for number in range(5000)]

    def fill(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA max_page_count = 1")

    with catalog.reading() as connection:
        fill(connection.connection.dbapi_connection)  # type: ignore[arg-type]
    with pytest.raises(Broken, match="cannot write") as caught:
        Coverage(catalog).declare(many)
    assert caught.value.todo == "the disk is full: free some space"
    assert Coverage(catalog).gaps(None, None, None) == []


def test_a_file_that_may_not_be_written_is_told_and_can_still_be_read(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    Coverage(catalog).declare([GAP])
    with catalog.reading() as connection:
        connection.exec_driver_sql("PRAGMA query_only = 1")
    with pytest.raises(Broken, match=r"cannot write .*catalog\.db") as caught:
        Coverage(catalog).declare([GAP])
    assert caught.value.todo
    assert Coverage(catalog).gaps(None, None, None) == [GAP]


def test_a_folder_in_the_place_of_the_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").mkdir()
    with pytest.raises(Broken, match="Is a directory") as caught:
        opened(tmp_path)
    assert caught.value.todo


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(Broken, match="cannot write"):
        opened(tmp_path / "data")


def test_a_writer_that_holds_on_makes_others_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catalog.sqlite._BUSY_S", 0.05)
    catalog, other = opened(tmp_path), opened(tmp_path)
    with other.writing():
        with pytest.raises(Transient, match="busy"):
            Coverage(catalog).declare([GAP])
        assert Coverage(catalog).gaps(None, None, None) == []
    Coverage(catalog).declare([GAP])
    assert Coverage(catalog).gaps(None, None, None) == [GAP]


def test_a_file_that_another_program_holds_makes_opening_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("catalog.sqlite._BUSY_S", 0.05)
    other = sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Transient, match="busy"):
        opened(tmp_path)
    other.close()
    opened(tmp_path)


def test_a_change_that_fails_half_way_is_undone(tmp_path: Path) -> None:
    catalog = opened(tmp_path)

    def change() -> None:
        with catalog.writing() as connection:
            connection.execute(text("INSERT INTO meta VALUES ('half', 1)"))
            raise KeyError("half way")

    with pytest.raises(KeyError, match="half way"):
        change()
    with catalog.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM meta WHERE name = 'half'")).scalar() == 0


@pytest.mark.parametrize(
    "url",
    [
        "",
        "catalog.db",
        "sqlite://",
        "sqlite:///:memory:",
        "mysql://me:secret@far/db",
        "postgresql+psycopg://me:secret@far/db",
        "postgresql://me:secret@far",
        "postgresql://far/db",
        "postgresql://me:secret@far:port/db",
        "me:secret@far/db",
    ],
)
def test_an_address_that_cannot_be_a_catalog_is_refused(url: str) -> None:
    with pytest.raises(Broken, match="catalog") as caught:
        Catalog(url)
    assert "secret" not in str(caught.value)
    assert "postgresql://" in caught.value.todo


@pytest.mark.parametrize("name", ["my data", "100% mine?", "#1 ä@b:c"])
def test_a_folder_may_have_any_name(tmp_path: Path, name: str) -> None:
    opened(tmp_path / name).close()
    assert (tmp_path / name / "catalog.db").is_file()


def test_nothing_touches_the_disk_before_it_is_opened(tmp_path: Path) -> None:
    Catalog(url_of(tmp_path)).close()
    assert list(tmp_path.iterdir()) == []


_DIES_WHILE_WRITING = """
import os, signal, sys
from sqlalchemy import text
from catalog.store import Catalog
catalog = Catalog(sys.argv[1])
with catalog.writing() as connection:
    connection.execute(text("INSERT INTO meta VALUES ('half', 1)"))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_dies_while_it_writes_leaves_nothing_half_done_and_holds_up_nobody(tmp_path: Path) -> None:
    catalog = opened(tmp_path)
    Coverage(catalog).declare([GAP])
    died = subprocess.run([sys.executable, "-c", _DIES_WHILE_WRITING, url_of(tmp_path)], cwd=ROOT, check=False)
    assert died.returncode == -signal.SIGKILL
    Coverage(catalog).declare([replace(GAP, end_ms=3000)])
    assert Coverage(catalog).gaps(None, None, None) == [replace(GAP, end_ms=3000)]
    with catalog.reading() as connection:
        assert connection.execute(text("SELECT count(*) FROM meta WHERE name = 'half'")).scalar() == 0


def test_only_its_owner_may_read_the_file_because_addresses_of_cameras_hold_passwords(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").touch(0o644)
    Coverage(opened(tmp_path)).declare([GAP])
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.glob("catalog.db*")} == {0o600}
