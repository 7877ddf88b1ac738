"""What of the API is published: every message, field, value and call of the .proto files, in tests/proto/published.txt.

Clients and stored records rely on numbers, names and types. What is published stays; a field that goes leaves its
number reserved.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)
from grpc_tools import protoc

PUBLISHED = Path(__file__).resolve().parents[1] / "proto/published.txt"


def lines_of(files: FileDescriptorSet) -> list[str]:
    """A line for each thing that must stay. A field's line ends with `reserved` when only its number is left."""
    return sorted(line for file in files.file for line in _of_file(file))


def described(folder: Path) -> FileDescriptorSet:
    """What the .proto files of a folder say."""
    names = sorted(path.name for path in folder.glob("*.proto"))
    with tempfile.NamedTemporaryFile() as written:
        if protoc.main(["protoc", f"-I{folder}", f"--descriptor_set_out={written.name}", *names]):
            raise SystemExit("protoc failed; its message is above")
        return FileDescriptorSet.FromString(Path(written.name).read_bytes())


def broken(published: list[str], files: FileDescriptorSet) -> list[str]:
    """The published lines that no longer hold. A field may have become a reserved number."""
    now = set(lines_of(files))
    return [line for line in published if line not in now and f"{line.partition(' ')[0]} reserved" not in now]


def record(folder: Path) -> None:
    """Add what is new to what is published. SystemExit when something published is changed or gone."""
    published = PUBLISHED.read_text().splitlines() if PUBLISHED.exists() else []
    files = described(folder)
    if lost := broken(published, files):
        raise SystemExit("published, and changed now:\n  " + "\n  ".join(lost) + "\nreserve a field's number instead")
    PUBLISHED.write_text("".join(f"{line}\n" for line in lines_of(files)))


def _of_file(file: FileDescriptorProto) -> Iterator[str]:
    for enum in file.enum_type:
        yield from _of_enum(enum, f"{file.package}.{enum.name}")
    for message in file.message_type:
        yield from _of_message(message, f"{file.package}.{message.name}")
    for service in file.service:
        for call in service.method:
            asked = f"{'stream ' * call.client_streaming}{call.input_type}"
            given = f"{'stream ' * call.server_streaming}{call.output_type}"
            yield f"{file.package}.{service.name}/{call.name} {asked} -> {given}"


def _of_message(message: DescriptorProto, name: str) -> Iterator[str]:
    yield f"{name} message"
    for field in message.field:
        kind = field.type_name or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
        many = "repeated " * (field.label == FieldDescriptorProto.LABEL_REPEATED)
        optional = "optional " * field.proto3_optional
        one_of = f" of {message.oneof_decl[field.oneof_index].name}" if _is_choice(field) else ""
        yield f"{name}#{field.number} {many}{optional}{kind} {field.name}{one_of}"
    for gone in message.reserved_range:
        yield from (f"{name}#{number} reserved" for number in range(gone.start, gone.end))
    for enum in message.enum_type:
        yield from _of_enum(enum, f"{name}.{enum.name}")
    for inner in message.nested_type:
        yield from _of_message(inner, f"{name}.{inner.name}")


def _is_choice(field: FieldDescriptorProto) -> bool:
    return field.HasField("oneof_index") and not field.proto3_optional


def _of_enum(enum: EnumDescriptorProto, name: str) -> Iterator[str]:
    yield from (f"{name}#{value.number} {value.name}" for value in enum.value)
    for gone in enum.reserved_range:
        yield from (f"{name}#{number} reserved" for number in range(gone.start, gone.end + 1))
