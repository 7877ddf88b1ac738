"""An index in a folder as the front door uses it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from index.settings import MilvusSettings
from proto.errors import Poison, Transient
from proto.types import Vector
from query.bank import texts_of_the_bank
from tests.contracts.moments import unit
from watchword.doctor_cluster import look_at_milvus
from watchword.questions import everyday_questions
from watchword.settings import Settings
from watchword.stack import ready


class Reader:
    """Reads every text but those that begin with these letters."""

    def __init__(self, unreadable: str) -> None:
        self._unreadable = unreadable

    async def embed_texts(self, texts: Sequence[str]) -> list[Vector | Poison]:
        return [
            Poison("text_invalid", "unreadable") if text[0] in self._unreadable else unit(len(text)) for text in texts
        ]


async def test_everyday_questions_are_those_that_the_bundle_can_read() -> None:
    texts = texts_of_the_bank()
    first = texts[0][0]
    readable = [text for text in texts if text[0] != first]
    found = await everyday_questions(cast(Any, Reader(first)))
    np.testing.assert_array_equal(found, np.stack([unit(len(text)) for text in readable]))
    with pytest.raises(Transient, match="none of the texts"):
        await everyday_questions(cast(Any, Reader("".join({text[0] for text in texts}))))


async def test_a_folder_is_ready_and_told_by_doctor(tmp_path: Path) -> None:
    endpoint = f"faiss:{tmp_path / 'new' / 'index'}"
    settings = MilvusSettings(endpoints=(endpoint,))
    await ready.shards(settings)
    assert (tmp_path / "new" / "index").is_dir()
    assert await look_at_milvus(endpoint, Settings(milvus=settings)) == "no moments"
