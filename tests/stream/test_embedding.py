from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from index.memory import MemoryStore
from proto.errors import Broken, Invalid, Late, Mismatch, Overloaded, Poison, Transient, WatchwordError
from proto.retry import Backoff
from proto.types import Vector
from stream.embedding import Embedding
from stream.frames import Unit
from stream.patience import Patience
from tests.stream.rig import SPACE, SceneEncoder, vector


class Fragile(SceneEncoder):
    """Fails as `fails` says of the pictures it is asked for."""

    def __init__(self, fails: Callable[[Sequence[bytes]], Exception | None]) -> None:
        super().__init__()
        self._fails = fails
        self.asked: list[list[bytes]] = []

    async def embed_images(self, images: Sequence[bytes]) -> list[Vector | Poison]:
        self.asked.append(list(images))
        if error := self._fails(images):
            raise error
        return await super().embed_images(images)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.patience._PAUSES", Backoff(1e-4, 1e-3))


def embedding(encoder: SceneEncoder, tries: int = 3) -> Embedding:
    return Embedding(encoder, MemoryStore(SPACE), Patience(), tries)


def kinds(found: Sequence[Unit | Poison]) -> list[str]:
    return [one.reason if isinstance(one, Poison) else "vector" for one in found]


@pytest.mark.parametrize("error", [Transient("x"), Late("x"), Broken("x")])
async def test_a_picture_that_breaks_the_encoder_again_and_again_is_poison_and_the_others_are_not(
    error: WatchwordError,
) -> None:
    encoder = Fragile(lambda images: error if b"66" in images else None)
    at = embedding(encoder)
    assert kinds(await at.vectors([b"1"])) == ["vector"]
    assert kinds(await at.vectors([b"1", b"2", b"66", b"3"])) == ["vector", "vector", "refused", "vector"]


async def test_an_encoder_that_takes_nothing_is_waited_for_and_nobody_is_blamed() -> None:
    trouble = [Broken("ill")] * 20
    encoder = Fragile(lambda images: trouble.pop() if trouble and len(encoder.asked) > 1 else None)
    at = embedding(encoder)
    assert kinds(await at.vectors([b"1"])) == ["vector"]
    assert kinds(await at.vectors([b"2", b"3"])) == ["vector", "vector"]
    assert trouble == []


async def test_before_any_picture_was_taken_nobody_is_blamed() -> None:
    trouble = [Broken("ill")] * 20
    at = embedding(Fragile(lambda images: trouble.pop() if trouble else None))
    assert kinds(await at.vectors([b"2", b"3"])) == ["vector", "vector"]


async def test_a_full_encoder_blames_nobody() -> None:
    trouble = [Overloaded("full")] * 20
    encoder = Fragile(lambda images: trouble.pop() if trouble and b"5" in images else None)
    at = embedding(encoder)
    await at.vectors([b"1"])
    assert kinds(await at.vectors([b"5"])) == ["vector"]
    assert [b"1"] not in encoder.asked[1:]


async def test_of_a_request_that_is_refused_whole_only_the_guilty_picture_is_given_up() -> None:
    at = embedding(Fragile(lambda images: Invalid("no") if b"66" in images else None))
    assert kinds(await at.vectors([b"1", b"66", b"2"])) == ["vector", "refused", "vector"]


async def test_a_picture_over_the_encoders_limit_is_not_even_sent() -> None:
    encoder = Fragile(lambda images: None)
    found = await embedding(encoder).vectors([b"1", b"2" * (1 << 21)])
    assert kinds(found) == ["vector", "too_large"]
    assert encoder.asked == [[b"1"]]


async def test_another_space_is_never_waited_for() -> None:
    with pytest.raises(Mismatch):
        await embedding(Fragile(lambda images: Mismatch("other"))).vectors([b"1"])


class Odd(SceneEncoder):
    def __init__(self, answer: Vector) -> None:
        super().__init__()
        self._answer = answer

    async def embed_images(self, images: Sequence[bytes]) -> list[Vector | Poison]:
        return [self._answer for _ in images]


@pytest.mark.parametrize("bad", [np.zeros(8, np.float32), np.full(8, np.nan, np.float32)])
async def test_a_vector_without_direction_is_poison(bad: Vector) -> None:
    assert kinds(await embedding(Odd(bad)).vectors([b"1"])) == ["bad_vector"]


async def test_a_vector_is_brought_to_unit_length_and_one_of_another_size_ends_the_work() -> None:
    (found,) = await embedding(Odd(3 * vector(1))).vectors([b"1"])
    assert isinstance(found, np.ndarray)
    assert found == pytest.approx(vector(1))
    with pytest.raises(Mismatch, match="shape"):
        await embedding(Odd(np.ones(4, np.float32))).vectors([b"1"])
