"""What is made from the .proto files is committed as `make proto` writes it, and what is published stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet

from tests.tools.make_stubs import CLIENT, SOURCES, make, make_client
from tests.tools.published import PUBLISHED, broken, described, lines_of


@pytest.mark.parametrize(("made", "kept"), [(make, SOURCES), (make_client, CLIENT)], ids=["server", "client"])
def test_the_committed_stubs_are_what_make_proto_writes_byte_for_byte(
    made: Callable[[Path], None], kept: Path, tmp_path: Path
) -> None:
    made(tmp_path)
    fresh = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    committed = {path.name: path.read_bytes() for path in kept.glob("*_pb2*")}
    assert fresh.keys() == committed.keys()
    assert [name for name in fresh if fresh[name] != committed[name]] == []


@pytest.fixture(scope="module")
def files() -> FileDescriptorSet:
    return described(SOURCES)


def test_what_is_published_stays_and_what_is_new_is_recorded(files: FileDescriptorSet) -> None:
    published = PUBLISHED.read_text().splitlines()
    assert broken(published, files) == [], "reserve the number of a field that goes, and give another its own"
    assert published == lines_of(files), "`make proto` records what is new"


def changed(files: FileDescriptorSet) -> tuple[FileDescriptorSet, FieldDescriptorProto]:
    """A copy, and its SearchRequest.limit."""
    copy = FileDescriptorSet.FromString(files.SerializeToString())
    fields = [one for file in copy.file for message in file.message_type for one in message.field]
    return copy, next(one for one in fields if one.name == "limit")


LIMIT = "watchword.v1.SearchRequest#7 optional uint32 limit"


def test_another_name_number_or_type_breaks_what_is_published(files: FileDescriptorSet) -> None:
    for name, value in {"name": "most", "number": 99, "type": FieldDescriptorProto.TYPE_INT64}.items():
        copy, field = changed(files)
        setattr(field, name, value)
        assert broken(lines_of(files), copy) == [LIMIT]


def test_a_field_may_go_when_its_number_is_reserved(files: FileDescriptorSet) -> None:
    copy, field = changed(files)
    message = next(one for file in copy.file for one in file.message_type if field in one.field)
    message.field.remove(field)
    assert broken(lines_of(files), copy) == [LIMIT]
    message.reserved_range.add(start=7, end=8)
    assert broken(lines_of(files), copy) == []
