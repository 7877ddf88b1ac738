"""Checks an ONNX file for weights in other files, before an engine opens it.

An external weight names a path, which could lead out of the model's folder. Only the fields on the way to a tensor are
described here, so running a bundle does not need the `onnx` package.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

_MESSAGE = descriptor_pb2.FieldDescriptorProto.TYPE_MESSAGE
_INT32 = descriptor_pb2.FieldDescriptorProto.TYPE_INT32
_MANY = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
_PACKAGE = "watchword.onnx_view"

# The field numbers of onnx.proto.
_FIELDS: dict[str, dict[str, tuple[int, str]]] = {
    "Model": {"graph": (7, "Graph"), "training": (20, "Training"), "functions": (25, "Function")},
    "Training": {"initialization": (1, "Graph"), "algorithm": (2, "Graph")},
    "Function": {"nodes": (7, "Node"), "attributes": (11, "Attribute")},
    "Graph": {"nodes": (1, "Node"), "tensors": (5, "Tensor"), "sparse": (15, "Sparse")},
    "Sparse": {"values": (1, "Tensor"), "indices": (2, "Tensor")},
    "Node": {"attributes": (5, "Attribute")},
    "Attribute": {
        "tensor": (5, "Tensor"),
        "graph": (6, "Graph"),
        "tensors": (10, "Tensor"),
        "graphs": (11, "Graph"),
        "sparse": (22, "Sparse"),
        "sparses": (23, "Sparse"),
    },
    "Tensor": {"external": (13, "Entry"), "location": (14, "")},
    "Entry": {},
}


def _view() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto2")
    for message, fields in _FIELDS.items():
        described = file.message_type.add(name=message)
        for name, (number, kind) in fields.items():
            # Singular fields are read as repeated, which the wire allows, so that a second occurrence is checked too.
            field = described.field.add(name=name, number=number, label=_MANY)
            field.type = _MESSAGE if kind else _INT32
            if kind:
                field.type_name = f".{_PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Model"))


_Model = _view()


def outside_weights(model: bytes) -> bool:
    """Whether any tensor of the model lies in another file. ValueError when this is not an ONNX model."""
    try:
        return _reaches_out(_Model.FromString(model))
    except DecodeError as error:
        raise ValueError("not an ONNX model") from error


def _reaches_out(message: Any) -> bool:
    if message.DESCRIPTOR.name == "Tensor":
        return bool(len(message.external) or any(message.location))
    return any(
        _reaches_out(part) for field, parts in message.ListFields() if field.message_type is not None for part in parts
    )
