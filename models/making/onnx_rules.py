"""Checks a tower's ONNX file before it may run: valid, self-contained, and made of known operators.

Needs the `onnx` package, which is installed only for making, fetching or verifying bundles.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import onnx
from google.protobuf.message import DecodeError

from models.onnx_file import outside_weights
from proto.errors import Broken

_DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})
"""com.microsoft: ONNX Runtime's operators, used by quantized towers."""


class Problem(NamedTuple):
    """One problem of a tower."""

    kind: Literal["external", "operator", "invalid", "batch"]
    words: str
    """The sentence after the file's name."""


def check_file(path: Path) -> None:
    """Raise Broken with the tower's first problem, if any."""
    for problem in problems_of(path):
        raise Broken(f"{path.parent.name}/{path.name} {problem.words}", todo="get the model from somewhere else")


def problems_of(path: Path) -> Iterator[Problem]:
    """The tower's problems, most dangerous first. Reads only this file."""
    content = path.read_bytes()
    try:
        if outside_weights(content):
            yield Problem("external", "keeps weights in other files")
            return
        model = onnx.load_from_string(content)
    except (ValueError, DecodeError):
        yield Problem("invalid", "is no ONNX model")
        return
    strange = sorted({name for name in _operators(model) if not _known(name)})
    if strange:
        yield Problem("operator", f"uses operators that are not known: {', '.join(strange[:5])}")
    if model.functions:
        yield Problem("operator", "brings operators of its own")
    if not strange and not model.functions:
        try:
            onnx.checker.check_model(content)
        except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
            yield Problem("invalid", f"is not valid ONNX: {str(error).strip().splitlines()[0]}")
    if fixed := [value.name for value in model.graph.input if fixed_batch(value) is not None]:
        yield Problem("batch", f"takes a fixed number of items at once ({', '.join(fixed)})")


def fixed_batch(value: Any) -> int | None:
    """The fixed batch size of an input; None when it is free."""
    dimensions = value.type.tensor_type.shape.dim
    return int(dimensions[0].dim_value) if dimensions and dimensions[0].HasField("dim_value") else None


def _operators(model: Any) -> Iterator[str]:
    yield from _of_graph(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _of_node(node)


def _of_graph(graph: Any) -> Iterator[str]:
    for node in graph.node:
        yield from _of_node(node)


def _of_node(node: Any) -> Iterator[str]:
    yield f"{node.domain}:{node.op_type}"
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from _of_graph(graph)


def _known(name: str) -> bool:
    domain, operator = name.split(":", 1)
    if domain not in _DOMAINS:
        return False
    return domain == "com.microsoft" or bool(onnx.defs.has(operator))
