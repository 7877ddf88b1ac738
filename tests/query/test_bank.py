"""The bank of texts: embedded once, in the background, however the encoder fares."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from proto.access import EVERYTHING, Scope
from proto.errors import Mismatch, Poison, Transient
from proto.types import SpaceInfo, Vector
from query.bank import Bank, texts_of_the_bank
from query.cache import VectorCache
from query.settings import RedisSettings
from tests.contracts.moments import SPACE
from tests.query.fakes import WordEncoder, vector_of


class Kept(VectorCache):
    """A cache in memory."""

    def __init__(self) -> None:
        super().__init__(RedisSettings())
        self.kept: dict[str, Vector] = {}

    async def get(self, space: SpaceInfo, text: str, scope: Scope = EVERYTHING) -> Vector | None:
        return self.kept.get(text)

    async def put(self, space: SpaceInfo, text: str, vector: Vector, scope: Scope = EVERYTHING) -> None:
        self.kept[text] = vector


def a_bank(encoder: WordEncoder, cache: VectorCache | None = None, kinds: Sequence[str] = ()) -> Bank:
    texts = ["a red truck", "a dog", "rain", "poison"]
    return Bank(encoder, cache or Kept(), SPACE, texts=texts, kinds=kinds)


def test_the_projects_bank_holds_some_hundred_different_texts() -> None:
    texts = texts_of_the_bank()
    assert len(texts) == len(set(texts)) >= 300
    assert all(text == " ".join(text.split()) and len(text) < 60 for text in texts)


async def test_every_text_and_kind_gets_its_vector_but_those_that_cannot_be_read() -> None:
    bank = a_bank(WordEncoder(), kinds=["truck", "dog"])
    assert bank.words is None
    await bank.fill()
    assert bank.words is not None
    assert len(bank.words.bank) == 3
    assert list(bank.words.kinds) == ["truck", "dog"]
    assert (bank.words.kinds["dog"] == vector_of("dog")).all()


async def test_what_is_in_the_cache_is_not_embedded_again() -> None:
    cache = Kept()
    await a_bank(WordEncoder(), cache).fill()
    second = WordEncoder()
    bank = a_bank(second, cache)
    await bank.fill()
    assert second.asked == ["poison"]
    assert bank.words is not None


async def test_an_encoder_that_is_away_is_asked_until_it_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, failures = WordEncoder(), 3
    naps: list[float] = []

    async def away() -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise Transient("the encoder does not answer")

    async def nap(seconds: float) -> None:
        naps.append(seconds)

    encoder.before = away
    monkeypatch.setattr("query.bank.asyncio.sleep", nap)
    bank = a_bank(encoder)
    await bank.fill()
    assert bank.words is not None
    assert len(naps) == 3


async def test_an_encoder_of_another_space_ends_it_without_a_bank() -> None:
    encoder = WordEncoder()

    async def other() -> None:
        raise Mismatch("the encoder gives vectors of another space")

    encoder.before = other
    bank = a_bank(encoder)
    await asyncio.wait_for(bank.fill(), 5)
    assert bank.words is None


async def test_texts_that_can_all_not_be_read_make_no_bank() -> None:
    bank = Bank(WordEncoder(), Kept(), SPACE, texts=["poison"])
    await bank.fill()
    assert bank.words is None
    assert isinstance((await WordEncoder().embed_texts(["poison"]))[0], Poison)
