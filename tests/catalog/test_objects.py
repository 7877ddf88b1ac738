from __future__ import annotations

import asyncio
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from catalog.objects import FolderObjects, Objects, objects_of
from catalog.settings import MediaSettings
from proto.errors import Broken, Transient, WatchwordError
from tests.tools.s3 import S3, SECRET

CALLS: list[Callable[[Objects], object]] = [
    lambda to: to.put("a/x.jpg", b"x"),
    lambda to: to.get("a/x.jpg"),
    lambda to: to.list("a"),
    lambda to: to.remove(["a/x.jpg"]),
]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A stand-in for a full disk that also stops root: writing past `size` fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def errors_of(objects: Objects) -> list[WatchwordError]:
    found = []
    for call in CALLS:
        with pytest.raises(WatchwordError) as caught:
            call(objects)
        assert SECRET not in str(caught.value)
        assert caught.value.todo
        assert "\n" not in str(caught.value)
        found.append(caught.value)
    return found


def test_what_was_put_is_given_back_whole_and_the_last_one_counts(objects: Objects) -> None:
    data = bytes(range(256)) * 400
    for one in (b"first", b"", data):
        objects.put("ab/x.jpg", one)
        assert objects.get("ab/x.jpg") == one
    assert objects.get("ab/y.jpg") is None
    assert objects.get("ab/x.jpg/z.jpg") is None


def test_a_listing_tells_what_lies_in_the_folder_and_nothing_beside_it(objects: Objects) -> None:
    assert objects.list("ab/x") == []
    for name in ("ab/x/1.jpg", "ab/x/2.jpg", "ab/xy/1.jpg", "ab/x.jpg", "cd/x/3.jpg"):
        objects.put(name, b"x")
    found = objects.list("ab/x")
    assert sorted(one.name for one in found) == ["ab/x/1.jpg", "ab/x/2.jpg"]
    assert all(one.written_ns > 1.7e18 for one in found)


def test_what_is_removed_is_gone_and_what_is_missing_is_passed_over(objects: Objects) -> None:
    for name in ("a/1.jpg", "a/2.jpg", "a/3.jpg"):
        objects.put(name, b"x")
    objects.remove(["a/1.jpg", "a/nothing.jpg", "b/c/d.jpg", "a/3.jpg"])
    objects.remove([])
    assert [one.name for one in objects.list("a")] == ["a/2.jpg"]


def test_one_can_be_copied_into_the_other_name_by_name(s3: S3, tmp_path: Path) -> None:
    bucket = s3.new_bucket()
    objects_of(s3.settings(bucket), tmp_path).put("ab/x.jpg", b"x")
    assert FolderObjects(s3.folder / "buckets" / bucket / "some" / "where").get("ab/x.jpg") == b"x"


def test_without_an_address_there_is_a_folder(tmp_path: Path) -> None:
    objects_of(MediaSettings(), tmp_path / "here").put("a/x.jpg", b"x")
    assert (tmp_path / "here" / "a" / "x.jpg").read_bytes() == b"x"


@pytest.mark.parametrize("url", ["here", "http://bucket/x", "s3://", "s3:///x", "s3://key:secret@bucket", "s3://b?x=y"])
def test_an_address_that_names_no_bucket_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(Broken, match="pictures cannot be kept") as caught:
        objects_of(MediaSettings(url=url), tmp_path)
    assert "secret" not in str(caught.value)


def test_a_server_is_not_spoken_to_without_encryption_unless_that_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(Broken, match="without encryption"):
        objects_of(MediaSettings(url="s3://b", endpoint="http://127.0.0.1:1"), tmp_path)


@pytest.mark.parametrize(("key", "secret"), [("nobody", SECRET), ("somebody", "wrong"), ("", "")])
def test_wrong_credentials_are_told(s3: S3, tmp_path: Path, key: str, secret: str) -> None:
    for error in errors_of(objects_of(s3.settings(s3.new_bucket(), key=key, secret=secret), tmp_path)):
        assert isinstance(error, Broken)
        assert "credentials" in error.message
        assert "media.key" in error.todo


def test_a_bucket_that_is_missing_is_told(s3: S3, tmp_path: Path) -> None:
    for error in errors_of(objects_of(s3.settings("no-such-bucket"), tmp_path)):
        assert isinstance(error, Broken)
        assert "no bucket s3://no-such-bucket/some/where" in error.message


def test_a_server_that_is_away_is_told_and_found_again(s3: S3, tmp_path: Path) -> None:
    own = S3(tmp_path)
    asyncio.run(own.server.start())
    objects = objects_of(own.settings(own.new_bucket()), tmp_path)
    objects.put("a/x.jpg", b"x")
    asyncio.run(own.server.kill())
    for error in errors_of(objects):
        assert isinstance(error, Transient)
        assert "media.endpoint" in error.todo
    asyncio.run(own.server.start())
    assert objects.get("a/x.jpg") == b"x"
    own.server.end()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system")
def test_a_bucket_that_is_full_is_told_and_still_read(s3: S3, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small], check=False)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    own = S3(small)
    try:
        asyncio.run(own.server.start())
        objects = objects_of(own.settings(own.new_bucket()), tmp_path)
        with pytest.raises(Broken, match="is full") as caught:
            for number in range(9):
                objects.put(f"a/{number}.jpg", bytes(300_000))
        assert "free some space" in caught.value.todo
        assert objects.get("a/0.jpg") == bytes(300_000)
    finally:
        own.server.end()
        subprocess.run(["umount", small], check=True)


def test_a_folder_that_cannot_be_made_is_broken_in_a_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(Broken, match=r"cannot write .*taken"):
        FolderObjects(tmp_path / "taken").put("a/x.jpg", b"x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_the_right_to_write_is_broken(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(Broken, match="right"):
        FolderObjects(tmp_path / "pictures").put("a/x.jpg", b"x")


def test_a_disk_that_takes_no_more_is_broken_and_keeps_the_picture_before(tmp_path: Path) -> None:
    objects = FolderObjects(tmp_path)
    objects.put("a/x.jpg", b"whole")
    with files_of_at_most(4096), pytest.raises(Broken, match="cannot write"):
        objects.put("a/x.jpg", b"x" * 100_000)
    assert objects.get("a/x.jpg") == b"whole"
    assert [Path(one.name).name for one in objects.list("a")] == ["x.jpg"]
