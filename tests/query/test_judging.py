"""Which calibration counts, and that judging needs nothing that may be missing."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest

from index.store import Scored
from proto.errors import Transient
from query.backgrounds import BackgroundReader
from query.bank import Bank
from query.calibration import DEFAULT
from query.judging import Judge
from tests.contracts.moments import NOON, SPACE, unit, until
from tests.query.fakes import WordEncoder
from tests.query.test_backgrounds import Counted, of
from tests.query.test_bank import Kept
from tests.query.test_joining import span

QUESTION = unit(1)
HITS = [Scored(span("gate", NOON + n * 60_000), 0.9 - n / 10, vector=unit(n)) for n in range(3)]


def calibration(*features: str) -> str:
    """One under which everything is sure."""
    weights = [0.0] * len(features)
    return json.dumps({"version": 1, "features": features, "weights": weights, "bias": 9.0, "threshold": 0.7})


def bank() -> Bank:
    return Bank(WordEncoder(), Kept(), SPACE, texts=["a red truck", "a dog", "rain"])


def backgrounds() -> BackgroundReader:
    return BackgroundReader(Counted(of("gate", moments=20)), SPACE)


async def sure(judge: Judge, *, by_words: bool = True) -> list[bool]:
    verdict = await judge.judge(HITS, QUESTION, 1000, by_words=by_words)
    assert [one.scored for one in verdict.judged] == HITS
    return [one.confidence > 0.99 for one in verdict.judged]


async def test_the_bundles_calibration_counts_once_everything_that_it_weighs_is_known() -> None:
    filled = bank()
    judge = Judge(calibration("z_camera", "z_words"), filled, backgrounds())
    assert await sure(judge) == [False] * 3
    await filled.fill()
    assert await sure(judge) == [True] * 3
    assert await sure(Judge(calibration("z_words"), bank(), None)) == [False] * 3
    assert await sure(Judge(calibration("z_camera"), None, None)) == [False] * 3
    assert await sure(Judge(calibration("z_camera"), None, backgrounds())) == [True] * 3
    assert await sure(Judge(calibration("score"), None, None)) == [True] * 3


async def test_the_threshold_is_that_of_the_weights_that_count() -> None:
    filled = bank()
    judge = Judge(calibration("z_words"), filled, None)
    assert (await judge.judge(HITS, QUESTION, 1000, by_words=True)).threshold == DEFAULT.threshold
    assert (await judge.judge(HITS, QUESTION, 1000, by_words=False)).threshold == DEFAULT.threshold
    await filled.fill()
    assert (await judge.judge(HITS, QUESTION, 1000, by_words=True)).threshold == 0.7


async def test_a_question_by_a_picture_has_weights_of_its_own() -> None:
    judge = Judge(calibration("score"), None, None)
    assert await sure(judge, by_words=False) == [False] * 3
    own = json.loads(calibration("score")) | {"pictures": {"features": ["z_pool"], "weights": [0.0], "bias": 9.0}}
    assert await sure(Judge(json.dumps(own), None, backgrounds()), by_words=False) == [True] * 3


async def test_a_calibration_that_cannot_be_used_is_told_once_and_the_default_counts(
    caplog: pytest.LogCaptureFixture,
) -> None:
    judge = Judge("{}", None, backgrounds())
    await sure(judge)
    assert (await judge.judge(HITS, QUESTION, 1000, by_words=True)).threshold == DEFAULT.threshold
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_the_bank_is_filled_beside_the_questions_and_stops_with_the_service() -> None:
    encoder, filled = WordEncoder(), bank()
    judge = Judge("", filled, None)
    judge.start()
    await until(lambda: filled.words is not None)
    await judge.stop()

    async def away() -> None:
        raise Transient("the encoder does not answer")

    encoder.before = away
    waiting = Judge("", Bank(encoder, Kept(), SPACE, texts=["a dog"]), None)
    waiting.start()
    await until(lambda: bool(encoder.asked))
    await waiting.stop()


async def test_no_hits_are_judged_without_a_question_of_anything() -> None:
    nothing: Sequence[Scored] = []
    verdict = await Judge("", bank(), backgrounds()).judge(nothing, QUESTION, 0, by_words=True)
    assert verdict.judged == []
    assert np.isfinite(verdict.spread)
