from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from catalog.media import Thumbnails
from proto.errors import Broken, Invalid, Unknown
from proto.types import MOST_REGIONS

ID = "0123456789abcdef" * 2


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A stand-in for a full disk that also stops root: writing past `size` fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_picture_is_given_back_as_it_was_put(tmp_path: Path) -> None:
    thumbnails = Thumbnails(tmp_path / "pictures")
    thumbnails.put(ID, b"first")
    thumbnails.put(ID, b"second")
    assert thumbnails.get(ID) == b"second"
    assert len(files_in(tmp_path)) == 1


def test_a_moment_without_a_picture_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(Unknown, match="no picture"):
        Thumbnails(tmp_path).get(ID)


def test_the_picture_of_an_instant_lies_beside_that_of_the_moment(tmp_path: Path) -> None:
    thumbnails = Thumbnails(tmp_path)
    thumbnails.put(ID, b"moment")
    thumbnails.put(ID, b"first", at_ms=7)
    thumbnails.put(ID, b"again", at_ms=7)
    thumbnails.put(ID, b"later", at_ms=2**53)
    assert [thumbnails.get(ID), thumbnails.get(ID, 7), thumbnails.get(ID, 2**53)] == [b"moment", b"again", b"later"]


@pytest.mark.parametrize("at_ms", [0, 6, 8])
def test_for_an_instant_without_a_picture_that_of_the_moment_is_given(tmp_path: Path, at_ms: int) -> None:
    thumbnails = Thumbnails(tmp_path)
    thumbnails.put(ID, b"moment")
    thumbnails.put(ID, b"first", at_ms=7)
    assert thumbnails.get(ID, at_ms) == b"moment"


def test_a_moment_without_any_picture_is_unknown_at_every_instant(tmp_path: Path) -> None:
    with pytest.raises(Unknown, match="no picture"):
        Thumbnails(tmp_path).get(ID, 7)


def test_a_moment_has_no_more_pictures_than_regions_beside_its_own(tmp_path: Path) -> None:
    thumbnails = Thumbnails(tmp_path)
    thumbnails.put(ID, b"moment")
    for at_ms in range(100, 80, -1):
        thumbnails.put(ID, str(at_ms).encode(), at_ms)
        assert thumbnails.get(ID, at_ms) == str(at_ms).encode()
    assert len(files_in(tmp_path)) == 1 + MOST_REGIONS


def test_pictures_of_regions_that_a_moment_no_longer_has_are_removed(tmp_path: Path) -> None:
    thumbnails = Thumbnails(tmp_path)
    thumbnails.keep(ID, [1])
    thumbnails.put(ID, b"moment")
    for at_ms in (1, 2, 3):
        thumbnails.put(ID, b"region", at_ms)
    thumbnails.keep(ID, [2, 9])
    assert [thumbnails.get(ID, at_ms) for at_ms in (1, 2, 3)] == [b"moment", b"region", b"moment"]
    assert len(files_in(tmp_path)) == 2


@pytest.mark.parametrize("at_ms", [-1, 2**63])
def test_a_picture_is_not_stored_under_what_is_no_time(tmp_path: Path, at_ms: int) -> None:
    with pytest.raises(Invalid, match="not a time"):
        Thumbnails(tmp_path).put(ID, b"x", at_ms)


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "/etc/passwd", ID + "\0", ID.upper()])
def test_an_id_never_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    thumbnails = Thumbnails(tmp_path)
    with pytest.raises(Invalid):
        thumbnails.get(name)
    with pytest.raises(Invalid):
        thumbnails.put(name, b"x")


def test_a_folder_that_cannot_be_made_is_broken_in_a_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(Broken, match=r"cannot write .*taken"):
        Thumbnails(tmp_path / "taken").put(ID, b"x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_the_right_to_write_is_broken(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(Broken, match="right"):
        Thumbnails(tmp_path / "pictures").put(ID, b"x")


def test_a_disk_that_takes_no_more_is_broken_and_keeps_the_picture_before(tmp_path: Path) -> None:
    thumbnails = Thumbnails(tmp_path)
    thumbnails.put(ID, b"whole")
    with files_of_at_most(4096), pytest.raises(Broken, match="cannot write"):
        thumbnails.put(ID, b"x" * 100_000)
    assert thumbnails.get(ID) == b"whole"
    assert len(files_in(tmp_path)) == 1
