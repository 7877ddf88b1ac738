"""A YAML file whose every value knows its line, so that what is wrong can be said with where it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from proto.errors import Invalid

_MOST_BYTES = 4_000_000
_REPAIR = "repair that line; nothing of the file was taken"


_NAME = re.compile(r"[\w .-]{1,64}")


def shown_name(name: str) -> str:
    """A name as it may be shown: in a damaged file a part of an address, with its password, may stand in its place."""
    return repr(name) if _NAME.fullmatch(name) else "a name"


@dataclass(frozen=True)
class Problem:
    """What is wrong in a line, and what to do."""

    line: int
    words: str
    todo: str


@dataclass
class Problems:
    """What was found wrong in one file."""

    found: list[Problem] = field(default_factory=list)

    def add(self, value: Value, words: str, todo: str) -> None:
        """Note what is wrong with this value. Values that may be secrets are not repeated in the words."""
        self.found.append(Problem(value.line, words, todo))


class Value:
    """A value of the file."""

    def __init__(self, node: yaml.Node, line: int | None = None) -> None:
        self._node = node
        self.line = node.start_mark.line + 1 if line is None else line

    @property
    def is_mapping(self) -> bool:
        return isinstance(self._node, yaml.MappingNode)

    @property
    def is_empty(self) -> bool:
        return self.plain() is None

    def items(self, problems: Problems) -> dict[str, Value]:
        """The entries of a mapping, those of merged mappings (`<<`) too. Names that come twice are problems."""
        found: dict[str, Value] = {}
        merged: dict[str, Value] = {}
        if not isinstance(self._node, yaml.MappingNode):
            if not self.is_empty:
                problems.add(self, "names with values are expected here", "write them as `name: value`, indented")
            return found
        for key, node in self._node.value:
            value = Value(node, key.start_mark.line + 1)
            if key.tag == "tag:yaml.org,2002:merge":
                for each in value.each() if isinstance(node, yaml.SequenceNode) else [value]:
                    if each._node is not self._node:
                        merged = {**each.items(problems), **merged}
                continue
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
            if name in found:
                todo = f"it is in line {found[name].line} already: give one of them another name, or take it out"
                problems.add(value, f"{shown_name(name)} is there twice", todo)
            else:
                found[name] = value
        return {**merged, **found}

    def each(self) -> Iterator[Value]:
        """The values of a list; a single value is a list of one."""
        if isinstance(self._node, yaml.SequenceNode):
            yield from (Value(node) for node in self._node.value)
        elif not self.is_empty:
            yield self

    def plain(self) -> Any:
        """A text, number, truth or None; None for what is made of parts."""
        if not isinstance(self._node, yaml.ScalarNode):
            return None
        try:
            return yaml.SafeLoader("").construct_object(self._node)
        except (yaml.YAMLError, ValueError, OverflowError):
            return str(self._node.value)  # such as a date that is none

    def text(self) -> str | None:
        """What is written, or None where it is no single value."""
        return str(self._node.value) if isinstance(self._node, yaml.ScalarNode) and not self.is_empty else None


def read_lines(path: Path) -> Value | None:
    """The file's value, None when it is empty. Invalid when it cannot be read; the line is said, its text is not."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Invalid(f"{path} cannot be read ({error.strerror})", todo="name a file of cameras, in YAML") from None
    if len(data) > _MOST_BYTES:
        raise Invalid(f"{path} has {len(data)} bytes", todo=f"give a file of at most {_MOST_BYTES}")
    try:
        node = yaml.compose(data.decode(), Loader=yaml.SafeLoader)
    except UnicodeDecodeError:
        raise Invalid(f"{path} is no text in UTF-8", todo="give a file of cameras, in YAML") from None
    except yaml.MarkedYAMLError as error:
        # What the parser says of it repeats the line, which may hold a password.
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}" if mark else "somewhere"
        raise Invalid(f"{path} is no YAML in {where}", todo=_REPAIR) from None
    except yaml.YAMLError:
        raise Invalid(f"{path} is no YAML", todo="give a file of cameras, in YAML") from None
    except RecursionError:
        raise Invalid(f"{path} is nested too deeply", todo="give a file of cameras, in YAML") from None
    return None if node is None else Value(node)
