from __future__ import annotations

import pytest

from watchword.stack import ready

pytestmark = pytest.mark.stack


async def test_the_embedded_broker_answers(broker: str) -> None:
    await ready.broker(broker)


async def test_the_embedded_milvus_answers(milvus: str) -> None:
    await ready.milvus(milvus)


async def test_the_embedded_redis_answers(redis_url: str) -> None:
    await ready.redis(redis_url)
