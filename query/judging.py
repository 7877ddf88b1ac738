"""How sure an answer's hits are: gathers what scores are judged by, and applies the bundle's calibration."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from index.store import Scored
from proto.access import EVERYTHING, Scope
from proto.errors import Invalid
from proto.types import Vector
from query.backgrounds import BackgroundReader
from query.bank import Bank
from query.calibration import BY_CHANCE, DEFAULT, OF_MOMENTS, OF_WORDS, Weights, read_calibration
from query.confidence import Known, features_of
from query.joining import Judged

log = logging.getLogger("watchword.query")

_BACKGROUND_S = 0.05
"""Most time that an answer waits for backgrounds that were never read."""


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """The hits of one answer of the index, judged, in the same order."""

    judged: list[Judged]
    spread: float
    """Two scores that differ by less say the same."""
    threshold: float
    """A hit of at least this confidence counts as found."""


class Judge:
    """Judges hits. It knows what the bundle, the bank and the backgrounds say at the moment."""

    def __init__(self, calibration: str, bank: Bank | None, backgrounds: BackgroundReader | None) -> None:
        """`calibration` is the bundle's JSON. One that cannot be read is told in the log, and the default counts."""
        try:
            self._calibration = read_calibration(calibration)
        except Invalid as error:
            log.warning("%s; hits are judged cautiously until then", error)
            self._calibration = DEFAULT
        self._bank = bank
        self._backgrounds = backgrounds
        self._filling: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Fill the bank of texts, in the background."""
        if self._bank is not None:
            self._filling = asyncio.create_task(self._bank.fill())

    async def stop(self) -> None:
        """End what runs in the background."""
        if self._backgrounds is not None:
            await self._backgrounds.stop()
        if self._filling is not None:
            self._filling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._filling

    async def judge(
        self,
        hits: Sequence[Scored],
        question: Vector,
        moments_searched: int,
        *,
        by_words: bool,
        scope: Scope = EVERYTHING,
    ) -> Verdict:
        """The confidence of each hit. `by_words` is False for a question by a picture or a moment. It depends on no
        camera that may not be seen."""
        words = self._bank.words if self._bank is not None and by_words else None
        if self._backgrounds is None:
            known = Known(words=words)
        else:
            cameras = [hit.span.camera for hit in hits]
            known = await self._backgrounds.known(cameras, words, _BACKGROUND_S, scope)
        features = features_of(hits, question, moments_searched, known, by_words=by_words)
        calibration, calibrated = self._usable(known, by_words)
        sure = calibration.confidence(features.values)
        judged = [
            Judged(hit, float(sure[n]), {name: float(values[n]) for name, values in features.values.items()})
            for n, hit in enumerate(hits)
        ]
        # The bundle's threshold was chosen for its own weights.
        threshold = self._calibration.threshold if calibrated else DEFAULT.threshold
        return Verdict(judged, features.spread, threshold)

    def _usable(self, known: Known, by_words: bool) -> tuple[Weights, bool]:
        """The weights, and whether they are the bundle's: the first of which everything that they weigh is known."""
        ours = self._calibration.texts if by_words else self._calibration.pictures
        default = DEFAULT.texts if by_words else DEFAULT.pictures
        lacks: frozenset[str] = frozenset()
        if known.words is None:
            lacks |= OF_WORDS
        if known.pool is None and not known.cameras:
            lacks |= OF_MOMENTS
        if lacks.isdisjoint(ours.features):
            return ours, ours != default
        return (BY_CHANCE if known.words is None else default), False
