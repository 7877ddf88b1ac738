from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from catalog.audit import NOTHING_BEFORE, Audit, Checked, FolderSink, verify
from proto.errors import Broken, Invalid

MANY = 10**9


def noted(folder: Path, count: int, most_bytes: int = MANY) -> None:
    sink = FolderSink(folder, most_bytes)
    for number in range(count):
        sink.write([{"what": "search", "who": "kim", "number": number}])
    sink.close()


def only(folder: Path, head: str = "") -> Checked:
    (found,) = verify(folder, head)
    return found


def file_of(folder: Path) -> Path:
    return sorted(folder.glob("*.jsonl"))[-1]


def test_lines_are_json_and_each_has_the_hash_of_the_one_before(tmp_path: Path) -> None:
    noted(tmp_path, 3)
    lines = [json.loads(line) for line in file_of(tmp_path).read_text().splitlines()]
    assert [line["n"] for line in lines] == [1, 2, 3]
    assert [line["prev"] for line in lines] == [NOTHING_BEFORE, lines[0]["hash"], lines[1]["hash"]]
    assert only(tmp_path) == Checked("query1", 3, 1, 3, lines[-1]["hash"])
    assert file_of(tmp_path).stat().st_mode & 0o077 == 0


def test_a_restart_goes_on_with_the_chain(tmp_path: Path) -> None:
    noted(tmp_path, 2)
    noted(tmp_path, 2)
    assert (only(tmp_path).lines, only(tmp_path).last) == (4, 4)
    assert len(list(tmp_path.glob("*.jsonl"))) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda lines: [lines[0].replace("kim", "lee"), *lines[1:]], "line 1: it was changed"),
        (lambda lines: [lines[0], *lines[2:]], "it does not follow line 1"),
        (lambda lines: [lines[1], lines[0], *lines[2:]], "lines"),
        (lambda lines: lines[1:], "the lines before 2 are missing"),
        (lambda lines: [*lines[:2], "{}\n", *lines[2:]], "row 3 is no line of an audit"),
        (lambda lines: [lines[0], lines[0], *lines[1:]], "it does not follow line 1"),
    ],
)
def test_what_was_tampered_with_is_told(tmp_path: Path, change: Any, says: str) -> None:
    noted(tmp_path, 4)
    path = file_of(tmp_path)
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))
    assert says in only(tmp_path).trouble


def test_the_head_that_was_noted_elsewhere_tells_of_lines_that_were_cut_off(tmp_path: Path) -> None:
    noted(tmp_path, 3)
    head = only(tmp_path).head
    noted(tmp_path, 1)
    assert only(tmp_path, head).lines == 4
    path = file_of(tmp_path)
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    assert only(tmp_path).trouble == ""
    with pytest.raises(Broken, match="no line has the hash"):
        verify(tmp_path, head)


def test_a_line_that_a_killed_process_left_torn_does_not_count_and_stays(tmp_path: Path) -> None:
    noted(tmp_path, 2)
    path = file_of(tmp_path)
    with path.open("a") as file:
        file.write('{"n":3,"wh')
    noted(tmp_path, 1)
    assert len(list(tmp_path.glob("*.jsonl"))) == 2
    assert (only(tmp_path).lines, only(tmp_path).trouble) == (3, "")
    assert path.read_text().endswith('{"n":3,"wh')


def test_the_oldest_files_go_and_a_line_says_so(tmp_path: Path) -> None:
    noted(tmp_path, 110, most_bytes=16 * 1024)
    found = only(tmp_path)
    assert found.trouble == ""
    assert found.first > 1
    assert sum(path.stat().st_size for path in tmp_path.glob("*.jsonl")) <= 16 * 1024
    sorted(tmp_path.glob("*.jsonl"))[0].unlink()
    assert "are missing" in only(tmp_path).trouble


def test_two_processes_have_a_chain_each(tmp_path: Path) -> None:
    first, second = FolderSink(tmp_path, MANY), FolderSink(tmp_path, MANY)
    for _ in range(2):
        first.write([{"what": "a"}])
        second.write([{"what": "b"}])
    assert [(one.name, one.lines, one.trouble) for one in verify(tmp_path)] == [("query1", 2, ""), ("query2", 2, "")]
    first.close()
    second.close()


def test_a_disk_that_is_full_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = FolderSink(tmp_path, MANY)
    sink.write([{"what": "a"}])
    write = os.pwrite

    def full(file: int, data: bytes, at: int) -> int:
        write(file, data[:10], at)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(Broken, match="free some space"):
        sink.write([{"what": "b"}])
    monkeypatch.undo()
    sink.write([{"what": "b"}])
    sink.close()
    assert (only(tmp_path).lines, only(tmp_path).trouble) == (2, "")


class Stuck:
    """A disk that takes nothing until it is let go."""

    def __init__(self) -> None:
        self.last = (0, NOTHING_BEFORE)
        self.free = threading.Event()
        self.asked = threading.Event()
        self.written: list[Mapping[str, Any]] = []

    def write(self, entries: Sequence[Mapping[str, Any]]) -> None:
        self.asked.set()
        assert self.free.wait(60)
        self.written += entries

    def close(self) -> None:
        return None


def test_a_disk_that_hangs_holds_nobody_up_and_what_was_lost_is_counted_in_the_chain() -> None:
    stuck = Stuck()
    audit = Audit(stuck)
    audit.start()
    assert stuck.asked.wait(60)
    for number in range(10_300):
        audit.note({"what": "search", "number": number})
    stuck.free.set()
    audit.close(60)
    lost = sum(one["count"] for one in stuck.written if one["what"] == "lost")
    kept = sum(one["what"] == "search" for one in stuck.written)
    assert lost >= 300
    assert (lost + kept) - 10_300 in (0, 1)  # the last word may not have found room either
    assert stuck.written[0]["what"] == "begun"


def test_off_is_off() -> None:
    audit = Audit(None)
    audit.start()
    audit.note({"what": "search"})
    audit.close(1)


def test_a_folder_without_an_audit_is_told(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no audit"):
        verify(tmp_path)
