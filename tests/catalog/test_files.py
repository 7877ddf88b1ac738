from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from catalog import files
from catalog.files import write_whole

ROOT = Path(__file__).resolve().parents[2]
KILLED = """
import os, sys
from pathlib import Path
from catalog import files
Path.replace = lambda *_: os._exit(9)
files.write_whole(Path(sys.argv[1]), b"half", durable=False)
"""


def killed_while_writing(path: Path) -> None:
    child = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=ROOT, check=False)
    assert child.returncode == 9


def test_what_processes_left_that_were_killed_while_writing_is_removed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "facts.json"
    for _ in range(3):
        killed_while_writing(target)
    left = list(tmp_path.iterdir())
    assert len(left) == 3
    for path in left:
        os.utime(path, (time.time() - 3600, time.time() - 3600))
    monkeypatch.setattr(files, "_swept_s", {})
    write_whole(target, b"whole", durable=False)
    assert [path.name for path in tmp_path.iterdir()] == ["facts.json"]
    assert target.read_bytes() == b"whole"


def test_a_file_that_another_process_is_just_writing_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "facts.json"
    killed_while_writing(target)
    monkeypatch.setattr(files, "_swept_s", {})
    write_whole(target, b"whole", durable=False)
    assert len(list(tmp_path.iterdir())) == 2
